"""Parameters and multiply-adds by part against hooks, numbers by hand and MODEL_ZOO.md."""

import importlib.util
import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import nn

from fsdbev.config.overrides import apply_overrides
from fsdbev.d2.config import LazyConfig, instantiate
from fsdbev.data.fake import fake_samples
from fsdbev.layers import EXTENSION_BUILT
from fsdbev.utils.flops import OTHER, ModelCost, PartCost, analyze

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "configs" / "fsdbev_tiny_synthetic.py"
IMAGE_SIZE = (64, 96)
SMALLER = ["dataloader.image_size=[64,96]", "model.grid.cell=3.5"]


@pytest.fixture(scope="module")
def model():
    """The tiny model on 16x16 cells."""
    torch.manual_seed(0)
    return instantiate(apply_overrides(LazyConfig.load(str(TINY)), SMALLER).model)


@pytest.fixture(scope="module")
def cost(model):
    return analyze(model, image_size=IMAGE_SIZE, num_cameras=2)


def macs_from_hooks(model, num_cameras):
    """Returns multiply-adds of convolutions, linear layers and batch norms by part."""
    counts = {name: Counter() for name, _ in model.named_children()}

    def count(part, layer, output):
        if isinstance(layer, nn.Conv2d):
            kernel = layer.kernel_size[0] * layer.kernel_size[1]
            counts[part]["convolution"] += (
                output.numel() * layer.in_channels * kernel // layer.groups
            )
        elif isinstance(layer, nn.Linear):
            counts[part]["addmm"] += output.numel() * layer.in_features
        elif isinstance(layer, nn.modules.batchnorm._BatchNorm):
            counts[part]["native_batch_norm"] += 2 * output.numel()

    hooks = [
        layer.register_forward_hook(lambda m, _, output, part=part: count(part, m, output))
        for part, module in model.named_children()
        for layer in module.modules()
    ]
    sizes = {"num_frames": model.num_frames, "num_cameras": num_cameras, "image_size": IMAGE_SIZE}
    with torch.no_grad():
        model.eval()(fake_samples(1, **sizes))
    for hook in hooks:
        hook.remove()
    return counts


def test_layers_against_hooks_of_a_forward_pass(model, cost):
    for name, counts in macs_from_hooks(model, num_cameras=2).items():
        found = {k: n for k, n in cost.parts[name].operators.items() if k in counts}
        assert found == counts and (counts["convolution"] or name == "view_transform"), name


def test_parts_add_up_to_the_total(model, cost):
    assert list(cost.parts) == [*(name for name, _ in model.named_children()), OTHER]
    assert sum(part.parameters for part in cost.parts.values()) == cost.total.parameters
    assert cost.total.parameters == sum(p.numel() for p in model.parameters())
    assert sum(part.macs for part in cost.parts.values()) == cost.total.macs
    assert cost.parts[OTHER].parameters == 0 and cost.parts[OTHER].buffer_bytes == 2 * 3 * 4
    assert set(cost.parts[OTHER].operators) == {"bmm"}  # of the 4x4 matrices of the cameras


def test_temporal_stage_by_hand(model, cost):
    """Two frames: shortcut and four 3x3 convolutions, 16 to 16 channels on 16x16 cells."""
    values = 2 * 16 * 16 * 16
    assert cost.parts["temporal_stage"].operators == {
        "convolution": values * 5 * 9 * 16,
        "native_batch_norm": values * 4 * 2,
    }
    parameters = 5 * 9 * 16 * 16 + 16 + 4 * 2 * 16
    assert cost.parts["temporal_stage"].parameters == parameters
    assert cost.parts["temporal_stage"].parameter_bytes == 4 * parameters
    assert cost.parts["temporal_stage"].buffer_bytes == 4 * (2 * 16 * 4 + 8)  # of four norms


@pytest.mark.skipif(not EXTENSION_BUILT, reason="needs the compiled operators")
def test_view_transform_by_hand(cost):
    """Two frames of two cameras, 40 bins, 4x6 cells, 16 channels."""
    assert cost.parts["view_transform"].operators == {"lift_splat": 2 * 2 * 40 * 4 * 6 * 16}


