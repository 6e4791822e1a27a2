"""The config of docs/own_settings.md from data to detections: own classes, the front cameras (one
with a fisheye lens), a range of 80 m ahead, ten frames a second."""

import json
from pathlib import Path

import numpy as np
import pytest

from fsdbev.config.loading import load_config
from fsdbev.d2.config import instantiate
from fsdbev.data.index.frame_index import FrameIndex
from fsdbev.data.io.rig_file import rig_of_frame
from fsdbev.data.nuscenes.prepare import prepare_nuscenes
from fsdbev.data.synthetic.generator import VERSION, generate
from fsdbev.data.synthetic.options import SyntheticOptions
from fsdbev.engine import run
from fsdbev.evaluation import read_submission
from fsdbev.inference import Predictor

CONFIG = Path(__file__).parents[1] / "docs" / "examples" / "three_classes.py"
CAMERAS = ["CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT"]


@pytest.mark.slow
def test_training_evaluation_and_prediction(tmp_path):
    data, output = tmp_path / "data", tmp_path / "output"
    generate(
        str(data),
        SyntheticOptions(
            scenes_train=2, scenes_val=1, frames=8, rate=10.0, fisheye=("CAM_FRONT_LEFT",)
        ),
    )
    overrides = [f"dataloader.dataroot={data}", f"train.output_dir={output}", "train.max_iter=2"]
    overrides += ["dataloader.image_size=[64,176]", "train.device=cpu"]
    overrides += ["dataloader.train.num_workers=0", "dataloader.test.num_workers=0"]
    options = ["--config-file", str(CONFIG)]
    prepare_nuscenes(dataroot=data, version=VERSION, output=tmp_path / "ten")
    with pytest.raises(ValueError, match="traffic_cone.*but model.classes has.*two_wheeler"):
        run([*options, *overrides, f"dataloader.index_dir={tmp_path / 'ten'}"])
    classes = instantiate(load_config(str(CONFIG)).model.classes)
    prepare_nuscenes(dataroot=data, version=VERSION, classes=classes)
    run([*options, *overrides])

    metrics = json.loads((output / "evaluation.json").read_text())["nuscenes"]
    assert {f"AP_{name}" for name in classes.names} <= set(metrics)
    found = read_submission(output / "results_nusc.json", classes)
    assert len(found) == 8 and any(found.values())
    page = (output / "report.html").read_text()
    assert "two wheeler" in page or "two_wheeler" in page
    assert "traffic_cone" not in page

    index = FrameIndex(data / "fsdbev" / VERSION / "synth_val.arrow")
    predictor = Predictor(str(CONFIG), output / "model_final.pth", overrides=overrides)
    assert predictor.class_names == classes.names
    for row in range(len(index)):
        frame = index[row].select(CAMERAS)
        images = [data / path for path in frame.image_paths]
        boxes = predictor(
            images,
            rig_of_frame(frame),
            ego2global=frame.ego2global,
            seconds=frame.timestamp / 1e6,
        )
    expected = found[frame.sample_token]
    assert len(boxes.boxes) == len(expected) > 0
    scores = np.sort(boxes.scores.numpy())[::-1]
    np.testing.assert_allclose(scores, [box["detection_score"] for box in expected], rtol=1e-4)
