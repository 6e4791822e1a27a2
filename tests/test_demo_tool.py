"""tools/demo.py and tools/make_rig.py: from images and a rig file to pictures, video and JSON."""

import json
import os
import shutil
import socket
from argparse import Namespace
from dataclasses import replace
from functools import partial

import av
import demo
import make_rig
import numpy as np
import pytest
import torch
from demonstration import recordings
from made_zoo import write_model
from PIL import Image

import fsdbev
from fsdbev.config import config_text
from fsdbev.d2.config import LazyCall, instantiate
from fsdbev.data.index.frame_index import FrameIndex
from fsdbev.data.io.image_file import read_image
from fsdbev.data.io.recording import RecordedFrame
from fsdbev.data.io.rectify import rectify
from fsdbev.data.io.rig_file import read_rig, write_rig
from fsdbev.model_zoo import CONFIGS, get_config
from fsdbev.structures import ClassSet, Lens
from fsdbev.utils import model_cards
from fsdbev.utils.folder_lock import locked_folder
from fsdbev.visualization import VideoWriter

CONFIG = "fsdbev_tiny_synthetic.py"


@pytest.fixture(scope="module")
def index(synthetic_root):
    return FrameIndex(synthetic_root / "fsdbev" / "v1.0-synth" / "synth_val.arrow")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, index, synthetic_root):
    """Folder with weights, rig.yaml, poses.json and images/<camera>/ of two frames."""
    folder = tmp_path_factory.mktemp("demo")
    torch.manual_seed(0)
    model = instantiate(get_config(CONFIG).model)
    torch.save({"model": model.state_dict()}, folder / "model.pth")
    arguments = ["--index", str(index.path), "--out", str(folder / "rig.yaml")]
    assert make_rig.main(arguments) == 0
    frames = [index[row] for row in range(2)]
    for frame in frames:
        for camera, path in zip(frame.channels, frame.image_paths, strict=True):
            (folder / "images" / camera).mkdir(parents=True, exist_ok=True)
            shutil.copy(synthetic_root / path, folder / "images" / camera)
    poses = [frame.ego2global.tolist() for frame in frames]
    (folder / "poses.json").write_text(json.dumps(poses))
    return folder


@pytest.fixture(scope="module")
def run_into(inputs):
    def run(out, *arguments, overrides=(), **changes):
        common = {"config-file": CONFIGS / CONFIG, "weights": inputs / "model.pth"}
        common |= {"rig": inputs / "rig.yaml", "out": out, **changes}
        options = [text for name, value in common.items() for text in (f"--{name}", str(value))]
        sizes = ["dataloader.image_size=[64,112]", "model.head.max_candidates=3"]
        opts = ["--opts", *sizes, "train.device=cpu", *overrides]
        status = demo.main([*options, "--score-threshold", "0.1", *map(str, arguments), *opts])
        return status, out

    return run


@pytest.fixture
def run(run_into, tmp_path):
    return partial(run_into, tmp_path / "out")


@pytest.fixture(scope="module")
def driven(run_into, inputs, tmp_path_factory):
    """Output of a run on both frames with their poses."""
    out = tmp_path_factory.mktemp("driven") / "out"
    assert run_into(out, "--images", inputs / "images", "--poses", inputs / "poses.json")[0] == 0
    return out


def test_an_output_folder_that_another_process_writes_to(run, inputs, tmp_path, capsys):
    with locked_folder(tmp_path / "out", "-"):
        assert run("--images", inputs / "images")[0] == 1
    message = f"out: process {os.getpid()} on {socket.gethostname()} is writing there"
    assert message in capsys.readouterr().err and not list((tmp_path / "out").iterdir())


def read(out):
    return json.loads((out / "detections.json").read_text())


def one_image_each(inputs):
    return {path.name: sorted(path.iterdir())[0] for path in (inputs / "images").iterdir()}


