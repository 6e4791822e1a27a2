"""Every config file instantiates; the published configs have the paper's settings."""

from pathlib import Path

import pytest
import torch

from fsdbev.config import load_config
from fsdbev.config.overrides import apply_overrides
from fsdbev.d2.config import LazyConfig, instantiate
from fsdbev.d2.modeling import META_ARCH_REGISTRY
from fsdbev.engine.lazy_builders import build_optimizer

ROOT = Path(__file__).resolve().parents[1]
#: Files that the leaf configs import.
PARTS = {*(ROOT / "configs/common").rglob("*.py"), ROOT / "configs/ablations/rows.py"}
PRETRAINING = sorted((ROOT / "configs/pretraining").glob("*.py"))
LEAVES = sorted({*(ROOT / "configs").rglob("*.py")} - PARTS - {*PRETRAINING})
PROJECTS = sorted((ROOT / "projects").glob("*/configs/*.py"))


def config_name(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").as_posix().removeprefix("configs/")


def load(name: str):
    return LazyConfig.load(str(ROOT / "configs" / f"{name}.py"))


@pytest.mark.parametrize("path", [*LEAVES, *PROJECTS], ids=config_name)
def test_every_config_is_short_and_instantiates_also_after_saving(path, tmp_path):
    assert len(path.read_text().splitlines()) <= 50
    cfg = load_config(str(path))
    is_project = path in PROJECTS
    assert cfg.train.plugins == ([f"projects.{path.parents[1].name}"] if is_project else [])
    LazyConfig.save(cfg, str(tmp_path / "config.yaml"))
    with torch.device("meta"):
        model = instantiate(cfg.model)
        again = instantiate(LazyConfig.load(str(tmp_path / "config.yaml")).model)
    assert is_project or type(model) is META_ARCH_REGISTRY.get("FSDBEV")
    first, second = ({k: v.shape for k, v in m.state_dict().items()} for m in (model, again))
    assert first == second
    assert isinstance(build_optimizer(cfg.optimizer, model), torch.optim.AdamW)
    scheduler = instantiate(cfg.lr_multiplier)
    assert 0 < scheduler(0.0) < 0.1  # warm-up
    mapper = instantiate(cfg.dataloader.train.mapper)
    assert mapper.image_size == tuple(cfg.dataloader.image_size)
    assert mapper.num_frames == model.num_frames
    assert mapper.grid == model.grid
    cfg.dataloader.evaluator.dataset = None  # there are no data
    assert instantiate(cfg.dataloader.evaluator).reset() is None


@pytest.mark.parametrize("path", PRETRAINING, ids=config_name)
def test_pretraining_of_the_tiny_backbone(path, tmp_path):
    assert len(path.read_text().splitlines()) <= 50
    cfg = load_config(str(path))
    LazyConfig.save(cfg, str(tmp_path / "config.yaml"))
    again = instantiate(LazyConfig.load(str(tmp_path / "config.yaml")).model).state_dict()
    detector = instantiate(load("fsdbev_tiny_synthetic").model).state_dict()
    shared = [key for key in again if key.startswith(("backbone.", "neck."))]
    assert {key: again[key].shape for key in shared} == {k: detector[k].shape for k in shared}
    mapper = instantiate(cfg.dataloader.train.mapper)
    assert list(mapper.image_aug.image_size) == list(cfg.dataloader.image_size)
    assert instantiate(cfg.dataloader.evaluator).reset() is None


@pytest.mark.parametrize(
    "name, image_size, bev, depths",
    [
        ("fsdbev_r50_cbgs", (256, 704), (128, 128), 118),
        ("fsdbev_r50_cbgs_bev256", (256, 704), (256, 256), 118),
        ("fsdbev_r101_cbgs", (512, 1408), (256, 256), 236),
    ],
)
def test_published_settings(name, image_size, bev, depths):
    cfg = load(name)
    assert tuple(cfg.dataloader.image_size) == image_size
    assert instantiate(cfg.model.grid).shape == bev
    assert instantiate(cfg.model.depth_bins).count == depths
    assert cfg.model.head.grid == cfg.model.grid
    assert cfg.dataloader.train.total_batch_size == 64
    assert (cfg.optimizer.lr, cfg.optimizer.weight_decay) == (2e-4, 1e-2)
    assert cfg.train.clip_grad.max_norm == 5
    scheduler = instantiate(cfg.lr_multiplier)
    assert scheduler(0.0) == pytest.approx(1e-3)
    assert scheduler(200 / cfg.train.max_iter) == pytest.approx(1.0)
    assert scheduler(1.0) == pytest.approx(1.0)


def test_slower_running_statistics_of_resnet101():
    """As in the release: of the image backbone and of the BEV stage applied to every frame."""
    model = load("fsdbev_r101_cbgs").model
    momenta = [part.bn_momentum for part in (model.backbone, model.temporal_stage)]
    assert momenta == [0.01, 0.01] and model.bev_encoder.bn_momentum == 0.1


@pytest.mark.parametrize(
    "folder, complete",
    [("ablations", "ablations/fsd_pci_msfe"), ("ablations/tiny", "fsdbev_tiny_synthetic")],
)
@pytest.mark.parametrize(
    "row, msfe, intensified, teacher_fill",
    [
        ("baseline", "ForegroundBranch", False, None),
        ("fsd", "ForegroundBranch", False, "paper"),
        ("fsd_pci", "ForegroundBranch", True, "paper"),
        (None, "MSFE", True, "paper"),
    ],
)
def test_ablation_rows_only_differ_in_their_components(
    folder, complete, row, msfe, intensified, teacher_fill
):
    cfg, complete = load(f"{folder}/{row}" if row else complete), load(complete)
    with torch.device("meta"):
        model = instantiate(cfg.model)
    assert type(model.msfe).__name__ == msfe
    assert model.teacher_fill == teacher_fill
    mapper = instantiate(cfg.dataloader.train.mapper)
    assert (mapper.frame_combination, mapper.pseudo_points) == (intensified, intensified)
    cfg.model.msfe, cfg.model.teacher_fill = complete.model.msfe, complete.model.teacher_fill
    cfg.model.neck.skip_finest = 0
    cfg.dataloader.frame_combination = cfg.dataloader.pseudo_points = True
    assert cfg == complete


def test_the_complete_ablation_is_the_main_config():
    assert load("ablations/fsd_pci_msfe") == load("fsdbev_r50_cbgs")


def test_one_override_changes_the_grid():
    cfg = apply_overrides(load("fsdbev_r50_cbgs"), ["model.grid.cell=1.6"])
    with torch.device("meta"):
        model = instantiate(cfg.model)
    grids = {model.grid, model.view_transform.grid, model.head.grid}
    assert {grid.shape for grid in grids} == {(64, 64)}
    assert instantiate(cfg.dataloader.train.mapper).grid == model.grid


def test_one_override_changes_the_data_root():
    cfg = apply_overrides(load("fsdbev_r50_cbgs"), ["dataloader.dataroot=/elsewhere"])
    assert cfg.dataloader.train.dataset.dataroot == "/elsewhere"
    assert cfg.dataloader.test.dataset.dataroot == "/elsewhere"
    assert cfg.dataloader.evaluator.dataroot == "/elsewhere"
    assert cfg.dataloader.test.dataset.index_dir == "/elsewhere/fsdbev/v1.0-trainval"
