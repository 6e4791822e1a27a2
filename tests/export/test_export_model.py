"""Files of the export tool: they run without this package, on other samples than those of the
tool's comparison; errors of the tool."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from export_cases import (
    CONFIG,
    assert_finds_what_the_model_finds,
    drive,
    small_model,
)

from fsdbev.checkpoint import write_weights
from fsdbev.export import FORMATS, export_model, formats
from fsdbev.export.graph import DeploymentGraph, GraphOptions
from fsdbev.export.inputs import graph_inputs
from fsdbev.layers import EXTENSION_BUILT

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(not EXTENSION_BUILT, reason="needs the compiled operators")

#: Program that runs an exported package without importing fsdbev.
FOREIGN = """
import sys, torch
folder, inputs, outputs = sys.argv[1:]
torch.ops.load_library(folder + "/fsdbev_operators.so")
model = torch._inductor.aoti_load_package(folder + "/model.pt2")
torch.save(model(**torch.load(inputs)), outputs)
assert not any(name.split(".")[0] == "fsdbev" for name in sys.modules)
"""


@pytest.fixture(scope="module")
def tool():
    path = ROOT / "tools" / "export_model.py"
    spec = importlib.util.spec_from_file_location("export_model_tool", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def weights(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    write_weights(model.state_dict(), str(path), entry="model")
    return str(path)


@pytest.fixture
def arguments(weights, tmp_path):
    """Arguments of the tool without the format; the weights are those of ``model``."""
    output = str(tmp_path / "deploy")
    return ["--config-file", str(CONFIG), "--weights", weights, "--output", output]


class Eager:
    """Format that runs the graph itself instead of compiling it, which makes the tests fast."""

    def __init__(self, *, standard=False, change=lambda outputs: outputs):
        self.graph, self.change = None, change
        base = FORMATS["onnx" if standard else "aoti"]
        self.format = replace(base, packages=(), write=self.write, run=self.run)

    def write(self, graph, inputs, path):
        self.graph = graph
        path.write_bytes(b"graph")

    @torch.no_grad()
    def run(self, path, inputs):
        assert path.read_bytes() == b"graph"
        return self.change(self.graph(**inputs))


def left_in(folder):
    return sorted(path.name for path in folder.rglob("*"))


def test_onnx(model, tmp_path):
    """Static shapes, only standard operators, and the model's detections in other samples."""
    import onnx

    samples = drive(1, 2)
    [file] = export_model(model, samples, tmp_path / "onnx", formats=[FORMATS["onnx"]], stream=True)
    assert left_in(tmp_path / "onnx") == ["metadata.json", "model.onnx"]
    path = tmp_path / "onnx" / "model.onnx"
    assert file.num_bytes == path.stat().st_size and file.differences.num_unmatched == 0
    written = onnx.load(path)
    assert {node.domain for node in written.graph.node} == {""} and not written.functions
    assert [(o.domain, o.version >= 18) for o in written.opset_import] == [("", True)]
    for value in (*written.graph.input, *written.graph.output):
        assert all(d.HasField("dim_value") for d in value.type.tensor_type.shape.dim), value

    others = drive(5, 9)
    options = GraphOptions(stream=True, cells=True, nms=False)
    graph = DeploymentGraph(model, batch_size=2, num_cameras=2, options=options)
    inputs = graph_inputs(model, others, options, score_threshold=0.0)
    outputs = formats.run_onnx(path, inputs)
    assert tuple(outputs) == options.output_names
    assert_finds_what_the_model_finds(graph.suppress(outputs), model, others)
    described = json.loads((tmp_path / "onnx" / "metadata.json").read_text())
    assert described["model"]["class_names"] == ["pole", "lorry", "vehicle"]
    entries = described["files"]["model.onnx"]
    for key, values in (("inputs", written.graph.input), ("outputs", written.graph.output)):
        assert [entry["name"] for entry in entries[key]] == [value.name for value in values]


