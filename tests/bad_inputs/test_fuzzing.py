"""Randomly damaged files: a reader raises an error that names the file or returns valid content.

``FSDBEV_FUZZ=20000`` runs this number of examples per reader, other ones each time.
"""

from __future__ import annotations

import functools
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from bad_images import encoded
from bad_labels import labels_of
from bad_predictions import submit
from bad_results import samples_of
from bad_rigs import FRONT
from hypothesis import HealthCheck, given, settings, strategies as st
from made_rows import SIZE, data_set
from PIL import Image

from fsdbev.data.index.frame_index import FrameIndex
from fsdbev.data.io.image_file import read_image
from fsdbev.data.io.rig_file import read_rig
from fsdbev.data.labels.point_labels import read_point_labels
from fsdbev.data.labels.sweeps import read_lidar, read_lidarseg
from fsdbev.data.nuscenes.tables import read_records
from fsdbev.evaluation.box_arrays import submission_arrays
from fsdbev.evaluation.results_file import read_results
from fsdbev.evaluation.submission import read_submission
from fsdbev.evaluation.truth import DetectionTask
from fsdbev.structures import NUSCENES_CLASSES

EXAMPLES = int(os.environ.get("FSDBEV_FUZZ", "0"))
fuzzed = settings(
    max_examples=EXAMPLES or 40,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
#: Errors of readers about damaged files.
REFUSALS = (ValueError, FileNotFoundError)


def damaged(content: bytes) -> st.SearchStrategy[bytes]:
    """Returns content with changed, inserted, removed or truncated bytes, often near its ends."""
    size = len(content)
    near_end = st.integers(0, min(size, 1500)).map(lambda n: size - n)
    position = st.one_of(st.integers(0, size), near_end, st.integers(0, min(size, 64)))
    # Position, number of removed bytes, new bytes; if none are removed, the new ones overwrite.
    change = st.tuples(position, st.sampled_from([0, 0, 0, 1, 2, 8, 64]), st.binary(max_size=8))
    cut = st.one_of(st.just(size), st.just(size), position)
    return st.one_of(
        st.builds(functools.partial(_changed, content), st.lists(change, max_size=4), cut),
        st.binary(max_size=300),
    )


def _changed(content: bytes, changes: list[tuple[int, int, bytes]], end: int) -> bytes:
    for position, removed, new in changes:
        content = content[:position] + new + content[position + (removed or len(new)) :]
    return content[:end]


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def read(path: Path, content: bytes, use) -> None:
    """Writes a new file and reads it by ``use``; accepts errors that name the file."""
    path.unlink(missing_ok=True)  # the old file may be mapped into memory
    path.write_bytes(content)
    try:
        use(path)
    except REFUSALS as error:
        assert str(path) in str(error), f"{error!r} does not name the file"


def use_index(path: Path) -> None:
    index = FrameIndex(path)
    for row in range(len(index)):
        frame, objects = index[row], index.annotations(row)
        assert len(frame.image_paths) == frame.num_cameras == len(frame.global2cam)
        assert np.isfinite(frame.corners_in_cameras(objects)).all() and len(objects.boxes) >= 0
        chosen = index.frame_rows(row, 3) + index.frame_rows(row, 3, interval=0.5)
        assert all(0 <= r < len(index) for r in chosen)
    assert len(index.scene_ids) == len(index.classes_with_points) == len(index)


def use_labels(path: Path) -> None:
    for camera in read_point_labels(path, NUSCENES_CLASSES).values():
        chosen = camera.select()
        assert len(chosen.u) == len(chosen.v) == len(chosen.depth) == len(chosen.class_ids)


@pytest.fixture(scope="module")
def an_index(folder):
    (folder / "intact").mkdir()
    return Path(data_set(folder / "intact").index.path).read_bytes()


@pytest.fixture(scope="module")
def some_labels(folder):
    (folder / "labels").mkdir()
    return labels_of(folder / "labels")[1].read_bytes()


@fuzzed
@given(st.data())
def test_index(an_index, folder, data):
    read(folder / "x.arrow", data.draw(damaged(an_index)), use_index)


@fuzzed
@given(st.data())
def test_point_labels(some_labels, folder, data):
    read(folder / "l.arrow", data.draw(damaged(some_labels)), use_labels)


NOISE = Image.effect_noise(SIZE, 80).convert("RGB")
INTACT_IMAGES = [
    encoded("JPEG", image=NOISE),
    encoded("JPEG", image=NOISE, progressive=True),
    encoded("JPEG", image=NOISE.convert("CMYK")),
    encoded("PNG", image=NOISE),
    encoded("PNG", image=NOISE.quantize(16)),
    *(encoded(kind, image=NOISE) for kind in ("WEBP", "BMP", "PPM", "TIFF", "GIF")),
]


def use_image(path: Path) -> None:
    pixels = read_image(path)
    assert pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.uint8


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
@fuzzed
@given(st.sampled_from(INTACT_IMAGES).flatmap(damaged))
def test_images(folder, content):
    read(folder / "x.jpg", content, use_image)


@fuzzed
@given(damaged(np.ones((20, 5), np.float32).tobytes()))
def test_sweeps(folder, content):
    read(folder / "x.bin", content, lambda path: np.isfinite(read_lidar(path)).all())
    read(folder / "x.bin", content, lambda path: read_lidarseg(path, 20))


RIG = {"reference_camera": "front", "cameras": {"front": FRONT, "back": FRONT}}
NUMBERS = st.one_of(st.integers(), st.floats(), st.just(10**400), st.booleans())
VALUES = st.recursive(
    st.one_of(NUMBERS, st.none(), st.text(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=20,
)


@st.composite
def with_another_value(draw, content):
    """Draws JSON content with one value at any depth replaced."""
    if draw(st.booleans()) and isinstance(content, dict | list) and content:
        keys = list(content) if isinstance(content, dict) else range(len(content))
        key = draw(st.sampled_from(keys))
        copy = content.copy()
        copy[key] = draw(with_another_value(content[key]))
        return copy
    return draw(VALUES)


@fuzzed
@given(damaged(yaml.safe_dump(RIG).encode()), st.sampled_from(["yaml", "json"]))
def test_rig_files_of_damaged_text(folder, content, ending):
    read(folder / f"rig.{ending}", content, read_rig)


@fuzzed
@given(with_another_value(RIG))
def test_rig_files_of_other_values(folder, content):
    read(folder / "rig.json", json.dumps(content).encode(), read_rig)


SUBMISSION = {"meta": {}, "results": {"abc": submit(), "def": []}}


def use_submission(path: Path) -> None:
    task = DetectionTask.of(NUSCENES_CLASSES)
    results = read_submission(path, NUSCENES_CLASSES)
    arrays = submission_arrays(results, task.names, task.attributes)
    assert np.isfinite(arrays.center).all() and np.isfinite(arrays.score).all()


def use_results_file(path: Path) -> None:
    source = samples_of("val")
    boxes = read_results(path, source).boxes
    arrays = submission_arrays(boxes, source.task.names, source.task.attributes)
    assert np.isfinite(arrays.center).all() and (arrays.score >= 0).all()


@fuzzed
@given(with_another_value(SUBMISSION))
def test_submissions_of_other_values(folder, content):
    read(folder / "results.json", json.dumps(content).encode(), use_submission)
    read(folder / "results.json", json.dumps(content).encode(), use_results_file)


@fuzzed
@given(damaged(json.dumps(SUBMISSION).encode()))
def test_submissions_of_damaged_text(folder, content):
    read(folder / "results.json", content, use_submission)
    read(folder / "results.json", content, use_results_file)


SENSORS = [{"token": f"s{i}", "channel": f"CAM{i}", "modality": "camera"} for i in range(3)]


@fuzzed
@given(
    st.one_of(
        damaged(json.dumps(SENSORS).encode()),
        with_another_value(SENSORS).map(lambda content: json.dumps(content).encode()),
    )
)
def test_tables(folder, content):
    def use(path: Path) -> None:
        for record in read_records(path.parent, "sensor"):
            assert {"token", "channel", "modality"} <= record.keys()

    read(folder / "sensor.json", content, use)
