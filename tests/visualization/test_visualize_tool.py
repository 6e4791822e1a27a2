"""tools/visualize.py: its modes, the selection of samples, errors."""

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import visualize
from PIL import Image

from fsdbev.d2.config import instantiate
from fsdbev.data.dataset import FrameDataset
from fsdbev.data.index.frame_index import FrameIndex, write_index
from fsdbev.data.index.records import Annotations, Frame
from fsdbev.data.labels.point_labels import PixelPoints, PointLabels, label_path, write_point_labels
from fsdbev.evaluation import boxes_to_submission, write_submission
from fsdbev.inference.model_builder import build_model
from fsdbev.structures import (
    NUSCENES_CLASSES,
    Boxes3D,
    ClassSet,
    Lens,
    make_transform,
    rotation_z,
    transform_points,
)
from fsdbev.visualization import (
    camera_views,
    choose_rows,
    draw_sample,
    labelled_sample,
    past_trajectories,
    rows_of,
    rows_of_scene,
    sample,
    true_boxes,
)

CAM2EGO = make_transform(torch.tensor([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]], dtype=torch.float64))
BOXES = np.array([[10, 0, 0, 4, 2, 1.5, 0, 3, 0], [15, 3, 0, 1, 1, 2, 1, 0, 0]], np.float32)


