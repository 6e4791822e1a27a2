import torch

from fsdbev.modeling.precision import full_precision


@full_precision
def product(a, others, scale=None):
    return a @ others[0] * (1 if scale is None else scale)


def test_leaves_autocast_and_lifts_tensors():
    a, b = torch.randn(4, 4), torch.randn(4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (a @ b).dtype == torch.bfloat16
        inside = product(a.bfloat16(), [b], scale=torch.ones((), dtype=torch.bfloat16))
        assert (a @ b).dtype == torch.bfloat16  # and comes back to it
    torch.testing.assert_close(inside, a.bfloat16().float() @ b, rtol=0, atol=0)


def test_float64_stays():
    a = torch.randn(2, 2, dtype=torch.float64)
    assert product(a, [a]).dtype == torch.float64


def test_gradients_flow_through_the_cast():
    a = torch.randn(2, 2, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        product(a.bfloat16(), [torch.eye(2)]).sum().backward()
    assert torch.equal(a.grad, torch.ones(2, 2))
