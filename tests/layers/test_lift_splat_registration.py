"""What PyTorch is told of lift_splat: gradients, fake tensors, one node of a compiled graph."""

import pytest
import torch
from lift_splat_cases import gradients, scene, through_cells

from fsdbev.layers import EXTENSION_BUILT, frustum_cells, lift_splat

pytestmark = pytest.mark.skipif(not EXTENSION_BUILT, reason="compiled operators not built")

ENTRIES = pytest.mark.parametrize(
    "op, name", [(lift_splat, "lift_splat"), (through_cells, "splat_cells")]
)


def feature_arguments(arguments):
    return tuple(arguments[k] for k in ("weights", "foreground", "context"))


def cells(arguments):
    return frustum_cells(
        **{k: arguments[k] for k in ("undo_image_aug", "image2bev", "view", "frustum")},
        num_bins=arguments["weights"].shape[2],
        feature_size=tuple(arguments["weights"].shape[3:]),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_opcheck(dtype):
    arguments = scene(dtype=dtype)
    thresholds = (0.3, 0.3)
    matrices = tuple(arguments[k] for k in ("undo_image_aug", "image2bev"))
    indices = tuple(arguments[k] for k in ("view", "output"))
    frustum = arguments["frustum"].arguments()
    ops, check = torch.ops.fsdbev, torch.library.opcheck
    check(ops.frustum_cells.default, (*matrices, indices[0], 7, (3, 4), *frustum))

    grad = torch.rand(2, 2, 5, 6, 9)
    plain = feature_arguments(arguments)
    rest = (*frustum, *thresholds)
    check(ops.lift_splat_backward.default, (grad, *plain, *matrices, *indices, *rest))
    check(
        ops.splat_cells_backward.default,
        (grad, *plain, cells(arguments), *indices, (6, 9), *thresholds),
    )
    for name in ("weights", "context"):
        arguments[name].requires_grad_()
    leaves = feature_arguments(arguments)
    check(ops.lift_splat.default, (*leaves, *matrices, *indices, 2, *rest))
    check(ops.splat_cells.default, (*leaves, cells(arguments), *indices, 2, (6, 9), *thresholds))


@ENTRIES
def test_compile_sees_one_node(op, name):
    arguments = scene()
    arguments["weights"].requires_grad_()
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    torch.compile(lambda a: op(**a) * 2, fullgraph=True, backend=backend)(arguments)
    targets = [str(n.target) for n in graphs[0].graph.nodes if n.op == "call_function"]
    ours = [target for target in targets if "fsdbev" in target]
    assert (
        len(graphs) == 1
        and ours.count(f"fsdbev.{name}") + ours.count(f"fsdbev.{name}.default") == 1
    )
    assert len(targets) == len(ours) + 1, targets
    compiled = torch.compile(op, fullgraph=True, backend="aot_eager")
    for got, want in zip(gradients(compiled, arguments), gradients(op, arguments)):
        torch.testing.assert_close(got, want)


class Pooling(torch.nn.Module):
    """Convolution, pooling, convolution: a module as a model has it."""

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


def test_a_module_compiles_with_inductor():
    arguments = scene()
    features = [arguments.pop(k) for k in ("weights", "foreground", "context")]
    module = Pooling(lift_splat, {**arguments, "depth_threshold": 0.1})
    compiled = torch.compile(module, fullgraph=True)
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
