"""The report of a data set with its own classes: names, ranges, cameras and texts are the set's."""

import re
from html import unescape

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from fsdbev.d2.structures import Instances
from fsdbev.data.dataset import FrameDataset
from fsdbev.data.fake import fake_frame
from fsdbev.data.index.frame_index import FrameIndex, write_index
from fsdbev.data.index.records import Annotations
from fsdbev.evaluation import DetectionEvaluator
from fsdbev.report import Evaluated, ReportSource, samples
from fsdbev.report.writer import write_report
from fsdbev.structures import NUSCENES_CLASSES, BEVGrid, Boxes3D, ClassSet
from fsdbev.visualization import BEVArea

CLASSES = ClassSet(
    names=["van", "high_tram", "walker"],
    attributes={"van": ["waiting", "driving"]},
    ranges={"van": 120.0, "high_tram": 80.0, "walker": 25.0},
)
SAMPLES = 4


def drawn_objects(rng):
    """Returns twelve objects, four of a class, all around the vehicle."""
    distance, angle = rng.uniform(8, 24, 12), rng.uniform(-np.pi, np.pi, 12)
    distance[:4] *= 4.5
    boxes = np.zeros((12, 9))
    boxes[:, :2] = np.stack([distance * np.cos(angle), distance * np.sin(angle)], axis=1)
    boxes[:, 3:6], boxes[:, 6] = (4, 2, 1.6), angle
    attributes = ("driving",) * 4 + ("",) * 8
    return Annotations.from_boxes(boxes, np.repeat([0, 1, 2], 4), attributes=attributes)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """An evaluation of displaced ground truth, with two of three cameras."""
    folder, rng = tmp_path_factory.mktemp("report"), np.random.default_rng(0)
    frames = [fake_frame(row, SAMPLES, image_sizes=[(64, 48)] * 3) for row in range(SAMPLES)]
    objects = [drawn_objects(rng) for _ in frames]
    write_index(folder / "yard.arrow", list(zip(frames, objects, strict=True)), CLASSES)
    for path in {path for frame in frames for path in frame.image_paths}:
        (folder / path).parent.mkdir(exist_ok=True)
        Image.new("RGB", (64, 48), (40, 60, 80)).save(folder / path)
    index = FrameIndex(folder / "yard.arrow")
    dataset = FrameDataset("yard", index, folder, cameras=["CAM_0", "CAM_2"])
    evaluator = DetectionEvaluator(dataset=dataset, output_dir=str(folder))
    for frame, found in zip(frames, objects, strict=True):
        instances = Instances((48, 64))
        instances.pred_boxes_3d = Boxes3D(torch.tensor(found.boxes + rng.normal(0, 0.3, (12, 9))))
        instances.pred_boxes_3d.tensor[:, 3:6].abs_()
        instances.scores = torch.linspace(0.9, 0.2, 12)
        instances.pred_classes = torch.tensor(found.class_ids.tolist())
        sample = {
            "sample_token": frame.sample_token,
            "ego2global": torch.tensor(frame.ego2global)[None],
            "key_ego2global": torch.tensor(frame.key_ego2global),
        }
        evaluator.process([sample], [{"instances": instances}])
    grid = BEVGrid(x_range=(0.0, 120.0), y_range=(-40.0, 40.0), cell=1.0)
    return Evaluated(evaluator.evaluate(), [evaluator], dataset, grid)


@pytest.fixture(scope="module")
def page(evaluated, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    train = {"output_dir": str(folder), "report": {"enabled": True, "samples": 1}}
    write_report(OmegaConf.create({"train": train}), ReportSource("yard.py"), evaluated)
    return unescape((folder / "report.html").read_text())


def table(page, caption):
    body = re.search(rf"<caption>{caption}</caption>(.*?)</table>", page, re.DOTALL)[1]
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", body, re.DOTALL)
    cells = (re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows)
    return [[cell.replace("\u00a0", " ") for cell in row] for row in cells]


def test_classes_and_bands_are_those_of_the_set(page):
    rows = table(page, "Precision and errors by class")
    assert [row[0] for row in rows] == ["class", "van", "high tram", "walker", "mean"]
    assert rows[2][-1] == rows[3][-1] == "–" and rows[1][-1] != "–"  # attribute errors
    bands = [row[0] for row in table(page, "All classes by distance")]
    assert bands[:3] == ["distance", "0 to 20 m", "20 to 40 m"] and bands[-2:] == ["100+ m", "all"]
    assert len(bands) == 8
    confusion = table(page, "Boxes by true and predicted class")
    assert confusion[0][1:4] == ["van", "high tram", "walker"]
    assert "Each class is evaluated up to its own range, 25 to 120 m." in page


def test_data_set_cameras_and_unseen_objects_are_said(page):
    facts = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page))
    assert facts["data set"] == "yard" and facts["cameras"] == "CAM_0, CAM_2"
    note = r"<p>(\d+) of 48 objects have no 2D box in CAM_0, CAM_2; they are left out"
    left_out = int(re.search(note, page)[1])
    total = int(table(page, "Precision and errors by class")[-1][1])
    assert 0 < left_out == 48 - total
    assert page.count("data:image/jpeg") == 2 and "There is no picture" not in page


def test_no_text_is_about_nuscenes(page):
    text = re.sub(r"data:image/jpeg[^\"]*|<style>.*?</style>", "", page, flags=re.DOTALL)
    text = text.partition('<section id="environment"')[0]  # names the devkit's version
    assert re.findall("nuScenes[^.:]*", text) == ["nuScenes detection score"]
    names = [*NUSCENES_CLASSES.names, "barrier", "cone"]
    words = set(re.findall(r"[a-z_]+", text))
    assert not words & set(names)


def test_pictures_show_the_grid(evaluated, monkeypatch):
    areas = []

    def draw(dataset, row, boxes, area):
        areas.append(area)
        return np.zeros((4, 4, 3), np.uint8)

    monkeypatch.setattr(samples, "draw_sample", draw)
    scored = evaluated.evaluators[0].scored_detections()
    for grid in (evaluated.grid, None):
        samples.sample_section(scored, evaluated.dataset, 1, grid)
    assert areas[:2] == [BEVArea.of_grid(evaluated.grid)] * 2 and areas[2:] == [None] * 2