def frame(number):
    poses = torch.eye(4, dtype=torch.float64).repeat(2, 1, 1)
    poses[:, :3, :3] = rotation_z(torch.tensor(0.3 * number, dtype=torch.float64))
    poses[:, 0, 3] = torch.tensor([100.0 + number, 100.5 + number])
    return Frame(
        sample_token=f"sample{number}",
        scene_token="scene",
        scene_name="scene-1",
        timestamp=500_000 * number,
        previous=number - 1,
        next=number + 1 if number < 3 else -1,
        channels=("CAM_A", "CAM_B"),
        image_paths=("a.png", "b.png"),
        image_sizes=np.array([[160, 90], [160, 90]], np.int32),
        camera_timestamps=np.array([500_000 * number] * 2),
        intrinsics=np.array([[[100.0, 0, 80], [0, 100, 45], [0, 0, 1]]] * 2),
        cam2ego=CAM2EGO.numpy()[None].repeat(2, axis=0),
        ego2global=poses.numpy(),
        reference_camera=1,
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for name, value in (("a.png", 40), ("b.png", 90)):
        Image.new("RGB", (160, 90), (value, 0, 0)).save(folder / name)
    annotations = Annotations.from_boxes(BOXES, np.array([0, 8]), num_lidar_points=np.array([3, 0]))
    annotations = replace(annotations, instance_tokens=("a car", "a person"))
    rows = [(frame(i), annotations) for i in range(4)]
    write_index(folder / "val.arrow", rows, NUSCENES_CLASSES)
    return folder


@pytest.fixture(scope="module")
def index(root):
    return FrameIndex(root / "val.arrow")


@pytest.fixture(scope="module")
def dataset(root, index):
    return FrameDataset("val", index, root)


@pytest.fixture
def results(root, index, tmp_path):
    """Submission of all samples except the second: the true boxes with scores 0.9 and 0.1."""
    path = tmp_path / "results.json"
    boxes = {
        index[row].sample_token: boxes_to_submission(
            index[row].sample_token,
            Boxes3D(torch.tensor(BOXES)),
            torch.tensor([0.9, 0.1]),
            torch.tensor([0, 8]),
            key_ego2global=torch.tensor(index[row].key_ego2global),
            classes=NUSCENES_CLASSES,
        )
        for row in (0, 2, 3)
    }
    write_submission(boxes, path)
    return path


def test_choose_rows(index):
    assert choose_rows(index, 2) == [0, 3]
    assert choose_rows(index, 3) == [0, 1, 3]
    assert choose_rows(index, 9) == [0, 1, 2, 3]
    assert choose_rows(index, 1) == [0]
    with pytest.raises(ValueError, match="at least 1, got 0"):
        choose_rows(index, 0)


def test_rows_of(index):
    assert rows_of(index, ["sample2", "sample0"]) == [2, 0]
    with pytest.raises(ValueError, match=r"no samples \['nope'\]"):
        rows_of(index, ["sample2", "nope"])


def test_camera_views(dataset):
    """The second camera is the reference, its ego pose key ego; the first is 0.5 m behind."""
    first, second = camera_views(dataset, dataset.frame(2))
    assert (first.name, second.name) == ("CAM_A", "CAM_B")
    assert first.image.shape == (90, 160, 3) and first.image[0, 0].tolist() == [40, 0, 0]
    torch.testing.assert_close(second.cam2keyego, CAM2EGO)
    eye = transform_points(torch.zeros(1, 3, dtype=torch.float64), first.cam2keyego)
    back = -0.5 * rotation_z(torch.tensor(-0.6, dtype=torch.float64))[:, 0]
    torch.testing.assert_close(eye[0], back)


def test_true_boxes_are_those_with_points(index):
    truth = true_boxes(index.annotations(0))
    torch.testing.assert_close(truth.boxes.tensor, torch.tensor(BOXES[:1]))
    assert truth.labels.tolist() == [0] and truth.scores is None


def test_truth_pictures(root, dataset, tmp_path, capsys):
    arguments = ["--index", f"{root}/val.arrow", "--dataroot", str(root), "--out", f"{tmp_path}/o"]
    visualize.main(["truth", *arguments, "--samples", "2"])
    names = sorted(path.name for path in (tmp_path / "o").iterdir())
    assert names == ["scene-1_00000_sample0.png", "scene-1_00003_sample3.png"]
    with Image.open(tmp_path / "o" / names[0]) as picture:
        assert np.array_equal(np.asarray(picture), draw_sample(dataset, 0))
    assert capsys.readouterr().out.count("scene-1_") == 2


def test_result_pictures(root, results, tmp_path, capsys):
    arguments = ["--index", f"{root}/val.arrow", "--dataroot", str(root), "--out", f"{tmp_path}/o"]
    arguments += ["--results", str(results)]
    visualize.main(["results", *arguments, "--samples", "sample0", "sample2"])
    assert len(list((tmp_path / "o").iterdir())) == 2
    assert visualize.main(["results", *arguments, "--samples", "sample1"]) == 1
    assert "no sample sample1" in capsys.readouterr().err


def test_predictions_are_the_submitted_boxes(index, results):
    submission = visualize.read_submission(results, NUSCENES_CLASSES)
    shown = visualize.sample_predictions(index[2], submission, 0.2, NUSCENES_CLASSES)
    torch.testing.assert_close(shown.boxes.tensor, torch.tensor(BOXES[:1]), atol=1e-4, rtol=0)
    assert shown.labels.tolist() == [0]
    assert len(visualize.sample_predictions(index[2], submission, 0.05, NUSCENES_CLASSES)) == 2


def test_rows_of_a_scene(index):
    assert rows_of_scene(index, "scene-1") == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="has no scene 'scene-9'; it has scene-1"):
        rows_of_scene(index, "scene-9")


def test_trails_end_at_the_objects(dataset):
    """The objects have the same key ego position in every sample, so they move with the ego, which
    moves by 1 m and turns by 0.3 rad to the left per row."""
    assert past_trajectories(dataset, 0) == []
    ego, *objects = past_trajectories(dataset, 2)
    turn = rotation_z(torch.tensor(-0.6, dtype=torch.float64))[:2, :2].numpy()
    np.testing.assert_allclose(ego, [turn @ (x, 0) for x in (-2, -1, 0)], atol=1e-9)
    assert [len(trail) for trail in objects] == [3, 3]
    np.testing.assert_allclose([trail[-1] for trail in objects], BOXES[:, :2], atol=1e-5)
    assert len(past_trajectories(dataset, 3, samples=1)[0]) == 2