def test_one_more_camera(model, cost):
    more = analyze(model, image_size=IMAGE_SIZE, num_cameras=3)
    for name in ("backbone", "neck", "msfe", "depth_net"):
        assert more.parts[name].macs == cost.parts[name].macs * 3 // 2
    for name in ("temporal_stage", "bev_encoder", "head"):
        assert more.parts[name] == cost.parts[name]


def test_a_stream_runs_the_image_branch_once(cost):
    saved = {name: part.macs - cost.stream_macs()[name] for name, part in cost.parts.items()}
    for name in ("backbone", "neck", "msfe"):
        assert 2 * saved.pop(name) == cost.parts[name].macs
    # One frame of two cameras, 4x6 cells: 3x3 convolution of 32 to 32 channels, norm.
    assert saved.pop("depth_net") == 2 * 4 * 6 * 32 * (9 * 32 + 2)
    assert set(saved.values()) == {0}


def test_a_stream_of_three_frames():
    parts = {name: PartCost(0, 0, 0, {"convolution": 30}) for name in ("backbone", "head")}
    cost = ModelCost(parts, PartCost(0, 0, 0, {}), image_branch={"backbone": 30}, num_frames=3)
    assert cost.stream_macs() == {"backbone": 10, "head": 30}


def test_the_model_is_unchanged(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    analyze(model, image_size=IMAGE_SIZE, num_cameras=1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.fixture(scope="module")
def tool():
    path = ROOT / "tools" / "analyze_model.py"
    spec = importlib.util.spec_from_file_location("analyze_model_tool", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tool_prints_and_writes(tool, cost, tmp_path, capsys):
    arguments = ["--config-file", str(TINY), *SMALLER, "--num-cameras", "2"]
    assert tool.main([*arguments, "--json", str(tmp_path / "cost.json")]) == 0
    printed = capsys.readouterr()
    assert "2 frames of 2 cameras at 64x96, BEV 16x16, 40 depth bins" in printed.out
    total = next(line for line in printed.out.splitlines() if line.startswith("total"))
    stream = sum(cost.stream_macs().values())
    numbers = (cost.total.parameters / 1e6, cost.total.macs / 1e9, stream / 1e9)
    assert total.split()[1:] == [f"{number:.3f}" for number in numbers]
    assert "by operator: convolution 9" in printed.out and not printed.err
    weights = [line for line in printed.out.splitlines() if line.startswith("total")][1]
    assert weights.split()[1] == f"{4 * cost.total.parameters / 2**20:.3f}"
    assert "kept for backward" not in printed.out

    written = json.loads((tmp_path / "cost.json").read_text())
    assert written["image_size"] == [64, 96] and written["num_cameras"] == 2
    assert (written["macs"], written["stream_macs"]) == (cost.total.macs, stream)
    assert {name: part["macs"] for name, part in written["parts"].items()} == {
        name: part.macs for name, part in cost.parts.items()
    }


def test_the_tool_prints_the_memory_of_a_batch(tool, tmp_path, capsys):
    arguments = ["--config-file", str(TINY), *SMALLER, "--num-cameras", "2", "train.device=cpu"]
    arguments += ["--memory", "--batch", "2", "--json", str(tmp_path / "cost.json")]
    assert tool.main(arguments) == 0
    printed = capsys.readouterr().out
    written = json.loads((tmp_path / "cost.json").read_text())
    memory = written["memory"]
    assert written["batch"] == 2 and memory["optimizer"] > 2 * memory["gradients"]
    parts = written["parts"].values()
    weights = sum(part["parameter_bytes"] + part["buffer_bytes"] for part in parts)
    evaluating = f"evaluating: {(weights + memory['inference']) / 2**20:.1f} MiB"
    step = 2 * weights + memory["optimizer"] + memory["training"]  # weights and their average
    assert evaluating in printed and f"training: {step / 2**20:.1f} MiB" in printed
    kept = [line for line in printed.splitlines() if line.startswith("total")][1].split()[3]
    assert kept == f"{sum(memory['saved'].values()) / 2**20:.3f}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config-file", "no.py"], "no.py"),
        (["--config-file", str(TINY), "model.nothing=1"], "unknown key 'model.nothing'"),
        (["--config-file", str(TINY), "--num-cameras", "0"], "must be at least 1, got 2, 0 and"),
        (["--config-file", str(TINY), "--memory", "--batch", "0"], "--batch must be at least 1"),
    ],
)
def test_wrong_arguments_are_errors_of_the_tool(tool, capsys, arguments, message):
    assert tool.main(arguments) == 1
    printed = capsys.readouterr()
    assert message in printed.err and "Traceback" not in printed.err


