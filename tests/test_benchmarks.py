"""tools/benchmark.py: every subject runs, and compares results before it measures times."""

import importlib
import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

from fsdbev.layers import EXTENSION_BUILT
from fsdbev.layers._extension import KERNEL_DEVICES

ROOT = Path(__file__).parents[1]
TINY = str(ROOT / "configs/fsdbev_tiny_synthetic.py")
#: Arguments that make each subject fast.
SMALL = {
    "ops": "--views 2 --bins 6 --channels 3 --image-size 32 64 --grid 16 --kept 0.3 --boxes 20 "
    "--image-boxes 2 --batch 1 2 --repeat 2 --seconds 0 --threads 1",
    "loader": "--source-size 320 180 --image-size 64 176 --boxes 8 --points 2000 --samples 2 "
    "--workers 0",
    "train": f"dataloader.image_size=[32,64] --config-file {TINY} --batch 1 --num-cameras 2 "
    "--steps 1 --rounds 1 --threads 1 --variants float32",
    "infer": f"dataloader.image_size=[32,64] model.grid.cell=7.0 --config-file {TINY} --cameras 2 "
    "--frames 2 --threads 1",
    "eval": "--samples 3 --boxes 30 --objects 20 --repeat 1",
}
OPERATORS = {
    "lift_splat": {"lift_splat", "splat_cells"},
    "nms": {"rotated_iou", "rotated_nms", "grouped_nms"},
    "heatmaps": {"elliptical_heatmaps"},
}
needs_operators = pytest.mark.skipif(
    not EXTENSION_BUILT, reason="the compiled operators are not built"
)
needs_gpu = pytest.mark.skipif(
    "cuda" not in KERNEL_DEVICES or not torch.cuda.is_available(), reason="needs a GPU"
)