def test_trails_begin_after_a_gap(dataset, tmp_path):
    rows = [(each, dataset.annotations(row)) for row, each in enumerate(dataset.index)]
    for row in (2, 3):
        later = rows[row][0].timestamp + 61_500_000
        rows[row] = (replace(rows[row][0], timestamp=later), rows[row][1])
    write_index(tmp_path / "val.arrow", rows, NUSCENES_CLASSES)
    gapped = replace(dataset, index=FrameIndex(tmp_path / "val.arrow"))
    assert past_trajectories(gapped, 2) == [] and len(past_trajectories(gapped, 3)[0]) == 2


def test_objects_without_identity_have_no_trail(root, tmp_path):
    annotations = Annotations.from_boxes(BOXES, np.array([0, 8]))
    rows = [(frame(i), annotations) for i in range(4)]
    write_index(tmp_path / "val.arrow", rows, NUSCENES_CLASSES)
    dataset = FrameDataset("val", FrameIndex(tmp_path / "val.arrow"), root)
    assert len(past_trajectories(dataset, 3)) == 1, "only the ego's"


def test_scene_video(root, dataset, results, tmp_path, capsys):
    path = tmp_path / "o" / "scene.mp4"
    arguments = ["--index", f"{root}/val.arrow", "--dataroot", str(root), "--out", str(path)]
    assert visualize.main(["scene", *arguments, "--scene", "scene-1", "--fps", "4"]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    with av.open(str(path)) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
        assert video.streams.video[0].average_rate == 4
    assert len(frames) == 4
    picture = draw_sample(dataset, 3, trails=True)
    height, width = frames[3].shape[:2]
    assert np.abs(picture[:height, :width].astype(int) - frames[3]).mean() < 4
    path.unlink()
    with_results = [*arguments, "--scene", "scene-1", "--results", str(results)]
    assert visualize.main(["scene", *with_results]) == 1, "the results lack one of its samples"
    assert "no sample sample1" in capsys.readouterr().err
    assert list(path.parent.iterdir()) == []
    assert visualize.main(["scene", *arguments, "--scene", "other"]) == 1
    assert "no scene 'other'; it has scene-1" in capsys.readouterr().err


def drawn_by(monkeypatch, *arguments):
    """Runs the tool and returns the arguments of its mosaic."""
    drawn, mosaic = {}, sample.mosaic

    def spy(views, **rest):
        drawn.update(rest, views=views)
        return mosaic(views, **rest)

    monkeypatch.setattr(sample, "mosaic", spy)
    assert visualize.main(list(arguments)) == 0
    return drawn


def test_part_of_the_cameras(root, tmp_path, monkeypatch, capsys):
    """One camera of two, with key ego of CAM_B for both; an object behind them is left out."""
    behind = BOXES.copy()
    behind[1, 0] = -15
    rows = [(frame(i), Annotations.from_boxes(behind, [0, 8])) for i in range(4)]
    write_index(tmp_path / "val.arrow", rows, NUSCENES_CLASSES)
    arguments = ["--index", f"{tmp_path}/val.arrow", "--dataroot", str(root)]
    arguments += ["--out", str(tmp_path)]
    arguments = ["truth", *arguments, "--samples", "sample3", "--cameras"]
    for names in (["CAM_B"], ["CAM_A"]):
        drawn = drawn_by(monkeypatch, *arguments, *names)
        assert [view.name for view in drawn["views"]] == names
        assert drawn["truth"].labels.tolist() == [0]
    assert drawn["views"][0].cam2keyego[0, 3] == pytest.approx(-0.5 * np.cos(0.9))
    assert visualize.main([*arguments, "CAM_C"]) == 1
    assert "has no camera 'CAM_C'; its cameras are CAM_A, CAM_B" in capsys.readouterr().err


def test_pictures_of_own_classes(root, tmp_path, monkeypatch):
    """Names, colours and the reach of the BEV view are those of the index' classes."""
    classes = ClassSet(names=["vehicle", "person"], ranges={"vehicle": 80.0, "person": 30.0})
    row = (replace(frame(0), next=-1), Annotations.from_boxes(BOXES, [0, 1]))
    write_index(tmp_path / "own.arrow", [row], classes)
    arguments = ["truth", "--index", f"{tmp_path}/own.arrow", "--dataroot", str(root)]
    arguments += ["--out", str(tmp_path)]
    drawn = drawn_by(monkeypatch, *arguments)
    assert drawn["class_names"] == ("vehicle", "person")
    assert drawn["truth"].labels.tolist() == [0, 1]
    assert drawn["area"].reach == pytest.approx(88)
    assert drawn_by(monkeypatch, *arguments, "--reach", "20")["area"].reach == 20


def test_images_of_a_lens_are_rectified(index, tmp_path):
    image = np.zeros((90, 160, 3), np.uint8)
    image[:, 118:122] = 255
    for name in ("a.png", "b.png"):
        Image.fromarray(image).save(tmp_path / name)
    lens = Lens("fisheye", index[0].intrinsics[0], (0.3, 0.0, 0.0, 0.0))
    row = replace(index[0], lenses=(lens, None), next=-1), index.annotations(0)
    write_index(tmp_path / "val.arrow", [row], NUSCENES_CLASSES)
    dataset = FrameDataset("val", FrameIndex(tmp_path / "val.arrow"), tmp_path)
    rectified, raw = camera_views(dataset, dataset.frame(0))
    columns = [np.flatnonzero(view.image[45, :, 0] > 128).mean() for view in (rectified, raw)]
    # An angle of a is at 100 (a + 0.3 a^3) px from the centre in the raw image, 100 tan(a) without.
    assert columns[1] == 119.5 and np.array_equal(raw.image, image)
    angle = np.roots([0.3, 0, 1, -0.4])[-1].real
    assert columns[0] + 0.5 == pytest.approx(80 + 100 * np.tan(angle), abs=0.7)


def test_results_belong_to_their_mode(capsys):
    arguments = ["--index", "i", "--dataroot", "d", "--out", "o"]
    with pytest.raises(SystemExit):
        visualize.main(["results", *arguments])
    assert "required: --results" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        visualize.main(["truth", *arguments, "--results", "r"])
    assert "unrecognized arguments: --results" in capsys.readouterr().err


CONFIG = Path(__file__).resolve().parents[2] / "configs" / "fsdbev_tiny_synthetic.py"


@pytest.fixture(scope="module")
def prepared(root):
    """Arguments of mode "data" for a prepared split; samples 1 to 3 have point labels."""
    one = np.ones(1, np.float32)
    points = PixelPoints(80 * one, 45 * one, 10 * one, np.zeros(1, np.int8))
    labels = PointLabels(points, *[PixelPoints.empty()] * 3)
    for number in (1, 2, 3):
        path = label_path(root / "point_labels", f"sample{number}")
        options = {"source": "", "classes": NUSCENES_CLASSES, "statistics": ""}
        write_point_labels(path, [labels] * 2, frame(number), **options)
    folders = [f"dataloader.dataroot={root}", f"dataloader.index_dir={root}"]
    return ["--config-file", str(CONFIG), *folders, "dataloader.test_split=val"]


def test_data_pictures(prepared, tmp_path, capsys):
    arguments = ["data", "--out", f"{tmp_path}/o", "--split", "test", "--augmented", "3"]
    assert visualize.main([*arguments, "--samples", "sample2", *prepared]) == 0
    names = ["scene-1_00002_sample2_augmented3.png", "scene-1_00002_sample2_stored.png"]
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == names
    assert [Path(line).name for line in capsys.readouterr().out.split()] == names[::-1]
    pictures = [np.asarray(Image.open(tmp_path / "o" / name)) for name in names]
    assert [picture.shape[1] for picture in pictures] == [1980, 1980]
    # Images are 160 x 90 as stored and 304 x 112 as input of the network.
    assert pictures[0].shape[0] < pictures[1].shape[0]


def test_data_errors(prepared, tmp_path, capsys):
    def error_of(*arguments):
        assert visualize.main(["data", "--out", str(tmp_path), "--split", "test", *arguments]) == 1
        return capsys.readouterr().err

    assert "no samples ['nope']; one that it has is sample0" in error_of(
        "--samples", "nope", *prepared
    )
    missing = error_of("--samples", "sample0", *prepared)
    assert "sample0.arrow: no such point-labels file; run tools/prepare_nuscenes.py" in missing
    assert "unknown key 'dataloader.nope'" in error_of(*prepared, "dataloader.nope=1")
    assert "make it with: python tools/prepare_nuscenes.py" in error_of(
        *prepared, "dataloader.test_split=other"
    )
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def small(prepared, tmp_path_factory):
    """Arguments of mode "diagnostics" for a small model with weights."""
    overrides = ["model.grid.cell=7.0", "model.depth_bins.step=4.0", "train.device=cpu"]
    overrides += ["dataloader.image_size=[32,64]"]
    weights = tmp_path_factory.mktemp("weights") / "model.pth"
    torch.manual_seed(0)
    model = build_model(visualize.load_config(str(CONFIG), overrides))
    torch.save({"model": model.state_dict()}, weights)
    return [*prepared, "--weights", str(weights), *overrides]


def test_diagnostics_pictures(small, tmp_path, capsys):
    arguments = ["diagnostics", "--out", f"{tmp_path}/o", "--samples", "sample0", "sample2"]
    assert visualize.main([*arguments, *small]) == 0, capsys.readouterr().err
    names = ["scene-1_00000_sample0_diagnostics.png", "scene-1_00002_sample2_diagnostics.png"]
    paths = capsys.readouterr().out.split()
    assert [Path(path).name for path in paths] == names
    shapes = [np.asarray(Image.open(path)).shape for path in paths]
    # Without labels, sample 0 has no teacher and larger BEV maps.
    assert shapes[0][0] > shapes[1][0] and shapes[0][1] == shapes[1][1] == 1980


def test_diagnostics_need_weights(prepared, tmp_path, capsys):
    assert visualize.main(["diagnostics", "--out", str(tmp_path), *prepared]) == 1
    assert "give --weights FILE" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_sample_has_labels_if_all_its_frames_have_them(prepared):
    options = {name: value for name, value in [text.split("=") for text in prepared[2:]]}
    cfg = visualize.load_config(str(CONFIG), [f"{name}={value}" for name, value in options.items()])
    dataset = instantiate(cfg.dataloader.test.dataset)
    mapper = instantiate(cfg.dataloader.test.mapper)
    for row, labelled in ((0, False), (1, False), (2, True)):
        found = labelled_sample(dataset, row, mapper)
        assert ("gt_depth" in found) == labelled and len(found["instances"]) == 1
    assert not (mapper.with_boxes or mapper.with_labels)
    assert "gt_depth" not in labelled_sample(replace(dataset, label_dir=None), 2, mapper)


def test_overrides_may_follow_the_samples():
    arguments = ["data", "--out", "o", "--config-file", "c"]
    for order in (["a=1", "--samples", "x", "y"], ["--samples", "x", "y", "a=1"]):
        args = visualize.parse_arguments([*arguments, *order])
        assert args.samples == ["x", "y"] and args.overrides == ["a=1"]
    args = visualize.parse_arguments([*arguments, "a=1"])
    assert args.samples == ["6"] and args.overrides == ["a=1"] and args.augmented is None
