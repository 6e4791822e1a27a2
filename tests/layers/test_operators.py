"""Every registered operator: registration with PyTorch, compiled graph, memory layouts."""

import inspect

import pytest
import torch
from nms_cases import needs_cuda
from operator_cases import REFERENCES, arguments_of
from torch.utils._pytree import tree_leaves

from fsdbev import layers

pytestmark = pytest.mark.skipif(not layers.EXTENSION_BUILT, reason="compiled operators not built")
each = pytest.mark.parametrize("name", REFERENCES)
DEVICES = ["cpu", pytest.param("cuda", marks=needs_cuda)]

#: Operators with a public function of the same arguments, except frustum and rotation.
PUBLIC = [
    "lift_splat",
    "frustum_cells",
    "splat_cells",
    "elliptical_heatmaps",
    "draw_gaussians",
    "rotated_iou",
    "grouped_nms",
    "resample_image",
]
FRUSTUM_NUMBERS = 6


def moved(arguments, device):
    return [a.to(device) if isinstance(a, torch.Tensor) else a for a in arguments]


def call_operator(name, arguments):
    return tree_leaves(getattr(torch.ops.fsdbev, name)(*arguments))


def public_arguments(name):
    """Returns arguments of the public function, by name."""
    arguments = arguments_of(name)
    names = list(inspect.signature(getattr(layers, name)).parameters)
    if "frustum" in names:
        first = names.index("frustum")
        numbers = slice(first, first + FRUSTUM_NUMBERS)
        arguments[numbers] = [layers.Frustum(*arguments[numbers])]
    if "rotation" in names:
        arguments[-1] = 5.0
    return dict(zip(names, arguments, strict=True))


@pytest.mark.parametrize("device", DEVICES)
@each
def test_opcheck(name, device):
    if name == "resample_image" and device == "cuda":
        pytest.skip("runs on the CPU only")
    arguments = moved(arguments_of(name), device)
    if name in ("lift_splat", "splat_cells"):
        for differentiable in (arguments[0], arguments[2]):
            differentiable.requires_grad_()
    torch.library.opcheck(getattr(torch.ops.fsdbev, name).default, tuple(arguments))


@pytest.mark.parametrize("name", ["draw_gaussians", "elliptical_heatmaps"])
def test_opcheck_without_peaks_or_boxes(name):
    boxes, *rest = arguments_of(name)
    indices = [tensor[:0] for tensor in rest[:2]]
    operator = getattr(torch.ops.fsdbev, name).default
    torch.library.opcheck(operator, (boxes[:0], *indices, *rest[2:]))


@needs_cuda
@pytest.mark.parametrize("name", [name for name, reference in REFERENCES.items() if reference])
def test_cuda_equals_reference(name):
    expected = tree_leaves(REFERENCES[name](*arguments_of(name)))
    found = call_operator(name, moved(arguments_of(name), "cuda"))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.cpu(), theirs)


@pytest.mark.parametrize("name", PUBLIC)
def test_compile_sees_one_node(name):
    function, arguments, graphs = getattr(layers, name), public_arguments(name), []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(function, fullgraph=True, backend=backend)
    found, expected = (tree_leaves(run(**arguments)) for run in (compiled, function))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    (graph,) = graphs
    calls = [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]
    operations = [target for target in calls if "getitem" not in target]
    assert operations in ([f"fsdbev.{name}"], [f"fsdbev.{name}.default"])


def with_gaps(tensor):
    """Returns the same values in every other element of memory."""
    return torch.stack([tensor, torch.zeros_like(tensor)], dim=-1)[..., 0]


def transposed(tensor):
    """Returns the same values with the first axis varying fastest."""
    return tensor.transpose(0, -1).contiguous().transpose(0, -1)


@pytest.mark.parametrize("layout", [with_gaps, transposed])
@each
def test_memory_layout_does_not_matter(name, layout):
    plain = arguments_of(name)
    other = [layout(a) if isinstance(a, torch.Tensor) and a.dim() else a for a in plain]
    assert not all(a.is_contiguous() for a in other if isinstance(a, torch.Tensor))
    results = call_operator(name, other), call_operator(name, plain)
    assert any(part.count_nonzero() for part in results[1])
    for found, expected in zip(*results, strict=True):
        assert torch.equal(found, expected)
