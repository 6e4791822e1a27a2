"""Every registered operator with wrong arguments: shapes, types, layouts, sizes, values.

An operator raises an error or returns what its reference returns. tools/check_kernels.sh runs these
tests with sanitizers, which find accesses outside of the operator's memory.
"""

import math

import pytest
import torch
from hypothesis import HealthCheck, given, note, settings, strategies as st
from operator_cases import REFERENCES, arguments_of

from fsdbev.layers import EXTENSION_BUILT

pytestmark = pytest.mark.skipif(not EXTENSION_BUILT, reason="compiled operators not built")

#: Errors of the operators, of the schema, of sizes beyond the memory.
REFUSALS = (ValueError, TypeError, RuntimeError, IndexError, MemoryError, OverflowError)

#: Sizes are small, or too large for the memory of any machine.
WHOLE = st.sampled_from([-(2**63), -(2**40), -1, 0, 1, 2, 3, 7, 2**56, 2**62, 2**63 - 1])
REAL = st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0, -1.0, 0.5, 1e-308, 1e300, -1e300])
TYPES = st.sampled_from(
    [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8]
    + [torch.bool, torch.complex64]
)


def changed(draw, value):
    """Draws another value for an argument."""
    if isinstance(value, torch.Tensor):
        return changed_tensor(draw, value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, (list, tuple)):
        numbers = list(value)
        if numbers and draw(st.booleans()):
            index = draw(st.integers(0, len(numbers) - 1))
            numbers[index] = changed(draw, numbers[index])
            return numbers
        return draw(st.sampled_from([numbers[:-1], [*numbers, 1], []]))
    return draw(WHOLE if isinstance(value, int) else REAL)


def changed_tensor(draw, tensor):
    axis = draw(st.integers(0, tensor.dim() - 1))
    changes = {
        "values": lambda: with_values(draw, tensor),
        "type": lambda: tensor.to(draw(TYPES)),
        "meta": lambda: tensor.to("meta"),
        "gaps": lambda: tensor.repeat_interleave(2, axis).unfold(axis, 1, 2)[..., 0],
        "order": lambda: tensor.transpose(0, axis).contiguous().transpose(0, axis),
        "empty": lambda: tensor.narrow(axis, 0, 0),
        "more axes": lambda: tensor[None],
        "fewer axes": lambda: tensor.select(axis, 0),
        "shorter": lambda: tensor.narrow(axis, 0, 1),
        "longer": lambda: torch.cat([tensor, tensor], axis),
        "swapped": lambda: tensor.transpose(0, axis),
    }
    return changes[draw(st.sampled_from(["values", "values", *changes]))]()


def with_values(draw, tensor):
    """Replaces some values."""
    result = tensor.clone(memory_format=torch.contiguous_format)
    values = REAL if tensor.is_floating_point() else WHOLE
    if tensor.dtype in (torch.bool, torch.uint8):
        values = st.integers(0, 1)
    elif tensor.dtype == torch.int32:
        values = st.sampled_from([-(2**31), -2, 0, 53, 54, 2**31 - 1])
    count = min(draw(st.integers(1, 3)), tensor.numel())
    for index in draw(st.lists(st.integers(0, tensor.numel() - 1), min_size=count, max_size=count)):
        wide = torch.float64 if tensor.is_floating_point() else torch.int64
        result.view(-1)[index] = torch.tensor(draw(values), dtype=wide).to(tensor.dtype)
    return result


def outcome(call, arguments):
    """Returns the results of a call as a list, or its error."""
    try:
        result = call(*arguments)
    except REFUSALS as error:
        return error
    return list(result) if isinstance(result, tuple) else [result]


def described(argument):
    if isinstance(argument, torch.Tensor):
        return f"{argument.dtype} {tuple(argument.shape)} {argument.stride()} {argument.device}"
    return repr(argument)


@pytest.mark.parametrize("name", REFERENCES)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), seed=st.integers(0, 9))
def test_an_operator_refuses_or_agrees_with_its_reference(name, data, seed):
    arguments = list(arguments_of(name, seed))
    indices = st.lists(st.integers(0, len(arguments) - 1), min_size=1, max_size=3, unique=True)
    for index in data.draw(indices):
        arguments[index] = changed(data.draw, arguments[index])
        note(f"argument {index}: {described(arguments[index])}")
    before = [a.clone() if isinstance(a, torch.Tensor) else a for a in arguments]
    got = outcome(getattr(torch.ops.fsdbev, name), arguments)
    for argument, copy in zip(arguments, before):
        if isinstance(argument, torch.Tensor) and not argument.is_meta:
            torch.testing.assert_close(argument, copy, rtol=0, atol=0, equal_nan=True)
    on_meta = any(isinstance(a, torch.Tensor) and a.is_meta for a in arguments)
    if isinstance(got, Exception):
        assert str(got).strip()
    elif REFERENCES[name] is not None and not on_meta:
        compare(name, got, outcome(REFERENCES[name], arguments))


def test_meta_tensors_are_checked():
    arguments = list(arguments_of("elliptical_heatmaps", 0))
    arguments[0], arguments[-1] = arguments[0].to("meta"), 0
    with pytest.raises(ValueError, match="stride must be even and positive, got 0"):
        torch.ops.fsdbev.elliptical_heatmaps(*arguments)


def compare(name, got, expected):
    if "cells must be in" in str(expected):
        return  # the operator only checks the cells of points above the thresholds
    if isinstance(expected, Exception):
        raise AssertionError(f"{name} accepts what its reference refuses: {expected}") from expected
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs, equal_nan=True)


@pytest.mark.parametrize("name", REFERENCES)
def test_unchanged_arguments_are_valid(name):
    got = outcome(getattr(torch.ops.fsdbev, name), arguments_of(name, 0))
    assert not isinstance(got, Exception), got
    assert any(part.count_nonzero() for part in got)
    if REFERENCES[name] is not None:
        compare(name, got, outcome(REFERENCES[name], arguments_of(name, 0)))


def test_sizes_that_do_not_fit_are_named():
    undo, image2bev, view, _, _, *frustum = arguments_of("frustum_cells", 0)
    for sizes in ([2**40, 2**40], [2**31, 1]):  # with 0 bins, so that nothing is allocated
        with pytest.raises(ValueError, match="too large a feature map: "):
            torch.ops.fsdbev.frustum_cells(undo, image2bev, view, 0, sizes, *frustum)
    arguments = arguments_of("lift_splat", 0)
    arguments[7] = 2**40
    with pytest.raises(ValueError, match="num_outputs must be at most 2147483647, got"):
        torch.ops.fsdbev.lift_splat(*arguments)


def test_every_registered_operator_is_tested():
    names = {
        name.split("::")[1] for name in torch._C._dispatch_get_all_op_names() if "fsdbev" in name
    }
    assert names == set(REFERENCES)