def test_the_images_of_one_frame_become_a_picture_and_json(run, inputs):
    images = [f"{name}={path}" for name, path in one_image_each(inputs).items()]
    status, out = run("--images", *images, "--diagnostics")
    assert status == 0
    assert sorted(str(p.relative_to(out)) for p in out.rglob("*.*")) == [
        "detections.json",
        "diagnostics/000000.jpg",
        "pictures/000000.jpg",
    ]
    content = read(out)
    assert [frame["name"] for frame in content["frames"]] == ["000000"]
    found = content["frames"][0]["detections"]
    assert len(found) > 5
    assert set(found[0]) == {"class", "score", "center", "size", "yaw", "velocity"}
    assert read_image(out / "pictures/000000.jpg").shape[1] > 2000
    (out / "rig.json").write_text(json.dumps(content["rig"]))
    assert read_rig(out / "rig.json").channels == read_rig(inputs / "rig.yaml").channels


def test_folders_with_poses_become_a_video_with_earlier_frames(run_into, driven, inputs, tmp_path):
    with av.open(str(driven / "detections.mp4")) as file:
        video = file.streams.video[0]
        frames = sum(1 for _ in file.decode(video))
    assert (frames, video.average_rate, video.codec_context.name) == (2, 2, "h264")
    assert len(list((driven / "pictures").iterdir())) == 2
    moving = read(driven)
    assert [frame["seconds"] for frame in moving["frames"]] == [0, 0.5]

    folder = inputs / "images"
    without_poses = read(run_into(tmp_path / "without", "--images", folder)[1])
    standing = read(run_into(tmp_path / "standing", "--images", folder, "--standing")[1])
    first, second = (
        [content["frames"][k]["detections"] for content in (moving, without_poses, standing)]
        for k in range(2)
    )
    assert first[1] == first[2]  # no earlier frame
    assert second[0] != second[1] and second[0] != second[2] and second[1] != second[2]


def test_earlier_frames_are_found_by_their_time(run_into, driven, inputs, tmp_path):
    more = ["--images", inputs / "images", "--poses", inputs / "poses.json", "--rate", 4]
    out = run_into(tmp_path / "out", *more, overrides=["dataloader.frame_interval=0.25"])[1]
    frames, expected = read(out)["frames"], read(driven)["frames"]
    assert [frame["seconds"] for frame in frames] == [0, 0.25]
    assert [f["detections"] for f in frames] == [f["detections"] for f in expected]


def test_own_classes_and_a_grid_ahead(run, inputs, tmp_path, monkeypatch):
    cfg = get_config(CONFIG)
    cfg.model.classes = LazyCall(ClassSet)(names=["vehicle", "two-wheeler", "pedestrian"])
    cfg.model.grid.merge_with({"x_range": [0.0, 48.0], "y_range": [-24.0, 24.0], "cell": 3.0})
    (tmp_path / "three.yaml").write_text(config_text(cfg))
    torch.manual_seed(0)
    torch.save({"model": instantiate(cfg.model).state_dict()}, tmp_path / "three.pth")
    drawn, mosaic = [], demo.mosaic

    def spy(views, **rest):
        drawn.append(rest)
        return mosaic(views, **rest)

    monkeypatch.setattr(demo, "mosaic", spy)
    images = [f"{name}={path}" for name, path in one_image_each(inputs).items()]
    files = {"config-file": tmp_path / "three.yaml", "weights": tmp_path / "three.pth"}
    status, out = run("--images", *images, "--diagnostics", **files)
    assert status == 0
    found = read(out)["frames"][0]["detections"]
    names = ("vehicle", "two-wheeler", "pedestrian")
    assert found and {box["class"] for box in found} <= set(names)
    assert drawn[0]["class_names"] == names
    assert (drawn[0]["area"].center, drawn[0]["area"].reach) == ((22.5, 0.0), 25.5)