@pytest.mark.slow
def test_aoti_by_the_tool(tool, model, arguments, tmp_path, capsys):
    assert tool.main([*arguments, "--format", "aoti", "--num-cameras", "2"]) == 0
    folder = tmp_path / "deploy"
    assert left_in(tmp_path) == [
        "deploy", "fsdbev_operators.so", "metadata.json", "model.pt2"
    ]  # fmt: skip
    printed = capsys.readouterr().out
    assert "model.pt2: " in printed and ", 0 have no counterpart" in printed
    described = json.loads((folder / "metadata.json").read_text())
    assert described["about"]["weights"].endswith("small.safetensors")
    assert described["model"]["class_names"] == ["pole", "lorry", "vehicle"]

    samples, options = drive(5), GraphOptions()
    torch.save(graph_inputs(model, samples, options, score_threshold=0.0), tmp_path / "inputs.pt")
    paths = [str(path) for path in (folder, tmp_path / "inputs.pt", tmp_path / "outputs.pt")]
    subprocess.run([sys.executable, "-c", FOREIGN, *paths], check=True, cwd=tmp_path)
    outputs = torch.load(tmp_path / "outputs.pt")
    assert tuple(outputs) == options.output_names
    assert_finds_what_the_model_finds(outputs, model, samples)


@pytest.mark.parametrize("stream", [False, True])
def test_all_formats_are_compared_with_the_model(model, tmp_path, stream):
    eager = Eager(), Eager(standard=True)
    files = export_model(
        model,
        drive(1, 3),
        tmp_path / "deploy",
        formats=[e.format for e in eager],
        stream=stream,
        about={"weights": "none"},
    )
    assert [e.graph.options for e in eager] == [
        GraphOptions(stream=stream),
        GraphOptions(stream=stream, cells=True, nms=False),
    ]
    assert [file.name for file in files] == ["model.pt2", "model.onnx"]
    assert all(
        f.differences.num_detections >= 80 and not f.differences.num_unmatched for f in files
    )
    described = json.loads((tmp_path / "deploy" / "metadata.json").read_text())
    assert described["about"] == {"weights": "none"} and list(described["files"]) == [
        "model.pt2", "model.onnx"
    ]  # fmt: skip
    compared = described["files"]["model.onnx"]["compared_with_the_model"]
    assert compared["num_unmatched"] == 0 and compared["tolerance"] == 1e-3


def test_cells_for_a_package(model, tmp_path):
    eager = Eager()
    export_model(model, drive(1), tmp_path / "deploy", formats=[eager.format], cells=True)
    assert eager.graph.options == GraphOptions(cells=True)


def scaled(name, factor):
    def change(outputs):
        return outputs | {name: outputs[name] * factor}

    return change


@pytest.mark.parametrize(("name", "factor"), [("scores", 1.01), ("boxes", 1.05), ("features", 1.1)])
def test_files_that_differ_from_the_model_are_not_kept(model, tmp_path, name, factor):
    eager = Eager(change=scaled(name, factor))
    with pytest.raises(ValueError, match=r"model.pt2 is not kept: .*within|model.pt2 .* features"):
        export_model(model, drive(1), tmp_path / "deploy", formats=[eager.format], stream=True)
    assert left_in(tmp_path) == []


def test_a_wider_tolerance(model, tmp_path):
    """It may be infinite, for models that amplify rounding; the metadata has null for infinity."""
    eager = Eager(change=scaled("scores", 1.01))
    for tolerance in (0.1, float("inf")):
        output = tmp_path / str(tolerance)
        export_model(model, drive(1), output, formats=[eager.format], tolerance=tolerance)
        text = (output / "metadata.json").read_text()
        assert "Infinity" not in text and "NaN" not in text


def test_a_model_without_detections_cannot_be_compared(model, tmp_path):
    bounds, model.head.decoder.center_range = model.head.decoder.center_range, (0.0,) * 6
    try:
        with pytest.raises(ValueError, match="nothing to compare"):
            export_model(model, drive(1), tmp_path / "deploy", formats=[Eager().format])
    finally:
        model.head.decoder.center_range = bounds
    assert left_in(tmp_path) == []


def test_an_export_changes_no_model_and_removes_unfinished_folders(model, tmp_path):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    (tmp_path / "deploy").mkdir()
    (tmp_path / ".deploy.0123abcd.tmp").mkdir()
    (tmp_path / ".deploy.0123abcd.tmp" / "half").write_text("half")
    export_model(model, drive(1), tmp_path / "deploy", formats=[Eager(standard=True).format])
    assert left_in(tmp_path) == ["deploy", "metadata.json", "model.onnx"]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.head.decoder.score_threshold == 0.1


