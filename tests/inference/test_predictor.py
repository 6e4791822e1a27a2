"""The predictor gives the results of an evaluation, on the synthetic set and on other rigs."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from PIL import Image
from stream_cases import randomize_statistics

from fsdbev import Predictor, get_config
from fsdbev.config import load_config
from fsdbev.d2.config import instantiate
from fsdbev.data.dataset import FrameDataset
from fsdbev.data.index.frame_index import FrameIndex, write_index
from fsdbev.data.index.records import Annotations
from fsdbev.data.io.image_file import read_image
from fsdbev.data.io.rig_file import rig_of_frame, write_rig
from fsdbev.data.mapper import MultiViewMapper
from fsdbev.structures import Rig

CONFIG = "fsdbev_tiny_synthetic.py"
OVERRIDES = ("dataloader.image_size=[64,112]", "train.device=cpu", "model.head.score_threshold=0.0")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weight file of a model with random weights and BatchNorm statistics."""
    torch.manual_seed(3)
    model = randomize_statistics(instantiate(get_config(CONFIG).model))
    path = tmp_path_factory.mktemp("weights") / "model.pth"
    torch.save({"model": model.state_dict()}, path)
    return path


def make(weights, *overrides):
    return Predictor(get_config(CONFIG), weights, overrides=[*OVERRIDES, *overrides])


@pytest.fixture(scope="module")
def predictor(weights):
    return make(weights)


@pytest.fixture(autouse=True)
def new_drive(predictor):
    predictor.reset()


@pytest.fixture(scope="module")
def index(synthetic_root):
    return FrameIndex(synthetic_root / "fsdbev" / "v1.0-synth" / "synth_val.arrow")


@pytest.fixture(scope="module")
def mapped(index, synthetic_root, predictor):
    """The samples of an evaluation."""
    cfg = get_config(CONFIG)
    dataset = FrameDataset("synthetic", index, synthetic_root)
    mapper = MultiViewMapper(
        image_aug=predictor._image_aug,
        bev_aug=None,
        grid=predictor.model.grid,
        training=False,
        num_frames=cfg.model.num_frames,
    )
    return [mapper(dataset, row) for row in range(len(index))]


@dataclass(frozen=True)
class RecordedFrame:
    images: list
    rig: Rig
    pose: np.ndarray


@pytest.fixture(scope="module")
def frames(index, synthetic_root):
    """Inputs of the predictor for each frame."""
    frames = [index[row] for row in range(len(index))]
    return [
        RecordedFrame([synthetic_root / p for p in f.image_paths], rig_of_frame(f), f.ego2global)
        for f in frames
    ]


def same(a, b):
    return (
        torch.equal(a.boxes.tensor, b.boxes.tensor)
        and torch.equal(a.scores, b.scores)
        and torch.equal(a.labels, b.labels)
    )


def test_detections_equal_those_of_an_evaluation(predictor, frames, mapped):
    assert len(mapped) == 3 and mapped[1]["frame_tokens"][0] != mapped[1]["frame_tokens"][1]
    for frame, sample in zip(frames, mapped, strict=True):
        found = predictor(frame.images, frame.rig, ego2global=frame.pose)
        with torch.no_grad():
            expected = predictor.model([sample])[0]["instances"]
        assert len(found) == len(expected) > 10
        assert torch.allclose(found.scores, expected.scores, atol=1e-6)
        assert torch.allclose(found.boxes.tensor, expected.pred_boxes_3d.tensor, atol=1e-4)
        assert torch.equal(found.labels, expected.pred_classes)


def test_samples_equal_those_of_the_mapper(predictor, frames, mapped):
    for frame, expected in zip(frames, mapped, strict=True):
        sample = predictor.sample(frame.images, frame.rig, ego2global=frame.pose)
        assert set(sample) == set(expected)
        for key in ("images", "cam2ego", "ego2global", "intrinsics", "image_aug", "bev_aug"):
            assert torch.equal(sample[key], expected[key]), key
        assert torch.equal(sample["key_ego2global"], expected["key_ego2global"])