def test_images_of_a_lens_are_rectified_once(run, inputs, tmp_path):
    rig, lenses = read_rig(inputs / "rig.yaml"), []
    for name, intrinsics in zip(rig.channels, rig.intrinsics, strict=True):
        is_fisheye = name == "CAM_FRONT"
        lenses.append(Lens("fisheye", intrinsics.numpy(), (0.4, 0.1, 0, 0)) if is_fisheye else None)
    rig, images = replace(rig, lenses=lenses), one_image_each(inputs)
    options = ["dataloader.image_size=[64,112]", "train.device=cpu"]
    predictor = fsdbev.Predictor(CONFIGS / CONFIG, inputs / "model.pth", overrides=options)
    frame = RecordedFrame("000000", 0.0, images)
    pixels, sample = demo.take(predictor, frame, rig, None)
    for i, name in enumerate(rig.channels):
        raw = read_image(images[name])
        expected = rectify(raw, lenses[i], rig.intrinsics[i])
        assert np.array_equal(pixels[i], expected)
        assert np.array_equal(expected, raw) == (name != "CAM_FRONT")
        network_image = predictor._image_aug.fixed(rig.image_sizes[i]).apply(expected)
        assert np.array_equal(sample["images"][0, i], network_image)
    write_rig(rig, tmp_path / "rig.yaml")
    status, out = run(
        "--images", *(f"{n}={p}" for n, p in images.items()), rig=tmp_path / "rig.yaml"
    )
    assert status == 0
    assert read(out)["rig"]["cameras"]["CAM_FRONT"]["distortion"]["model"] == "fisheye"


def test_videos_are_read_at_the_rate(run, inputs, tmp_path):
    videos = []
    for name, path in one_image_each(inputs).items():
        videos.append(f"{name}={tmp_path / name}.mp4")
        with VideoWriter(tmp_path / f"{name}.mp4", fps=4) as video:
            for _ in range(4):
                video.add(read_image(path))
    status, out = run("--video", *videos, "--rate", 2)
    assert status == 0
    assert [frame["seconds"] for frame in read(out)["frames"]] == [0, 0.5]
    with Image.open(out / "pictures/000001.jpg") as picture:
        assert picture.size[0] > 2000


def test_a_skipped_frame_takes_its_pose_and_the_past_with_it(
    run, inputs, tmp_path, monkeypatch, caplog
):
    frames = demo.frames_from_images([str(inputs / "images")], read_rig(inputs / "rig.yaml"), 2)
    first, second = (frame.images for frame in frames)
    images = {0: first, 1: second, 3: first}
    recorded = [RecordedFrame(f"{k:06d}", k / 2, files) for k, files in images.items()]
    monkeypatch.setattr(demo, "frames_from_videos", lambda *_: iter(recorded))
    poses = np.tile(np.eye(4), (5, 1, 1))
    poses[:, 0, 3] = range(5)
    (tmp_path / "poses.json").write_text(json.dumps(poses.tolist()))
    taken, sample = [], fsdbev.Predictor.sample

    def spy(*arguments, **rest):
        taken.append(rest["ego2global"])
        return sample(*arguments, **rest)

    monkeypatch.setattr(fsdbev.Predictor, "sample", spy)
    status, out = run("--video", "v.mp4", "--poses", tmp_path / "poses.json")
    assert status == 0 and np.array_equal(taken, poses[[0, 1, 3]])
    found = [frame["detections"] for frame in read(out)["frames"]]
    assert found[2] == found[0] != found[1]
    assert "5 poses, but the videos have 4 frames at 2 per second" in caplog.text
    with pytest.raises(ValueError, match="p.json: there is no pose for frame 000003"):
        demo.pose_of(recorded[2], poses.tolist()[:3], Namespace(poses="p.json", rate=2.0))


def test_a_second_run_replaces_the_first(run, driven, inputs, tmp_path):
    shutil.copytree(driven, tmp_path / "out")
    (tmp_path / "out" / "pictures" / "note.txt").write_text("mine")
    out = run("--images", *(f"{n}={p}" for n, p in one_image_each(inputs).items()))[1]
    assert sorted(path.name for path in (out / "pictures").iterdir()) == ["000000.jpg", "note.txt"]
    assert not (out / "detections.mp4").exists()


