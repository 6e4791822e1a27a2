"""Export and compilation of modules with lift_splat or splat_cells."""

import pytest
import torch
from lift_splat_cases import scene, through_cells

from fsdbev.layers import EXTENSION_BUILT, lift_splat

pytestmark = pytest.mark.skipif(not EXTENSION_BUILT, reason="compiled operators not built")

ENTRIES = pytest.mark.parametrize(
    "op, name", [(lift_splat, "lift_splat"), (through_cells, "splat_cells")]
)


class Pooling(torch.nn.Module):
    """Convolution, pooling, convolution."""

    def __init__(self, op, arguments):
        super().__init__()
        self.op, self.arguments = op, arguments
        self.before = torch.nn.Conv2d(5, 5, 1)
        self.after = torch.nn.Conv2d(5, 2, 3)

    def forward(self, weights, foreground, context):
        bev = self.op(weights.softmax(2), foreground, self.before(context), **self.arguments)
        return self.after(bev.flatten(0, 1).relu())


@ENTRIES
def test_a_module_exports(op, name):
    arguments = scene()
    features = tuple(arguments.pop(k) for k in ("weights", "foreground", "context"))
    module = Pooling(op, {**arguments, "depth_threshold": 0.1}).eval()
    exported = torch.export.export(module, features)
    nodes = [n for n in exported.graph.nodes if str(n.target) == f"fsdbev.{name}.default"]
    assert len(nodes) == 1
    with torch.no_grad():
        expected = module(*features)
        assert expected.abs().sum() > 0
        torch.testing.assert_close(exported.module()(*features), expected)


@pytest.mark.slow  # runs a C++ compiler; test_operators.py covers aot_eager by opcheck
def test_a_module_compiles():
    arguments = scene()
    features = [arguments.pop(k) for k in ("weights", "foreground", "context")]
    module = Pooling(lift_splat, {**arguments, "depth_threshold": 0.1})
    compiled = torch.compile(module, fullgraph=True, backend="inductor")
    results = []
    for run in (module, compiled):
        module.zero_grad()
        weights = features[0].clone().requires_grad_()
        out = run(weights, *features[1:])
        out.square().sum().backward()
        results.append((out.detach(), weights.grad, module.before.weight.grad.clone()))
    for got, want in zip(*results):
        assert want.abs().sum() > 0
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
