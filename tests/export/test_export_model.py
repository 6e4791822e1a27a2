"""Files that the export tool writes: run without this package, on other samples than they were
checked with; and what the tool does when something is wrong."""

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

#: Runs a package as a program that has never heard of this one does.
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
    """Of the tool, but for the format; the model is that of ``model``."""
    output = str(tmp_path / "deploy")
    return ["--config-file", str(CONFIG), "--weights", weights, "--output", output]


class Eager:
    """A format whose file is the graph itself: what is not about files is tested in no time."""

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
    """Static shapes, standard operators alone, and what it finds in samples it has not seen."""
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
    about = json.loads((folder / "metadata.json").read_text())["about"]
    assert about["weights"].endswith("small.safetensors")

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


def worse(name, factor):
    def change(outputs):
        return outputs | {name: outputs[name] * factor}

    return change


@pytest.mark.parametrize(("name", "factor"), [("scores", 1.01), ("boxes", 1.05), ("features", 1.1)])
def test_nothing_is_kept_that_differs(model, tmp_path, name, factor):
    eager = Eager(change=worse(name, factor))
    with pytest.raises(ValueError, match=r"model.pt2 is not kept: .*within|model.pt2 .* features"):
        export_model(model, drive(1), tmp_path / "deploy", formats=[eager.format], stream=True)
    assert left_in(tmp_path) == []


def test_a_wider_tolerance(model, tmp_path):
    """Infinite for models that amplify rounding; what is infinite then is null in the metadata."""
    eager = Eager(change=worse("scores", 1.01))
    for tolerance in (0.1, float("inf")):
        output = tmp_path / str(tolerance)
        export_model(model, drive(1), output, formats=[eager.format], tolerance=tolerance)
        text = (output / "metadata.json").read_text()
        assert "Infinity" not in text and "NaN" not in text


def test_a_model_that_finds_nothing_cannot_be_compared(model, tmp_path):
    bounds, model.head.decoder.center_range = model.head.decoder.center_range, (0.0,) * 6
    try:
        with pytest.raises(ValueError, match="nothing to compare"):
            export_model(model, drive(1), tmp_path / "deploy", formats=[Eager().format])
    finally:
        model.head.decoder.center_range = bounds
    assert left_in(tmp_path) == []


def test_the_model_is_left_as_it_was(model, tmp_path):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    export_model(model, drive(1), tmp_path / "deploy", formats=[Eager(standard=True).format])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.head.decoder.score_threshold == 0.1


def test_an_empty_folder_and_what_a_killed_run_left(model, tmp_path):
    (tmp_path / "deploy").mkdir()
    (tmp_path / ".deploy.0123abcd.tmp").mkdir()
    (tmp_path / ".deploy.0123abcd.tmp" / "half").write_text("half")
    export_model(model, drive(1), tmp_path / "deploy", formats=[Eager(standard=True).format])
    assert left_in(tmp_path) == ["deploy", "metadata.json", "model.onnx"]


def test_an_interrupted_export_leaves_nothing(model, tmp_path):
    def interrupt(outputs):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_model(model, drive(1), tmp_path / "deploy", formats=[Eager(change=interrupt).format])
    assert left_in(tmp_path) == []


def test_an_export_that_is_there_stays(tool, arguments, tmp_path, capsys):
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
def test_the_tool_explains(tool, arguments, tmp_path, capsys, more, message):
    assert tool.main([*arguments, *more]) == 1
    printed = capsys.readouterr()
    assert message in printed.err and "Traceback" not in printed.err
    assert left_in(tmp_path) == []


def test_cameras_of_test_samples_are_not_fake(tool, arguments, capsys):
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
    assert tool.main([*arguments, *more]) == 0
    assert eager.graph.num_maps == 4 and len(eager.graph.view) == 24
    described = json.loads((tmp_path / "deploy" / "metadata.json").read_text())
    assert described["about"]["compared_on"] == "test samples"
    assert described["about"]["overrides"] == [more[-1]]


def test_more_samples_than_there_are(eager_tool, arguments, synthetic_root, capsys):
    more = ["--test-samples", "--batch-size", "4", f"dataloader.dataroot={synthetic_root}"]
    assert eager_tool[0].main([*arguments, *more]) == 1
    assert "--batch-size is 4, but the test data has 3 samples" in capsys.readouterr().err


def test_an_untrained_model_says_so(eager_tool, arguments, capsys):
    assert eager_tool[0].main([*arguments, "--weights", "", "--tolerance", "inf"]) == 0
    assert "an untrained model is exported" in capsys.readouterr().out