def test_an_interrupted_export_leaves_nothing(model, tmp_path):
    def interrupt(outputs):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_model(model, drive(1), tmp_path / "deploy", formats=[Eager(change=interrupt).format])
    assert left_in(tmp_path) == []


def test_an_existing_export_is_not_overwritten(tool, arguments, tmp_path, capsys):
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "model.onnx").write_text("mine")
    assert tool.main([*arguments, "--num-cameras", "2"]) == 1
    assert "deploy already exists: remove it" in capsys.readouterr().err
    assert (tmp_path / "deploy" / "model.onnx").read_text() == "mine"
    assert left_in(tmp_path) == ["deploy", "model.onnx"]


def test_missing_packages(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs onnx, onnxscript, onnxruntime: pip install"):
        FORMATS["onnx"].check()
    FORMATS["aoti"].check()


@pytest.mark.parametrize("name", FORMATS)
def test_operators_that_are_not_built(monkeypatch, name):
    monkeypatch.setattr(formats, "EXTENSION_BUILT", False)
    with pytest.raises(ValueError, match="not built; run in the project's root: pip install -e"):
        FORMATS[name].check()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["model.nothing=1"], "unknown key 'model.nothing'"),
        (["--batch-size", "0"], "at least 1, got 0 and 6"),
        (["--num-cameras", "0"], "at least 1, got 1 and 0"),
        (["--weights", "no.pth"], "no.pth"),
        (["--stream", "model.num_frames=1", "--weights", ""], "one frame cannot be streamed"),
        (["--test-samples", "dataloader.dataroot=nowhere"], "nowhere"),
    ],
)
def test_errors_of_the_tool(tool, arguments, tmp_path, capsys, more, message):
    assert tool.main([*arguments, *more]) == 1
    printed = capsys.readouterr()
    assert message in printed.err and "Traceback" not in printed.err
    assert left_in(tmp_path) == []


def test_the_number_of_cameras_is_not_for_test_samples(tool, arguments, capsys):
    with pytest.raises(SystemExit):
        tool.main([*arguments, "--test-samples", "--num-cameras", "2"])
    assert "have their own cameras" in capsys.readouterr().err


@pytest.fixture
def eager_tool(tool, monkeypatch):
    eager = Eager()
    monkeypatch.setattr(tool, "FORMATS", {"aoti": eager.format})
    return tool, eager


def test_test_samples(eager_tool, arguments, synthetic_root, tmp_path, capsys):
    tool, eager = eager_tool
    more = ["--test-samples", "--batch-size", "2", f"dataloader.dataroot={synthetic_root}"]
    assert tool.main([*arguments, *more]) == 1
    assert "has classes ['car', 'truck'," in capsys.readouterr().err
    more.append("dataloader.classes=null")  # those of the index
    assert tool.main([*arguments, *more]) == 0
    assert eager.graph.num_maps == 4 and len(eager.graph.view) == 24
    described = json.loads((tmp_path / "deploy" / "metadata.json").read_text())
    assert described["about"]["compared_on"] == "test samples"
    assert described["about"]["overrides"] == more[-2:]
    more[2] = "4"
    arguments[-1] += "-more"
    assert tool.main([*arguments, *more]) == 1
    assert "--batch-size is 4, but the test data has 3 samples" in capsys.readouterr().err


def test_the_default_number_of_cameras_is_that_of_the_data(eager_tool, arguments):
    tool, eager = eager_tool
    for cameras, views in (("null", 12), ("[CAM_FRONT,CAM_FRONT_LEFT,CAM_FRONT_RIGHT]", 6)):
        output = [*arguments[:-1], f"{arguments[-1]}-{views}"]
        assert tool.main([*output, f"dataloader.cameras={cameras}"]) == 0
        assert len(eager.graph.view) == views


def test_an_untrained_model_is_mentioned(eager_tool, arguments, capsys):
    assert eager_tool[0].main([*arguments, "--weights", "", "--tolerance", "inf"]) == 0
    assert "an untrained model is exported" in capsys.readouterr().out
