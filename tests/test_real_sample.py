"""The tiny config learns a sample of nuScenes: slow, and only where a sample is given."""

import json
import os
from pathlib import Path

import pytest

from fsdbev.data.nuscenes.prepare import prepare_nuscenes
from fsdbev.engine import run

CONFIG = Path(__file__).parents[1] / "configs" / "fsdbev_tiny_synthetic.py"
VERSION, SPLIT = "v1.0-mini", "mini_train"
SAMPLE = os.environ.get("FSDBEV_REAL_SAMPLE", "")
#: Least average precision on the sample itself.
WANTED = {"AP_traffic_cone": 0.9, "AP_barrier": 0.8, "AP_pedestrian": 0.6}


@pytest.mark.slow
@pytest.mark.skipif(
    not SAMPLE, reason=f"FSDBEV_REAL_SAMPLE names no nuScenes folder with one sample of {VERSION}"
)
def test_the_sample_is_learnt(tmp_path):
    """400 iterations without augmentation in BEV. The range contains the evaluated pedestrians,
    and the cells are finer than in the synthetic world, where few small objects are neighbours."""
    index, output = tmp_path / "index", tmp_path / "output"
    prepare_nuscenes(dataroot=SAMPLE, version=VERSION, splits=[SPLIT], output=index)
    data = [f"dataroot={SAMPLE}", f"version={VERSION}", f"index_dir={index}"]
    data += [f"train_split={SPLIT}", f"test_split={SPLIT}", "evaluator.official=false"]
    data += ["train.total_batch_size=1", "bev_aug.max_rotation=0.0", "bev_aug.scale=[1.0,1.0]"]
    train = ["max_iter=400", "device=cpu", f"output_dir={output}", "report.enabled=false"]
    grid = ["x_range=[-38.4,38.4]", "y_range=[-38.4,38.4]", "cell=0.8"]
    run(
        [
            *("--config-file", str(CONFIG)),
            *(f"dataloader.{override}" for override in data),
            *(f"train.{override}" for override in train),
            *(f"model.grid.{override}" for override in grid),
        ]
    )
    metrics = json.loads((output / "evaluation.json").read_text())["nuscenes"]
    found = {name: metrics[name] for name in WANTED}
    assert all(found[name] >= least for name, least in WANTED.items()), found