@pytest.fixture
def benchmark(monkeypatch, capsys, tmp_path):
    """Runs a subject with its arguments of SMALL and more; returns the exit status, stdout, stderr
    and the content of the JSON file, or None."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    main = runpy.run_path(str(ROOT / "tools/benchmark.py"))["main"]
    monkeypatch.setattr(part("machine"), "_MATRIX", {"cpu": 64, "cuda": 64})
    threads, path = torch.get_num_threads(), tmp_path / "rows.json"

    def run(subject, *more):
        arguments = [subject, *SMALL[subject].split(), "--json", path, *more]
        status = main(list(map(str, arguments)))
        content = json.loads(path.read_text()) if path.exists() else None
        return status, *capsys.readouterr(), content

    yield run
    torch.set_num_threads(threads)


def part(name):
    """Imports a module of the tool."""
    return importlib.import_module(f"benchmarks.{name}")


@needs_operators
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])
def test_ops(benchmark, device):
    status, printed, error, content = benchmark("ops", "--device", device)
    assert (status, error) == (0, "")
    rows = content["rows"]
    assert {row["op"] for row in rows} == set.union(*OPERATORS.values())
    assert content["settings"]["bins"] == 6 and content["machine"]["threads"] == 1
    for row in rows:
        sides = [name.removesuffix(" ms") for name in row if name.endswith(" ms")]
        assert len(sides) > 1
        for side in sides[1:]:
            assert row[f"{side} x"] == pytest.approx(row[f"{side} ms"] / row["ours ms"])
    words = [line.split() for line in printed.splitlines()]
    found = [line[0] for line in words if {"forward", "fwd+bwd"} & set(line)]
    assert found == [row["op"] for row in rows]


@needs_operators
def test_slow_implementations_run_on_demand(benchmark, monkeypatch):
    monkeypatch.setattr(part("lift_splat"), "_SLOW_POINTS", 0)
    for more, is_left_out in (((), True), (("--slow",), False)):
        _, printed, _, content = benchmark("ops", "--only", "lift_splat", "--batch", 1, *more)
        row = content["rows"][0]
        assert (row["reference ms"] is None) == (row["reference x"] is None) == is_left_out
        assert row["published x"] > 0 and (" - " in printed) == is_left_out


def shifted(op):
    """Returns the operator with shifted results."""

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
        ("nms", "boxes", "rotated_iou", shifted),
        ("nms", "boxes", "rotated_nms", shifted),
        ("heatmaps", "heatmaps", "elliptical_heatmaps", shifted),
    ],
)
def test_operators_that_differ_are_not_timed(
    benchmark, monkeypatch, subject, module, operator, damage
):
    module = part(module)
    monkeypatch.setattr(module, operator, damage(getattr(module, operator)))
    status, printed, error, content = benchmark("ops", "--only", subject)
    assert status == 1 and operator in error and "do not agree" in error
    assert "ours ms" not in printed and content is None


def test_loader(benchmark):
    status, printed, error, content = benchmark("loader")
    assert (status, error) == (0, "")
    rows = {row["op"]: row for row in content["rows"]}
    assert list(rows) == ["decode", "augment", "label maps", "heatmaps", "all"]
    assert all(row["ours ms"] > 0 and row["published x"] > 0 for row in rows.values())
    assert content["samples_per_second"]["0"] > 0 and "0 workers: " in printed


@pytest.mark.parametrize("step", ["decode", "augment"])
def test_a_loader_that_differs_is_not_timed(benchmark, monkeypatch, step):
    original = getattr(part("loader"), step)
    monkeypatch.setattr(part("loader"), step, lambda *given: original(*given).rotate(9))
    status, _, error, content = benchmark("loader")
    assert status == 1 and f"{step}, 12 images" in error and content is None


def test_photos_are_about_as_large_as_those_of_nuscenes(benchmark, tmp_path):
    part("drive").write_photo(tmp_path / "photo.jpg", 0, (1600, 900))
    assert 120e3 < (tmp_path / "photo.jpg").stat().st_size < 260e3


@pytest.mark.slow
def test_train(benchmark):
    status, printed, error, content = benchmark("train", "--variants", "float32", "checkpointing")
    assert (status, error) == (0, ""), error
    first, second = content["rows"]
    assert first["x"] == 1 and second["x"] == pytest.approx(
        first["ms a step"] / second["ms a step"]
    )
    assert first["peak GB"] > 0.1
    assert [line.split()[0] for line in printed.splitlines()[-2:]] == ["float32", "checkpointing"]


def test_error_of_a_variant(benchmark, monkeypatch):
    monkeypatch.setitem(SMALL, "train", f"model.backbone.depth=7 {SMALL['train']}")
    status, _, error, _ = benchmark("train")
    assert status == 1 and error.startswith("error: variant float32 ended with status 1: ")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_infer(benchmark, precision):
    status, printed, error, content = benchmark("infer", "--precision", precision)
    assert (status, error) == (0, "")
    every, stream = content["rows"]
    assert every["x"] == 1
    assert stream["x"] == pytest.approx(every["ms"] / stream["ms"])
    assert 1.1 < every["GMACs"] / stream["GMACs"] < 2
    assert content["machine"]["same boxes"] == "100.00 %"
    assert [line.split()[0] for line in printed.splitlines()[-2:]] == ["all", "stream"]


def test_a_stream_that_differs_is_not_timed(benchmark, monkeypatch):
    class Wrong(part("infer").StreamingPredictor):
        """Stream that always uses the features of the first sample."""

        def _find_frame(self, sample, t, new):
            first = vars(self).setdefault("first", {})
            if t not in first:
                first[t] = super()._find_frame(sample, t, new)
            return first[t]

    monkeypatch.setattr(part("infer"), "StreamingPredictor", Wrong)
    status, _, error, content = benchmark("infer")
    assert status == 1 and "no times are reported" in error and content is None


def test_eval(benchmark):
    status, printed, error, content = benchmark("eval")
    assert (status, error) == (0, "")
    rows = content["rows"]
    assert [row["side"] for row in rows] == ["ours, truth read", "ours, truth kept", "devkit"]
    for row in rows:
        assert row["devkit x"] == pytest.approx(rows[-1]["ms a sample"] / row["ms a sample"])
        assert row["peak MB"] > 0


def test_metrics_that_differ_are_not_timed(benchmark):
    differ = part("eval").summaries_differ
    one = {"eval_time": 1.0, "mean_ap": 0.5, "tp_errors": {"vel_err": float("nan")}}
    assert differ(one, {**one, "eval_time": 2.0, "mean_ap": 0.5 + 1e-10}) == ""
    assert differ({**one, "mean_ap": 0.5 + 1e-8}, one) == "mean_ap"
    assert differ({**one, "tp_errors": {"vel_err": 0.0}}, one) == "tp_errors/vel_err"


@pytest.mark.parametrize(
    ("subject", "arguments", "message"),
    [
        ("ops", ("--repeat", 0), "--repeat must be at least 1, got 0"),
        ("ops", ("--batch", 1, 0), "--batch"),
        ("ops", ("--kept", 0), "--kept must be above 0"),
        ("ops", ("--image-size", 8, 64), "--image-size"),
        ("ops", ("--json", "no/such/folder/rows.json"), "no folder"),
        ("loader", ("--points", 0), "--points"),
        ("train", ("--steps", 0), "--steps"),
        ("infer", ("--cameras", 0), "--cameras"),
        ("eval", ("--samples", 0), "--samples"),
    ],
)
def test_invalid_arguments(benchmark, subject, arguments, message):
    if subject == "ops" and not EXTENSION_BUILT:
        pytest.skip("the compiled operators are not built")
    status, printed, error, content = benchmark(subject, *arguments)
    assert (status, printed, content) == (1, "", None) and message in error


def test_overrides_between_options(monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", list(sys.path))
    parse = runpy.run_path(str(ROOT / "tools/benchmark.py"))["parse_arguments"]
    assert parse(["infer", "a=1", "--threads", "1", "b=2"]).overrides == ["a=1", "b=2"]
    for wrong in (["infer", "a=1", "--thread=1", "c"], ["ops", "a=1"]):
        with pytest.raises(SystemExit):
            parse(wrong)
        assert f"unrecognized arguments: {wrong[-1]}" in capsys.readouterr().err


def test_missing_operators_and_gpu(benchmark, monkeypatch):
    if not torch.cuda.is_available():
        assert "finds no GPU" in benchmark("ops", "--device", "cuda")[2]
    monkeypatch.setattr(part("ops"), "KERNEL_DEVICES", ())
    status, _, error, _ = benchmark("ops")
    assert status == 1 and "not built for cpu" in error and "pip install" in error
