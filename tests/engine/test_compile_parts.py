"""torch.compile applied to parts of the model."""

import copy

import pytest
import torch

from fsdbev.inference.model_builder import build_model, compile_parts


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 3)

    def forward(self, x):
        return self.linear(x).tanh()


def make_model():
    torch.manual_seed(0)
    return torch.nn.Sequential(Block(), torch.nn.Sequential(Block(), Block()))


def test_compiled_parts_give_the_same_and_keep_their_names():
    model = make_model()
    expected, names = model(torch.ones(2, 3)), list(model.state_dict())
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compile_parts(model, ["1"], backend=backend)
    torch.testing.assert_close(model(torch.ones(2, 3)), expected)
    assert len(graphs) == 1, "equal blocks share one graph"
    compiled = [block._compiled_call_impl is not None for block in (model[0], *model[1])]
    assert compiled == [False, True, True]
    assert expected.abs().sum() > 0 and list(model.state_dict()) == names
    torch.testing.assert_close(copy.deepcopy(model)(torch.ones(2, 3)), expected)
    assert len(graphs) == 1, "a copy is not compiled"


def test_unknown_part():
    with pytest.raises(ValueError, match=r"names 'neck'; the model has \['0', '1'\]"):
        compile_parts(make_model(), ["0", "neck"])


def test_training_with_compiled_parts(toy_config):
    cfg = toy_config("train.compile.enabled=True", "train.compile.parts=[]")
    assert list(build_model(cfg).state_dict())
    cfg.train.compile.parts = ["nothing"]
    with pytest.raises(ValueError, match="names 'nothing'"):
        build_model(cfg)
