"""Fixtures of ``tests/data``: the shared synthetic data set and data sets of fake rigs."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fsdbev.data.build import open_nuscenes
from fsdbev.data.dataset import FrameDataset
from fsdbev.data.fake import fake_frame
from fsdbev.data.index.frame_index import FrameIndex, write_index
from fsdbev.data.index.records import Annotations
from fsdbev.data.mapper import MultiViewMapper
from fsdbev.data.nuscenes.index_builder import load_nuscenes
from fsdbev.data.transforms.bev_aug import BEVAugmentation
from fsdbev.data.transforms.image_aug import ImageAugmentation
from fsdbev.structures import NUSCENES_CLASSES, BEVGrid

HERE = Path(__file__).resolve().parent
TOOLS = HERE.parents[1] / "tools"
sys.path.insert(0, str(HERE))


@pytest.fixture
def frames():
    """Returns rows for ``write_index``: frames(count, sizes), with two objects per frame, of which
    the second has no LiDAR points."""

    def make(count=3, sizes=((64, 48),), reference=0):
        boxes = np.array(
            [[10, 0, 1, 4, 2, 1.6, 0.3, 1, 0], [0, 12, 1, 0.7, 0.7, 1.8, 0, 0, 0]], np.float32
        )
        annotations = Annotations.from_boxes(
            boxes,
            [0, 8],
            tokens=("a", "b"),
            attributes=("vehicle.moving", ""),
            num_lidar_points=np.array([7, 0], np.int32),
        )
        settings = {"image_sizes": sizes, "reference_camera": reference}
        return [(fake_frame(row, count, **settings), annotations) for row in range(count)]

    return make


@pytest.fixture
def rig(tmp_path, frames):
    """Writes a data set: rig(sizes) writes images, one colour per camera, and an index."""

    def make(sizes, count=3, reference=0) -> FrameDataset:
        rows = frames(count, sizes, reference)
        (tmp_path / "images").mkdir(exist_ok=True)
        for frame, _ in rows:
            for camera, path in enumerate(frame.image_paths):
                Image.new("RGB", sizes[camera], (10 + camera, 100, 200)).save(tmp_path / path)
        write_index(tmp_path / "rig.arrow", rows, NUSCENES_CLASSES)
        return FrameDataset("rig", FrameIndex(tmp_path / "rig.arrow"), tmp_path)

    return make


@pytest.fixture
def run_tool(monkeypatch):
    """Runs a tool in this process and returns its exit status: run_tool(name, *arguments)."""

    def run(name: str, *arguments) -> int:
        path = TOOLS / f"{name}.py"
        monkeypatch.setattr(sys, "argv", [str(path), *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(path), run_name="__main__")
        return end.value.code

    return run


@pytest.fixture
def synthetic(synthetic_root) -> FrameDataset:
    """The training split of the shared synthetic set."""
    return open_nuscenes(dataroot=synthetic_root, version="v1.0-synth", split="synth_train")


@pytest.fixture(scope="session")
def tables(synthetic_root):
    """The tables of the shared synthetic set, read by the nuScenes devkit."""
    return load_nuscenes(synthetic_root, "v1.0-synth")


@pytest.fixture
def mapper():
    """Returns a mapper: mapper(training, image_size, **options)."""

    def make(training=True, image_size=(64, 176), **options) -> MultiViewMapper:
        return MultiViewMapper(
            image_aug=ImageAugmentation(image_size=image_size),
            bev_aug=BEVAugmentation(),
            grid=BEVGrid(),
            training=training,
            **options,
        )

    return make
