"""The benchmark tool: it runs, checks before it times, and what it counts adds up. How fast is for
a reader to judge."""

import importlib
import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

from fsdbev.layers import EXTENSION_BUILT
from fsdbev.layers._extension import KERNEL_DEVICES

TOOL = Path(__file__).parents[1] / "tools/benchmark.py"
#: Two cameras of 32 x 64 pixels, six bins, three channels, 16 x 16 cells, few boxes.
SMALL = ("--views", 2, "--bins", 6, "--channels", 3, "--image-size", 32, 64, "--grid", 16)
SMALL += ("--kept", 0.3, "--boxes", 20, "--image-boxes", 2, "--sample-boxes", 4)
SMALL += ("--batch", 1, 2, "--repeat", 2, "--seconds", 0, "--threads", 1)
OPERATORS = {
    "lift_splat": {"lift_splat", "splat_cells", "frustum_cells"},
    "nms": {"rotated_iou", "rotated_nms", "circle_nms", "grouped_nms"},
    "heatmaps": {"elliptical_heatmaps", "draw_gaussians", "center_targets"},
}

needs_operators = pytest.mark.skipif(
    not EXTENSION_BUILT, reason="the compiled operators are not built"
)


@pytest.fixture
def benchmark(monkeypatch, capsys):
    """Runs the tool; returns its status, what it printed and what it complained of."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    main = runpy.run_path(str(TOOL))["main"]
    threads = torch.get_num_threads()

    def run(*arguments):
        status = main(list(map(str, arguments)))
        return status, *capsys.readouterr()

    yield run
    torch.set_num_threads(threads)


@pytest.fixture
def part(benchmark):
    """Imports a module of the tool."""
    return lambda name: importlib.import_module(f"benchmarks.{name}")


def test_data(benchmark, tmp_path):
    sizes = ("--rows", 50, "--boxes", 5, "--points", 640, "--labels", 3, "--start", "fork")
    status, printed, _ = benchmark("data", *sizes, "--folder", tmp_path)
    lines = printed.splitlines()
    table = {line[:58].strip(): float(line[58:].split()[0].replace(",", "")) for line in lines}
    assert status == 0
    assert table["index: samples"] == 50 and table["index: boxes"] == 5 * 50
    assert table["labels: samples"] == 3 and 100 < table["labels: labelled pixels a sample"] < 1500
    assert all(value >= 0 for name, value in table.items() if "added" not in name)
    assert ("worker (fork): private memory before" in table) == Path("/proc/self").exists()
    assert not list(tmp_path.iterdir())


def test_no_data_to_measure(benchmark):
    status, _, complaint = benchmark("data", "--rows", 0)
    assert status == 1 and "start at 1" in complaint


@needs_operators
def test_every_operator_has_its_rows(benchmark, tmp_path):
    path = tmp_path / "rows.json"
    status, printed, complaint = benchmark("ops", *SMALL, "--json", path)
    assert (status, complaint) == (0, "")
    content = json.loads(path.read_text())
    rows = content["rows"]
    found = {subject: {r["op"] for r in rows if r["subject"] == subject} for subject in OPERATORS}
    assert found == OPERATORS
    assert content["settings"]["bins"] == 6 and content["machine"]["threads"] == 1
    for row in rows:
        own = row["milliseconds"]["ours"]
        assert own > 0 and row["repetitions"] == 2
        assert row["fastest"].keys() == row["milliseconds"].keys()
        assert all(row["fastest"][side] <= row["milliseconds"][side] for side in row["fastest"])
        assert set(row["ratios"]) == set(row["milliseconds"]) - {"ours"} != set()
        for side, ratio in row["ratios"].items():
            assert ratio == pytest.approx(row["milliseconds"][side] / own)
        assert row["gigabytes_per_second"] == pytest.approx(row["megabytes"] / own)
    tables = printed.split("\n\n")[1:]
    assert [table.split(":")[0] for table in tables] == list(OPERATORS)
    printed_rows = [line for table in tables for line in table.splitlines()[2:]]
    assert [line.split()[0] for line in printed_rows] == [row["op"] for row in rows]
    assert list(tmp_path.iterdir()) == [path]


@needs_operators
def test_rows_of_lift_splat(benchmark, tmp_path):
    path = tmp_path / "rows.json"
    benchmark("ops", *SMALL, "--only", "lift_splat", "--json", path)
    rows = [row for row in json.loads(path.read_text())["rows"] if row["op"] == "lift_splat"]
    names = [f"B {b} {masks} 0.3" for b in (1, 2) for masks in ("scattered", "clustered")]
    names.append("B 2 clustered 0.3, S 2, pasted")
    passes = ("forward", "fwd+bwd")
    assert [(row["sizes"], row["passes"]) for row in rows] == [
        (n, p) for n in names for p in passes
    ]
    assert all(set(row["ratios"]) == {"twin", "reference"} for row in rows)
    assert all(0 < row["kept"] < 0.5 for row in rows)
    # Two views of 2 x 4 features: weights of 6 bins, foreground, 3 channels; 3 maps of 16 x 16.
    weights, foreground, context, bev = (4 * n for n in (2 * 6 * 8, 2 * 8, 2 * 3 * 8, 3 * 256))
    read = weights + foreground + context
    forward, both = (row["megabytes"] for row in rows[:2])
    assert forward == pytest.approx((read + bev) / 1e6)
    assert both == pytest.approx((2 * (read + bev) + weights + context) / 1e6)


@needs_operators
def test_one_sample_has_nothing_to_paste(benchmark):
    status, printed, complaint = benchmark("ops", *SMALL, "--only", "lift_splat", "--batch", 1)
    assert (status, complaint) == (0, "") and "B 1 clustered 0.3, S 2, pasted" in printed


@needs_operators
def test_slow_sides_run_on_demand(benchmark, part, monkeypatch, tmp_path):
    monkeypatch.setattr(part("lift_splat"), "_SLOW_POINTS", 0)
    path = tmp_path / "rows.json"
    for more, is_left_out in (((), True), (("--slow",), False)):
        _, printed, _ = benchmark("ops", *SMALL, "--only", "lift_splat", "--json", path, *more)
        row = json.loads(path.read_text())["rows"][0]
        assert (row["ratios"]["twin"] is None) == is_left_out
        assert (row["milliseconds"]["twin"] is None) == is_left_out
        assert row["ratios"]["reference"] > 0
        assert (" - " in printed) == is_left_out


def shifted(op):
    """The same operator but for the place of its first results."""

    def wrong(*arguments, **settings):
        result = op(*arguments, **settings)
        return result.roll(1, dims=-1) if isinstance(result, torch.Tensor) else result[::-1]

    return wrong


def wrong_gradient(op):
    def wrong(weights, *others, **settings):
        return op(weights.detach() + (weights - weights.detach()) * 1.1, *others, **settings)

    return wrong


@needs_operators
@pytest.mark.parametrize(
    ("subject", "module", "operator", "damage"),
    [
        ("lift_splat", "lift_splat", "lift_splat", shifted),
        ("lift_splat", "lift_splat", "lift_splat", wrong_gradient),
        ("lift_splat", "lift_splat", "splat_cells", shifted),
        ("nms", "boxes", "rotated_iou", shifted),
        ("nms", "boxes", "rotated_nms", shifted),
        ("nms", "boxes", "grouped_nms", shifted),
        ("heatmaps", "heatmaps", "elliptical_heatmaps", shifted),
        ("heatmaps", "heatmaps", "draw_gaussians", shifted),
    ],
)
def test_stops_where_sides_do_not_agree(
    benchmark, part, monkeypatch, tmp_path, subject, module, operator, damage
):
    home, path = part(module), tmp_path / "rows.json"
    monkeypatch.setattr(home, operator, damage(getattr(home, operator)))
    status, printed, complaint = benchmark("ops", *SMALL, "--only", subject, "--json", path)
    assert status == 1
    assert operator in complaint and "do not agree" in complaint
    assert " x " not in printed  # no table
    assert not path.exists()


@needs_operators
@pytest.mark.parametrize("kind", ["scattered", "clustered"])
@pytest.mark.parametrize("share", [0.02, 0.7])
def test_masks_keep_what_they_should(part, kind, share):
    shape = (1, 6, 118, 16, 44)
    masks = part("surround_view").MASKS[kind]
    weights, foreground = masks(share, shape, torch.Generator().manual_seed(0))
    kept = (weights >= 1 / 118) & (foreground >= 0.1)[:, :, None]
    assert kept.float().mean().item() == pytest.approx(share, rel=0.1)
    runs = (kept.int().diff(dim=2, prepend=torch.zeros_like(kept[:, :, :1]).int()) == 1).sum(dim=2)
    if kind == "clustered":
        assert runs.max() == 1  # of neighbouring bins, at pixels that neighbour each other
        pixels = foreground >= 0.1
        alike = (pixels[..., 1:] == pixels[..., :-1]).float().mean().item()
        assert alike > 0.8
    else:
        assert runs.max() > 1


@needs_operators
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--repeat", 0), "--repeat"),
        (("--batch", 1, 0), "--batch"),
        (("--kept", 0), "--kept must be above 0"),
        (("--bins", 0), "--bins"),
        (("--image-size", 8, 64), "--image-size"),
        (("--json", "no/such/folder/rows.json"), "no folder"),
    ],
)
def test_arguments_that_make_no_sense(benchmark, arguments, complaint):
    status, printed, found = benchmark("ops", *SMALL, *arguments)
    assert (status, printed) == (1, "") and complaint in found


def test_operators_not_built(benchmark, part, monkeypatch):
    monkeypatch.setattr(part("ops"), "KERNEL_DEVICES", ())
    status, _, complaint = benchmark("ops")
    assert status == 1 and "not built for cpu" in complaint and "pip install" in complaint


@needs_operators
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu(benchmark):
    status, _, complaint = benchmark("ops", "--device", "cuda")
    assert status == 1 and "finds no GPU" in complaint


@needs_operators
@pytest.mark.skipif(
    "cuda" not in KERNEL_DEVICES or not torch.cuda.is_available(), reason="needs a GPU"
)
def test_cuda(benchmark):
    status, printed, complaint = benchmark("ops", *SMALL, "--device", "cuda")
    assert (status, complaint) == (0, "") and "elliptical_heatmaps" in printed