def test_a_call_without_pose_or_a_reset_starts_a_new_drive(predictor, frames):
    first, second, rig = frames[0].images, frames[1].images, frames[0].rig
    single = predictor(second, rig)
    predictor(first, rig, ego2global=np.eye(4))
    assert not same(predictor(second, rig, ego2global=np.eye(4)), single)
    assert same(predictor(second, rig), single)  # ends the drive
    assert same(predictor(second, rig, ego2global=np.eye(4)), single)
    predictor(first, rig, ego2global=np.eye(4))
    predictor.reset()
    assert same(predictor(second, rig, ego2global=np.eye(4)), single)


def test_the_previous_frame_is_frame_spacing_calls_earlier(weights, frames):
    spaced = make(weights, "dataloader.frame_spacing=2")
    samples = [spaced.sample(m.images, m.rig, ego2global=np.eye(4)) for m in frames]
    assert [s["frame_tokens"] for s in samples] == [["0", "0"], ["1", "1"], ["2", "0"]]
    assert torch.equal(samples[2]["images"][1], samples[0]["images"][0])


@pytest.fixture(scope="module")
def recording(index, synthetic_root, tmp_path_factory):
    """A data set of one scene of 16 samples at about 10 Hz, without 0.8 to 1.5 s, whose images are
    those of the synthetic set."""
    seconds = [t for t in np.round(0.1 * np.arange(24), 6) if not 0.75 < t < 1.55]
    seconds = [t + 0.03 * (-1) ** row for row, t in enumerate(seconds)]
    rows = []
    for row, time in enumerate(seconds):
        links = {"previous": row - 1, "next": row + 1 if row + 1 < len(seconds) else -1}
        stamp = {"sample_token": f"r{row}", "scene_token": "r", "timestamp": round(1e6 * time)}
        moved = index[row % 3].ego2global + np.eye(4)[3] * [[row], [0], [0], [0]]
        frame = replace(index[row % 3], **links, **stamp, ego2global=moved)
        rows.append((frame, Annotations.empty()))
    path = tmp_path_factory.mktemp("recording") / "r.arrow"
    write_index(path, rows, index.classes)
    return FrameDataset("recording", FrameIndex(path), synthetic_root)


def test_frames_by_seconds_are_those_of_the_mapper(weights, recording):
    """Each frame passes through the image branch once, and only frames in use are kept."""
    predictor = make(weights, "dataloader.frame_interval=0.5")
    mapper = MultiViewMapper(
        image_aug=predictor._image_aug,
        bev_aug=None,
        grid=predictor.model.grid,
        training=False,
        frame_interval=0.5,
    )
    images_seen = []
    predictor.model.backbone.register_forward_hook(
        lambda module, args, output: images_seen.append(len(args[0]))
    )
    replaced = 0
    for row in range(len(recording)):
        frame, expected = recording.frame(row), mapper(recording, row)
        sample = predictor.sample(
            [recording.dataroot / path for path in frame.image_paths],
            rig_of_frame(frame),
            ego2global=frame.ego2global,
            seconds=frame.timestamp / 1e6,
        )
        for key in ("images", "cam2ego", "ego2global", "intrinsics", "key_ego2global"):
            assert torch.equal(sample[key], expected[key]), (row, key)
        assert [f"r{token}" for token in sample["frame_tokens"]] == expected["frame_tokens"]
        replaced += sample["frame_tokens"][0] == sample["frame_tokens"][1]
        images_seen.clear()
        found = predictor.detect(sample)
        assert sum(images_seen) == 6
        if row % 5 == 0:
            (detections,) = predictor.model([expected])
            assert torch.equal(found.boxes.tensor, detections["instances"].pred_boxes_3d.tensor)
        assert len(predictor._past_frames) <= 9  # 0.75 s
    assert 5 < replaced < 10


def test_a_frame_interval_needs_the_time_of_each_call(weights, frames):
    predictor, rig = make(weights, "dataloader.frame_interval=0.5"), frames[0].rig

    def call(seconds):
        sample = predictor.sample(frames[0].images, rig, ego2global=np.eye(4), seconds=seconds)
        return sample["frame_tokens"]

    predictor.sample(frames[0].images, rig)  # without pose and earlier frames
    with pytest.raises(ValueError, match=r"0.5 s apart .* give each call its time as seconds, g"):
        call(None)
    assert call(7) == ["1", "1"]
    for again in (7, 6.5, None, float("nan"), float("inf")):
        message = rf"as seconds, later than 7.0 of the last call, got {again}; call reset\(\) betw"
        with pytest.raises(ValueError, match=message):
            call(again)
    assert call(7.4) == ["2", "1"]
    predictor.reset()
    assert call(0) == ["3", "3"]


