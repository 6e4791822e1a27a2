"""train.deterministic: settings, errors, reproducible trainings."""

import importlib
import os
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fsdbev.config import load_config
from fsdbev.data.fake import fake_samples
from fsdbev.engine import Trainer, run
from fsdbev.engine.determinism import set_determinism
from fsdbev.inference.model_builder import build_model

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
TINY = sorted(
    path
    for folder in ("configs", "projects/*/configs")
    for path in ROOT.glob(f"{folder}/*_tiny_*.py")
)
#: FSD-BEV's always runs; each of the others takes half a minute.
CONFIGS = [
    pytest.param(path, id=path.stem, marks=() if "fsdbev" in path.name else (pytest.mark.slow,))
    for path in TINY
]

#: Operations that raise on GPUs under deterministic algorithms, by the documentation of
#: torch.use_deterministic_algorithms. F.interpolate replaces bilinear interpolation there.
RAISES = {
    *("_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward", "avg_pool3d_backward"),
    *("adaptive_max_pool2d_backward", "fractional_max_pool2d_backward", "max_unpool2d"),
    *("fractional_max_pool3d_backward", "max_pool3d_with_indices_backward", "max_unpool3d"),
    *("upsample_linear1d_backward", "upsample_bilinear2d_backward", "upsample_bicubic2d_backward"),
    *("upsample_trilinear3d_backward", "reflection_pad1d_backward", "reflection_pad2d_backward"),
    *("reflection_pad3d_backward", "nll_loss_forward", "nll_loss2d_forward", "_ctc_loss"),
    *("_embedding_bag", "put_", "put", "histc", "bincount", "median.dim", "cumsum"),
    *("grid_sampler_2d_backward", "grid_sampler_3d_backward", "scatter_reduce"),
}


@pytest.fixture
def flags(monkeypatch):
    """Restores everything that the option sets."""
    monkeypatch.setenv(WORKSPACE, "placeholder")  # so that monkeypatch restores it in any case
    monkeypatch.delenv(WORKSPACE)
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    mode = torch.get_deterministic_debug_mode()
    yield
    torch.set_deterministic_debug_mode(mode)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn


def settings(**changes):
    return OmegaConf.create({"deterministic": True, "seed": 0, **changes})


def write_in_any_order():
    """Runs an operation without a deterministic implementation on any device."""
    return torch.zeros(2).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))


def test_it_sets_what_there_is_and_operations_that_cannot_raise(flags):
    torch.backends.cudnn.benchmark = True
    write_in_any_order()
    set_determinism(settings())
    with pytest.raises(RuntimeError, match="put_ does not have a deterministic implementation"):
        write_in_any_order()
    assert torch.backends.cudnn.deterministic and not torch.backends.cudnn.benchmark
    assert os.environ[WORKSPACE] == ":4096:8"


@pytest.mark.parametrize("train", [settings(deterministic=False), OmegaConf.create({"seed": -1})])
def test_without_it_nothing_is_set(flags, train):
    set_determinism(train)
    assert not torch.are_deterministic_algorithms_enabled() and WORKSPACE not in os.environ


def test_random_seeds_and_other_workspaces_are_refused(flags, monkeypatch):
    with pytest.raises(ValueError, match=r"train.seed=-1 .* set it to 0 or more"):
        set_determinism(settings(seed=-1))
    assert not torch.are_deterministic_algorithms_enabled()
    monkeypatch.setenv(WORKSPACE, ":0:0")
    with pytest.raises(ValueError, match=r"CUBLAS_WORKSPACE_CONFIG=:4096:8 .* it is ':0:0'"):
        set_determinism(settings())


def test_an_initialized_cuda_is_refused_without_the_workspace_variable(flags, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.raises(ValueError, match="before CUDA starts, and CUDA runs already"):
        set_determinism(settings())
    monkeypatch.setenv(WORKSPACE, ":16:8")
    set_determinism(settings())
    assert torch.are_deterministic_algorithms_enabled()


def test_the_command_sets_the_workspace_before_it_starts_processes(flags, monkeypatch, tmp_path):
    main = importlib.import_module("fsdbev.engine.main")
    workspaces = []
    monkeypatch.setattr(main, "launch", lambda *_: workspaces.append(os.environ[WORKSPACE]))
    overrides = ["train.deterministic=True", f"train.output_dir={tmp_path}"]
    main.run(["--config-file", str(HERE / "toy_config.py"), *overrides])
    assert workspaces == [":4096:8"]


@pytest.mark.parametrize("options", [[], ["--eval-only"]], ids=["training", "evaluation"])
def test_trainings_and_evaluations_apply_it(flags, tmp_path, options):
    overrides = ["train.deterministic=True", "train.max_iter=1", f"train.output_dir={tmp_path}"]
    run([*options, "--config-file", str(HERE / "toy_config.py"), *overrides])
    assert torch.are_deterministic_algorithms_enabled()
    assert "Deterministic algorithms only" in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize("workers", [(2, 2), (0, 2)], ids=str)
def test_trainings_are_the_same_to_the_last_bit(flags, toy_config, workers):
    weights = []
    for number, count in enumerate(workers):
        changes = ("train.deterministic=True", f"dataloader.train.num_workers={count}")
        cfg = toy_config(*changes, output=f"run{number}")
        set_determinism(cfg.train)
        torch.manual_seed(cfg.train.seed)
        trainer = Trainer(cfg)
        trainer.train()
        weights.append([trainer.model.state_dict(), trainer.ema.model.state_dict()])
    for first, second in zip(*weights, strict=True):
        assert list(first) == list(second)
        assert all(torch.equal(first[name], second[name]) for name in first)


class Operations(TorchDispatchMode):
    """Collects the names of the operations of a block that have floating-point arguments."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        if any(tensor.is_floating_point() for tensor in tensors):
            self.names |= {func.overloadpacket.__name__, str(func).removeprefix("aten.")}
        return func(*args, **(kwargs or {}))


@pytest.fixture
def interpolation_of_gpus(monkeypatch):
    """Replaces F.interpolate by its decomposition of GPUs under deterministic algorithms."""
    original = torch.nn.functional.interpolate
    decomposed = importlib.import_module("torch._decomp.decompositions")._upsample_linear_vec
    calls = []

    def interpolate(x, size=None, scale_factor=None, mode="nearest", align_corners=None):
        if mode != "bilinear":
            return original(x, size, scale_factor, mode, align_corners)
        calls.append(mode)
        scale = None if scale_factor is None else [float(scale_factor)] * 2
        size = None if size is None else list(size)
        return decomposed(x, size, bool(align_corners), scale)

    monkeypatch.setattr(torch.nn.functional, "interpolate", interpolate)
    return calls


@pytest.mark.parametrize("config", CONFIGS)
def test_a_training_step_has_no_operation_that_raises_on_gpus(config, interpolation_of_gpus):
    cfg = load_config(str(config), ["train.device=cpu", "dataloader.image_size=[64,64]"])
    model = build_model(cfg).train()
    sizes = {"num_frames": model.num_frames, "num_cameras": 2, "image_size": (64, 64)}
    batch = fake_samples(2, **sizes, training=True)
    with Operations() as operations:
        sum(model(batch).values()).backward()
    assert "convolution_backward" in operations.names and interpolation_of_gpus
    assert not operations.names & RAISES


def test_operations_of_a_backward_pass_are_collected():
    x = torch.rand(1, 1, 3, 3, requires_grad=True)
    with Operations() as operations:
        torch.nn.functional.interpolate(x, size=(5, 5), mode="bilinear").sum().backward()
    assert operations.names & RAISES == {"upsample_bilinear2d_backward"}