def zoo_table(title):
    """Returns the rows about a config of the table under a heading of MODEL_ZOO.md."""
    text = (ROOT / "MODEL_ZOO.md").read_text(encoding="utf-8")
    section = text.split(f"## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    header, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    rows = [row for row in rows if row[0].startswith("`")]
    return [{**dict(zip(header, row, strict=True)), "config": row[0].strip("`")} for row in rows]


def agrees(text, value):
    """Whether ``text`` is ``value`` rounded to the number of decimals of ``text``."""
    return text == f"{value:.{len(text.partition('.')[2])}f}"


@pytest.mark.parametrize("row", zoo_table("Settings"), ids=lambda row: row["config"])
def test_settings_of_the_model_zoo(row):
    cfg = LazyConfig.load(str(ROOT / row["config"]))
    height, width = cfg.dataloader.image_size
    rows, columns = instantiate(cfg.model.grid).shape
    assert row["input"] == f"{height}x{width}" and row["BEV"] == f"{rows}x{columns}"
    assert row["depth bins"] == str(instantiate(cfg.model.depth_bins).count)


@pytest.mark.parametrize("row", zoo_table("Parameters"), ids=lambda row: row["config"])
def test_parameters_of_the_model_zoo(row):
    with torch.device("meta"):
        model = instantiate(LazyConfig.load(str(ROOT / row["config"])).model)
    parts = {**dict(model.named_children()), "total": model}
    for name, part in parts.items():
        millions = sum(p.numel() for p in part.parameters()) / 1e6
        assert agrees(row[name], millions), f"{name}: {row[name]}, measured {millions}"


def embedding_gmacs(cfg):
    """Returns GMACs of the depth network's first convolution and norm, one frame of six cameras."""
    height, width = cfg.dataloader.image_size
    inputs, outputs = cfg.model.neck.out_channels, cfg.model.depth_net.mid_channels
    return 6 * (height // 16) * (width // 16) * outputs * (9 * inputs + 2) / 1e9


@pytest.mark.parametrize("row", zoo_table("GMACs"), ids=lambda row: row["config"])
def test_gmacs_of_the_model_zoo(row):
    """Only the tiny model is measured; the others take minutes, so their rows must add up."""
    numbers = {name: float(cell) for name, cell in row.items() if name != "config"}
    parts = [name for name in numbers if name not in ("total", "in a stream")]
    saved = sum(numbers[name] / 2 for name in ("backbone", "neck", "msfe"))
    saved += embedding_gmacs(LazyConfig.load(str(ROOT / row["config"])))
    rounding = 0.5 * 10.0 ** -len(row["total"].partition(".")[2]) * (len(parts) + 1)
    assert sum(numbers[name] for name in parts) == pytest.approx(numbers["total"], abs=rounding)
    assert numbers["total"] - saved == pytest.approx(numbers["in a stream"], abs=rounding)
    if row["config"] == "configs/fsdbev_tiny_synthetic.py" and EXTENSION_BUILT:
        cfg = LazyConfig.load(str(TINY))
        cost = analyze(instantiate(cfg.model), image_size=cfg.dataloader.image_size)
        assert all(agrees(row[name], cost.parts[name].macs / 1e9) for name in parts)
        assert agrees(row["total"], cost.total.macs / 1e9)
        assert agrees(row["in a stream"], sum(cost.stream_macs().values()) / 1e9)