def test_images_are_files_or_arrays_by_name_or_in_order(predictor, frames, tmp_path):
    files, rig = frames[0].images, frames[0].rig
    expected = predictor.sample(files, rig)["images"]
    arrays = [read_image(file) for file in files]
    write_rig(rig, tmp_path / "rig.yaml")
    for images, same_rig in (
        ([str(file) for file in files], rig),
        (arrays, rig),
        ([Image.fromarray(array) for array in arrays], rig),
        (dict(reversed([*zip(rig.channels, files, strict=True)])), rig),
        (files, tmp_path / "rig.yaml"),
    ):
        assert torch.equal(predictor.sample(images, same_rig)["images"], expected)


@pytest.mark.parametrize("sizes", [((320, 200),), ((320, 200), (64, 64), (99, 301))])
def test_any_rig_runs(predictor, sizes):
    count = len(sizes)
    forward = torch.tensor([[0.0, 0, 1, 1], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]])
    rig = Rig(
        channels=tuple("abc"[:count]),
        image_sizes=sizes,
        intrinsics=torch.tensor([[99.0, 0, 50], [0, 99, 50], [0, 0, 1]]).repeat(count, 1, 1),
        cam2ego=forward.repeat(count, 1, 1),
    )
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 255, (h, w, 3), np.uint8) for w, h in sizes]
    found = predictor(images, rig)
    assert len(found) > 0 and found.boxes.tensor.isfinite().all()


def test_records_are_plain_values(predictor, frames):
    found = predictor(frames[0].images, frames[0].rig)
    record, box = found.records(predictor.class_names)[0], found.boxes.tensor[0]
    assert record["class"] == predictor.classes.names[found.labels[0]]
    assert record["score"] == pytest.approx(found.scores[0].item())
    numbers = [*record["center"], *record["size"], record["yaw"], *record["velocity"]]
    assert numbers == pytest.approx(box.tolist())


def test_errors_of_images_and_poses(predictor, frames):
    """tests/bad_inputs/bad_predictions.py has all kinds of them."""
    images, rig = frames[0].images, frames[0].rig
    message = "'CAM_FRONT_LEFT': 10 x 10 pixels, but the rig has 160 x 90"
    with pytest.raises(ValueError, match=message):
        predictor([np.zeros((10, 10, 3), np.uint8), *images[1:]], rig)
    with pytest.raises(ValueError, match="a rotation and a translation"):
        predictor(images, rig, ego2global=np.diag([2.0, 2, 2, 1]))
    for pose in ([[1, 0], [0]], "here"):
        with pytest.raises(ValueError, match="a matrix of numbers"):
            predictor(images, rig, ego2global=pose)


def test_another_rig_needs_a_reset(predictor, frames):
    images, rig = frames[0].images, frames[0].rig
    predictor(images, rig, ego2global=np.eye(4))
    fewer = Rig(rig.channels[:2], rig.image_sizes[:2], rig.intrinsics[:2], rig.cam2ego[:2])
    with pytest.raises(ValueError, match=r"reset\(\) between rigs"):
        predictor(images[:2], fewer, ego2global=np.eye(4))
    predictor.reset()
    predictor(images[:2], fewer, ego2global=np.eye(4))


def test_missing_files_and_other_weights_are_an_error(predictor, frames, weights, tmp_path):
    with pytest.raises(ValueError, match="does not fit the model"):
        make(weights, "model.bev_encoder.out_channels=8")
    with pytest.raises(FileNotFoundError, match="none.pth"):
        make(tmp_path / "none.pth")
    with pytest.raises(FileNotFoundError, match="none.yaml"):
        predictor(frames[0].images, "none.yaml")


def test_the_config_may_be_a_path_or_loaded(weights, frames, predictor):
    from fsdbev.model_zoo import CONFIGS

    by_path = Predictor(CONFIGS / CONFIG, weights, overrides=OVERRIDES)
    loaded = Predictor(load_config(str(CONFIGS / CONFIG), OVERRIDES), weights)
    images, rig = frames[0].images, frames[0].rig
    expected = predictor(images, rig)
    assert same(by_path(images, rig), expected) and same(loaded(images, rig), expected)
