"""A saved config.yaml keeps its references: its overrides reach the same places as the file's."""

from pathlib import Path

import pytest

from fsdbev.config import config_text, load_config, resolved

ROOT = Path(__file__).parents[2]
NAMES = ("fsdbev_r50_cbgs", "fsdbev_tiny_synthetic", "lss_tiny_synthetic", "sabev_r50_msct")
FILES = [*ROOT.glob("configs/*.py"), *ROOT.glob("projects/*/configs/*.py")]
CONFIGS = [path for path in sorted(FILES) if path.stem in NAMES]
OVERRIDES = [
    "model.grid.cell=0.5",
    "model.num_frames=3",
    "model.neck.out_channels=24",
    "model.depth_net.context_channels=12",
    "dataloader.dataroot=/data/other",
    "dataloader.version=v1.0-mini",
    "dataloader.image_size=[64,176]",
    "train.max_iter=100",
    "train.seed=5",
    "train.output_dir=/tmp/run",
]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_overrides_of_a_saved_config_reach_every_place(path, tmp_path):
    saved = tmp_path / "config.yaml"
    saved.write_text(config_text(load_config(str(path))))
    of_file, of_saved = (load_config(str(source), OVERRIDES) for source in (path, saved))
    assert config_text(resolved(of_saved)) == config_text(resolved(of_file))
    assert resolved(of_saved).dataloader.evaluator.dataroot == "/data/other"
    assert resolved(of_saved).model.head.grid.cell == 0.5
