"""lift_splat on a GPU: against its reference, atomic or ordered sums, without synchronization."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lift_splat_cases import gradients, reference, scene, through_cells
from nms_cases import needs_cuda

from fsdbev.layers import lift_splat

ROOT = Path(__file__).parents[2]
DEVICE = "cuda"

pytestmark = needs_cuda
entries = pytest.mark.parametrize("op", [lift_splat, through_cells], ids=["op", "cells"])


@pytest.fixture(params=[False, True], ids=["atomic", "ordered"])
def ordered(request):
    torch.use_deterministic_algorithms(request.param)
    yield request.param
    torch.use_deterministic_algorithms(False)


def moved(arguments):
    return {k: v.to(DEVICE) if isinstance(v, torch.Tensor) else v for k, v in arguments.items()}


def on_device(op):
    """Returns ``op`` with arguments and results on the CPU."""
    return lambda **arguments: op(**moved(arguments)).cpu()


@entries
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"views": 6, "channels": 80, "height": 8, "width": 11, "bins": 118},
        {"channels": 300, "bins": 33},
        {"channels": 37, "sets": 3, "width": 9},
        {"channels": 1, "height": 1, "width": 1, "bins": 1, "sets": 1},
    ],
    ids=str,
)
def test_equals_reference(op, sizes, dtype, ordered):
    arguments = scene(**sizes, dtype=dtype, seed=3)
    results = zip(gradients(on_device(op), arguments), gradients(reference, arguments))
    for name, (got, expected) in zip(("bev", "weights", "context"), results):
        assert got.dtype == expected.dtype and got.is_contiguous(), name
        torch.testing.assert_close(got, expected, msg=lambda m, name=name: f"{name}: {m}")


@entries
def test_mixed_dtypes_and_strided_memory(op, ordered):
    plain = scene(channels=16)
    strided = {
        **plain,
        "weights": plain["weights"].mT.contiguous().mT,
        "foreground": torch.stack([plain["foreground"].double()] * 2, dim=-1)[..., 0],
        "view": torch.stack([plain["view"]] * 2, dim=-1)[:, 0],
    }
    strided = moved(strided)
    rows = strided["context"].permute(0, 2, 3, 1).flatten()
    rows = torch.cat([rows[:1], rows])[1:]  # channels last, at an unaligned address
    strided["context"] = rows.view(3, 3, 4, 16).permute(0, 3, 1, 2)
    torch.testing.assert_close(op(**strided).cpu(), reference(**plain))
    strided["context"] = strided["context"].double()
    expected = reference(**{**plain, "context": plain["context"].double()})
    torch.testing.assert_close(op(**strided).cpu(), expected)


@entries
def test_the_same_every_time(op):
    arguments = scene(views=6, channels=40, height=8, width=11, bins=40)
    _, *expected = gradients(on_device(op), arguments)
    for _ in range(3):
        _, *again = gradients(on_device(op), arguments)
        assert all(torch.equal(a, b) for a, b in zip(again, expected))
    torch.use_deterministic_algorithms(True)
    try:
        expected = on_device(lift_splat)(**arguments)
        assert all(torch.equal(on_device(op)(**arguments), expected) for _ in range(3))
    finally:
        torch.use_deterministic_algorithms(False)


@entries
def test_does_not_synchronize(op, ordered):
    arguments = moved(scene(channels=40))
    leaves = {k: arguments[k].requires_grad_() for k in ("weights", "context")}
    grad = torch.ones_like(op(**arguments))
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        torch.autograd.grad(op(**arguments), tuple(leaves.values()), grad)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@entries
@pytest.mark.parametrize("name", ["views", "sets", "channels", "bins", "width"])
def test_empty(op, name, ordered):
    sizes = {name: 0}
    bev, grad_weights, grad_context = gradients(on_device(op), scene(**sizes))
    assert bev.shape == (sizes.get("sets", 2), 2, sizes.get("channels", 5), 6, 9)
    assert bev.sum() == 0 and grad_weights.sum() == 0 and grad_context.sum() == 0


OUT_OF_RANGE = """
import sys
import torch
sys.path.insert(0, {tests!r})
from lift_splat_cases import scene
from fsdbev.layers import lift_splat
torch.use_deterministic_algorithms({ordered})
arguments = scene()
arguments[{name!r}][-1] = 3
arguments["weights"].zero_()  # no point reaches the threshold
on_gpu = {{k: v.cuda() if isinstance(v, torch.Tensor) else v for k, v in arguments.items()}}
try:
    lift_splat(**on_gpu)
    torch.cuda.synchronize()
except RuntimeError as error:
    assert "device-side assert" in str(error), error
else:
    raise SystemExit("no error")
"""


@pytest.mark.parametrize("name", ["view", "output"])
def test_an_index_out_of_range_stops_the_kernel(name, ordered):
    # In a separate process, because its GPU context is lost.
    code = OUT_OF_RANGE.format(tests=str(Path(__file__).parent), name=name, ordered=ordered)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
