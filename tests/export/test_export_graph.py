"""The graph for deployment gives the model's results, for all options of inputs and outputs."""

import inspect
import json

import pytest
import torch
from export_cases import assert_finds_what_the_model_finds, drive, small_model
from torch import nn

from fsdbev.data.fake import fake_samples
from fsdbev.export.graph import DeploymentGraph, GraphOptions
from fsdbev.export.inputs import graph_inputs
from fsdbev.export.metadata import describe_graph, describe_model

ALL = [GraphOptions(s, c, n) for s in (False, True) for c in (False, True) for n in (False, True)]


@pytest.fixture(scope="module")
def model():
    return small_model()


def make(model, samples, options, score_threshold=0.0):
    """Returns the graph and its inputs."""
    graph = DeploymentGraph(model, batch_size=len(samples), num_cameras=2, options=options)
    return graph, graph_inputs(model, samples, options, score_threshold=score_threshold)


@torch.no_grad()
def run(model, samples, options, **arguments):
    graph, inputs = make(model, samples, options, **arguments)
    outputs = graph(**inputs)
    assert tuple(outputs) == options.output_names
    return outputs if options.nms else graph.suppress(outputs)


@pytest.mark.parametrize("options", ALL, ids=str)
def test_it_finds_what_the_model_finds(model, options):
    samples = drive(1, 2, 6)
    assert_finds_what_the_model_finds(run(model, samples, options), model, samples)


@pytest.mark.parametrize(("num_frames", "stream"), [(1, False), (3, False), (3, True)])
def test_other_numbers_of_frames(num_frames, stream):
    model = small_model(num_frames)
    samples = drive(4, 7, num_frames=num_frames)
    outputs = run(model, samples, GraphOptions(stream=stream))
    assert_finds_what_the_model_finds(outputs, model, samples)


@torch.no_grad()
def test_a_stream_receives_its_own_outputs(model):
    """From the first frame of a scene, which has no earlier features."""
    options, outputs = GraphOptions(stream=True), None
    for number in range(4):
        samples = drive(number)
        graph, inputs = make(model, samples, options)
        if outputs is None:
            inputs["has_earlier"] = torch.zeros(1, 1, dtype=torch.bool)
            for name in ("earlier_features", "earlier_foreground"):
                inputs[name] = torch.full_like(inputs[name], float("nan"))
        else:
            inputs["earlier_features"] = outputs["features"][:, None]
            inputs["earlier_foreground"] = outputs["foreground"][:, None]
        outputs = graph(**inputs)
        assert_finds_what_the_model_finds(outputs, model, samples)


def test_nms_in_the_graph_or_after_it(model):
    samples = drive(1, 2)
    one, two = (run(model, samples, GraphOptions(nms=nms)) for nms in (True, False))
    assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)
    assert set(one["classes"].unique().tolist()) == {0, 1, 2}
    assert (one["count"] < 40).all()  # NMS suppresses candidates


@pytest.mark.parametrize("nms", [False, True])
def test_the_score_threshold_is_an_input(model, nms):
    samples = drive(1, 2)
    scores = run(model, samples, GraphOptions(nms=nms))["scores"]
    # Between two scores: model and graph round a score differently.
    in_order = scores[scores.isfinite()].unique()
    middle = in_order[len(in_order) // 2 :][:2].mean().item()
    outputs = run(model, samples, GraphOptions(nms=nms), score_threshold=middle)
    kept = [outputs["scores"][b, :n] for b, n in enumerate(outputs["count"].tolist())]
    assert all((k > middle).all() for k in kept) and 0 < sum(map(len, kept))
    with torch.no_grad():
        model.head.decoder.score_threshold = middle
        found = [r["instances"].scores for r in model(samples)]
        model.head.decoder.score_threshold = 0.1
    assert [len(s) for s in found] == outputs["count"].tolist()


@pytest.mark.parametrize("options", ALL, ids=str)
def test_order_and_description_of_inputs_and_outputs(model, options):
    graph, inputs = make(model, drive(1), options)
    names = list(inspect.signature(DeploymentGraph.forward).parameters)
    assert list(inputs) == sorted(inputs, key=names.index)
    assert all(value.is_contiguous() for value in inputs.values())
    with torch.no_grad():
        outputs = graph(**inputs)
    described = json.loads(json.dumps(describe_graph(options, inputs, outputs)))
    for values, entries in ((inputs, described["inputs"]), (outputs, described["outputs"])):
        assert [entry["name"] for entry in entries] == list(values)
        assert [entry["shape"] for entry in entries] == [list(v.shape) for v in values.values()]
        assert all(len(entry["meaning"]) > 10 for entry in entries)
    assert described["inputs"][0]["dtype"] == "uint8"
    inputs = graph_inputs(model, drive(1), options)  # without a given threshold
    assert inputs["score_threshold"] == torch.tensor(model.head.decoder.score_threshold)


def test_the_model_is_described(model):
    described = json.loads(json.dumps(describe_model(model)))
    assert described["class_names"] == ["pole", "lorry", "vehicle"]
    vehicles, poles = described["groups"]
    rule = vehicles["suppresses"]
    assert vehicles["class_names"] == ["vehicle", "lorry"] and rule["above"] == 0.2
    assert rule["after_scaling_length_and_width_by"] == {"vehicle": 1.0, "lorry": 0.5}
    assert poles["suppresses"]["at_most"] == 8.0
    assert described["ranges"] == {"pole": 30.0, "lorry": 50.0, "vehicle": 80.0}
    assert described["grid"]["count"] == [16, 16, 1] and described["num_frames"] == 2
    assert described["depth_bins"] == {"start": 1.0, "step": 4.0, "count": 15}
    assert described["thresholds"]["depth_weight"] == pytest.approx(1 / 15)


def test_cameras_of_fake_samples_cover_the_grid(model):
    samples = fake_samples(1, num_frames=2, num_cameras=6, image_size=(32, 64))
    cells = graph_inputs(model, samples, GraphOptions(cells=True))["cells"]
    assert cells.shape == (1, 2, 6, 15, 2, 4) and cells.dtype == torch.int32
    assert ((cells >= 0).float().mean(dim=(0, 3, 4, 5)) > 0.2).all()
    assert not torch.equal(cells[:, 0], cells[:, 1])


def test_samples_of_a_graph_have_the_same_number_of_cameras(model):
    sizes = {"num_frames": 2, "image_size": (32, 64)}
    samples = [fake_samples(1, num_cameras=count, **sizes)[0] for count in (1, 3)]
    with pytest.raises(ValueError, match=r"the same number of cameras, got \[1, 3\]; give"):
        graph_inputs(model, samples, GraphOptions())


def test_models_that_cannot_be_exported(model):
    arguments = {"batch_size": 1, "num_cameras": 2}
    with pytest.raises(ValueError, match="only an FSDBEV can be exported, got a Linear"):
        DeploymentGraph(nn.Linear(1, 1), options=GraphOptions(), **arguments)
    with pytest.raises(ValueError, match="one frame cannot be streamed"):
        DeploymentGraph(small_model(1), options=GraphOptions(stream=True), **arguments)