def test_errors_of_poses_keep_the_old_files(run, driven, inputs, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(driven, out)
    before = (out / "detections.json").read_bytes(), (out / "detections.mp4").read_bytes()
    (tmp_path / "short.json").write_text(json.dumps([[[1, 0, 0, 0]] * 4] * 2))
    (tmp_path / "one.json").write_text(
        json.dumps(json.loads((inputs / "poses.json").read_text())[:1])
    )
    (tmp_path / "words.json").write_text('["north", "south"]')
    (tmp_path / "object.json").write_text("{}")
    (tmp_path / "broken.json").write_text("[")
    for file, message in (
        ("one.json", "one.json: 1 poses for 2 frames; give one for each frame"),
        ("short.json", "frame 000000: ego2global must be a rotation"),
        ("none.json", "none.json"),
        ("words.json", "frame 000000: ego2global must be a matrix of numbers"),
        ("object.json", "object.json: a list"),
        ("broken.json", "broken.json: not JSON"),
    ):
        assert run("--images", inputs / "images", "--poses", tmp_path / file)[0] == 1
        assert message in capsys.readouterr().err
    after = (out / "detections.json").read_bytes(), (out / "detections.mp4").read_bytes()
    assert after == before


@pytest.mark.parametrize("arguments", [["--rate", "0"], ["--standing", "--poses", "p.json"]])
def test_invalid_options(arguments):
    needed = ["--config-file", "c", "--weights", "w", "--rig", "r", "--images", "i"]
    with pytest.raises(SystemExit):
        demo.parse_arguments([*needed, *arguments])


@pytest.fixture
def zoo(inputs, tmp_path, monkeypatch):
    """A released detector with the weights of ``inputs``."""
    weights = torch.load(inputs / "model.pth", weights_only=True)["model"]
    (tmp_path / "zoo").mkdir()
    write_model(tmp_path / "zoo", "fsdbev_street", weights, CONFIG)
    monkeypatch.setattr(model_cards, "WEIGHTS", tmp_path / "zoo")


def test_without_arguments_the_released_detector_runs_on_a_generated_scene(
    zoo, tmp_path, monkeypatch, capsys
):
    drawn, mosaic = [], demo.mosaic
    made, make_held_out = [], recordings.make_held_out

    def small(folder, **options):
        made.append(make_held_out(folder, **options, image_size=(160, 90), lidar_azimuths=64))
        return made[0]

    monkeypatch.setattr(demo, "mosaic", lambda *a, **rest: drawn.append(rest) or mosaic(*a, **rest))
    monkeypatch.setattr(recordings, "make_held_out", small)
    opts = ["--opts", "dataloader.image_size=[64,112]", "train.device=cpu"]
    assert demo.main(["--out", str(tmp_path / "out"), *opts]) == 0
    picture = tmp_path / "out" / "pictures" / "000001.jpg"
    count = len(drawn[1]["predictions"])
    assert f"000001: {count} objects, {picture}\n" in capsys.readouterr().out and picture.is_file()
    content = read(tmp_path / "out")
    assert content["model"]["weights"] == "zoo://fsdbev_street"
    assert content["model"]["config"] == str(CONFIGS / CONFIG)
    truth, (dataset,) = drawn[1]["truth"].boxes.tensor, made
    assert 0 < len(truth) < dataset.annotations(1).has_points.sum()  # those in the grid
    assert truth[:, :2].abs().max() <= 28


def test_options_that_need_others(inputs, capsys):
    rig, images = ["--rig", str(inputs / "rig.yaml")], ["--images", str(inputs / "images")]
    for arguments, message in (
        (rig, "--rig is for --images or --video, and neither is given"),
        (["--standing"], "--standing is for --images or --video"),
        (["--weights", "w.pth", *rig, *images], "--weights w.pth needs the --config-file of its"),
        (["--config-file", "c.py"], "--config-file c.py needs the --weights of its model"),
        (["--weights", "zoo://none"], "no released model"),
        (["--config-file", "c.py", "--weights", "w.pth", *images], "need the cameras: --rig FILE"),
    ):
        assert demo.main([*arguments, "--out", str(inputs / "none")]) == 1
        assert message in capsys.readouterr().err
    assert not (inputs / "none").exists()


def test_make_rig(index, tmp_path, capsys):
    options = ["--index", str(index.path), "--out", str(tmp_path / "rig.yaml")]
    assert make_rig.main([*options, "--sample", "none"]) == 1
    assert "has no samples ['none']" in capsys.readouterr().err
    assert make_rig.main([*options[:3], str(tmp_path / "rig.json")]) == 1
    assert "rig.json: a rig is written as .yaml" in capsys.readouterr().err
    assert make_rig.main([*options, "--sample", index[2].sample_token]) == 0
    assert read_rig(tmp_path / "rig.yaml").channels == index[2].channels
