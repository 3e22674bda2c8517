import pytest
import torch
import torch.nn.functional as F

from deblurkit.models.vrt.kernels import (
    biased_attention,
    from_windows,
    gated_mlp,
    mutual_attention,
    to_windows,
)

# starts, heads, tokens, channels of a head
KINDS = {
    "one kind": ([0, 5], 2, 6, 4),
    "three kinds": ([0, 2, 3, 7], 3, 8, 2),
    "many windows": ([0, 40, 41, 60, 90], 2, 12, 4),
}


def drawn(starts, heads, tokens, channels, *, dtype):
    torch.manual_seed(0)
    qkv = torch.randn(starts[-1], tokens, 3 * heads * channels, dtype=torch.float64)
    bias = torch.randn(heads, tokens, tokens, dtype=torch.float64)
    grad = torch.randn(starts[-1], tokens, heads * channels, dtype=torch.float64)
    qkv, bias, grad = (x.to(dtype) for x in (qkv, bias, grad))
    return qkv.requires_grad_(), bias.requires_grad_(), grad


def exact(*tensors):
    """Return the same numbers in float64, as leaves."""
    return [x.detach().double().requires_grad_() for x in tensors]


PRECISIONS = [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 3e-2)]


@pytest.mark.parametrize("kinds", KINDS)
@pytest.mark.parametrize("dtype, within", PRECISIONS)
def test_biased_attention_equals_one_with_its_matrix_written_out(references, kinds, dtype, within):
    """Softmax attention in float64, bias and masks added to a matrix for every window."""
    starts, heads, tokens, channels = KINDS[kinds]
    qkv, bias, grad = drawn(starts, heads, tokens, channels, dtype=dtype)
    masks = references.stripes(tokens, len(starts) - 1)
    out, log_sum = biased_attention(qkv, bias, masks, starts, heads)
    out.backward(grad)
    plain_qkv, plain_bias = exact(qkv, bias)
    expected = references.self_attention(plain_qkv, plain_bias, masks, starts, heads)
    expected.backward(grad.double())
    assert out.dtype == dtype and qkv.grad.dtype == dtype and bias.grad.dtype == dtype
    references.assert_near(out, expected, within=within, name="output")
    references.assert_near(qkv.grad, plain_qkv.grad, within=within, name="gradient of qkv")
    references.assert_near(bias.grad, plain_bias.grad, within=within, name="gradient of the bias")
    query, key, _ = references.split(plain_qkv, heads)
    scores = query @ key.transpose(-2, -1) / channels**0.5 + plain_bias
    expected = (scores + references.window_masks(masks, starts)).logsumexp(-1)
    assert log_sum.shape == expected.shape and not log_sum.requires_grad
    references.assert_near(log_sum, expected, within=within, name="log of the denominator")


@pytest.mark.parametrize("kinds", KINDS)
@pytest.mark.parametrize("dtype, within", PRECISIONS)
def test_mutual_attention_equals_one_with_its_matrix_written_out(references, kinds, dtype, within):
    """Softmax attention in float64: each frame's keys and values with the queries of the other."""
    starts, heads, tokens, channels = KINDS[kinds]
    qkv, _, grad = drawn(starts, heads, tokens, channels, dtype=dtype)
    masks = references.stripes(tokens // 2, len(starts) - 1)
    out, _ = mutual_attention(qkv, masks, starts, heads)
    out.backward(grad)
    (plain_qkv,) = exact(qkv)
    expected = references.frame_attention(plain_qkv, masks, starts, heads)
    expected.backward(grad.double())
    assert out.dtype == dtype and qkv.grad.dtype == dtype
    references.assert_near(out, expected, within=within, name="output")
    references.assert_near(qkv.grad, plain_qkv.grad, within=within, name="gradient of qkv")


def test_biased_attention_in_many_parts_equals_one_with_its_matrix_written_out(references):
    """As above, with more scores than the backward pass makes at a time."""
    starts, heads, tokens, channels = [0, 31, 33, 60], 2, 256, 2
    qkv, bias, grad = drawn(starts, heads, tokens, channels, dtype=torch.float32)
    masks = references.stripes(tokens, 3)
    biased_attention(qkv, bias, masks, starts, heads)[0].backward(grad)
    plain_qkv, plain_bias = exact(qkv, bias)
    references.self_attention(plain_qkv, plain_bias, masks, starts, heads).backward(grad.double())
    references.assert_near(qkv.grad, plain_qkv.grad, within=1e-5)
    references.assert_near(bias.grad, plain_bias.grad, within=1e-5)


def test_hidden_tokens_do_not_matter(references):
    """What a token sees stays what it was, whatever stands behind the mask; and no gradient goes there."""
    starts, heads, tokens = [0, 2], 2, 8
    qkv, bias, _ = drawn(starts, heads, tokens, 4, dtype=torch.float32)
    masks = references.stripes(tokens, 2)[1:]
    moved = qkv.detach().clone()
    moved[:, 4:] += 1000
    out, _ = biased_attention(qkv, bias, masks, starts, heads)
    again, _ = biased_attention(moved, bias, masks, starts, heads)
    assert torch.equal(out[:, :4], again[:, :4])
    out[:, :4].square().sum().backward()
    assert qkv.grad[:, 4:].abs().max() == 0 and bias.grad[:, :4, 4:].abs().max() == 0
    assert qkv.grad[:, :4].abs().min() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_scores_of_thousands_leave_the_attention_finite(references, dtype):
    starts, heads, tokens = [0, 2, 4], 2, 8
    torch.manual_seed(0)
    qkv = (100 * torch.randn(4, tokens, 24)).to(dtype).requires_grad_()
    bias = torch.randn(heads, tokens, tokens, dtype=dtype, requires_grad=True)
    out, _ = biased_attention(qkv, bias, references.stripes(tokens, 2), starts, heads)
    mutual, _ = mutual_attention(qkv, references.stripes(tokens // 2, 2), starts, heads)
    (out.float().mean() + mutual.float().mean()).backward()
    assert out.isfinite().all() and mutual.isfinite().all()
    assert qkv.grad.isfinite().all() and bias.grad.isfinite().all()


def test_the_gradients_of_biased_attention_are_those_of_finite_differences(references):
    qkv, bias, _ = drawn([0, 1, 3], 2, 4, 2, dtype=torch.float64)
    masks = references.stripes(4, 2)
    torch.autograd.gradcheck(lambda q, b: biased_attention(q, b, masks, [0, 1, 3], 2)[0], (qkv, bias))


def test_the_gradients_of_mutual_attention_are_those_of_finite_differences(references):
    qkv, _, _ = drawn([0, 1, 3], 2, 4, 2, dtype=torch.float64)
    masks = references.stripes(2, 2)
    torch.autograd.gradcheck(lambda q: mutual_attention(q, masks, [0, 1, 3], 2)[0], (qkv,))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck's own
def test_the_operators_are_registered_as_pytorch_wants_them(references):
    """`torch.library.opcheck`: schema, autograd registration, fake tensors, ahead-of-time dispatch."""
    qkv, bias, _ = drawn([0, 1, 3], 2, 4, 2, dtype=torch.float32)
    torch.library.opcheck(biased_attention, (qkv, bias, references.stripes(4, 2), [0, 1, 3], 2))
    torch.library.opcheck(biased_attention, (qkv, bias, references.stripes(4, 1), [0, 3], 2))
    torch.library.opcheck(mutual_attention, (qkv, references.stripes(2, 2), [0, 1, 3], 2))


def test_inputs_that_are_views_are_read_as_they_are(references):
    """The same numbers laid out anew."""
    qkv, bias, grad = drawn([0, 2, 5], 2, 6, 4, dtype=torch.float64)
    masks = references.stripes(6, 2)
    strided = [x.detach().transpose(0, 1).contiguous().transpose(0, 1) for x in (qkv, bias, grad)]
    one = strided[0].requires_grad_(), strided[1].requires_grad_()
    biased_attention(*one, masks, [0, 2, 5], 2)[0].backward(strided[2])
    biased_attention(qkv, bias, masks, [0, 2, 5], 2)[0].backward(grad)
    assert torch.allclose(one[0].grad, qkv.grad, atol=1e-12)
    assert torch.allclose(one[1].grad, bias.grad, atol=1e-12)


@pytest.mark.parametrize("wanted", ["qkv", "bias"])
def test_a_gradient_can_be_wanted_for_one_of_the_two(references, wanted):
    """The gradients that come when both are wanted."""
    qkv, bias, grad = drawn([0, 2, 5], 2, 6, 4, dtype=torch.float64)
    masks = references.stripes(6, 2)
    biased_attention(qkv, bias, masks, [0, 2, 5], 2)[0].backward(grad)
    alone = {"qkv": qkv.detach(), "bias": bias.detach()}
    alone[wanted].requires_grad_()
    biased_attention(*alone.values(), masks, [0, 2, 5], 2)[0].backward(grad)
    assert torch.equal(alone[wanted].grad, {"qkv": qkv, "bias": bias}[wanted].grad)


@pytest.mark.parametrize("dtype, within", [(torch.float64, 1e-13), (torch.float32, 1e-6)])
def test_the_gated_mlp_is_three_linears_gelu_and_a_product(references, dtype, within):
    """PyTorch's own layers and gradients, in float64."""
    torch.manual_seed(0)
    shapes = [(50, 6), (2, 10, 6), (2, 10), (5, 10), (5,)]
    grad = torch.randn(50, 5).to(dtype)
    inputs = [torch.randn(shape).to(dtype).requires_grad_() for shape in shapes]
    out = gated_mlp(*inputs)
    out.backward(grad)
    plain = exact(*inputs)
    x, weights, biases, last_weight, last_bias = plain
    gated = F.gelu(F.linear(x, weights[0], biases[0])) * F.linear(x, weights[1], biases[1])
    expected = F.linear(gated, last_weight, last_bias)
    expected.backward(grad.double())
    references.assert_near(out, expected, within=within)
    for mine, other in zip(inputs, plain, strict=True):
        references.assert_near(mine.grad, other.grad, within=within)


def test_the_gradients_of_the_gated_mlp_are_those_of_finite_differences():
    torch.manual_seed(0)
    shapes = ((3, 2), (2, 4, 2), (2, 4), (3, 4), (3,))
    inputs = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    torch.autograd.gradcheck(gated_mlp, [x.requires_grad_() for x in inputs])


def test_rows_go_into_the_windows_and_back_with_their_gradients():
    """Indexing written out: places 1 and 4 of five hold nothing, the others rows 2, 0 and 1."""
    index, inverse = torch.tensor([2, 0, 0, 1, 0]), torch.tensor([2, 3, 0])
    padding = torch.tensor([1, 4])
    rows = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    places = to_windows(rows, index, inverse, padding)
    nothing = torch.zeros(2)
    assert torch.equal(places, torch.stack([rows[2], nothing, rows[0], rows[1], nothing]))
    assert torch.equal(from_windows(places, index, inverse, padding), rows)
    torch.autograd.gradcheck(lambda x: to_windows(x, index, inverse, padding), rows)
    places = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    assert torch.equal(from_windows(places, index, inverse, padding), places[inverse])
    torch.autograd.gradcheck(lambda x: from_windows(x, index, inverse, padding), places)


def test_second_derivatives_are_right_or_refused(references):
    """Finite differences: a backward pass by hand must not give silently wrong ones."""
    torch.manual_seed(0)
    masks = torch.zeros(1, 4, 4)
    cases = [
        (gated_mlp, [(3, 2), (2, 4, 2), (2, 4), (3, 4), (3,)]),
        (lambda q, b: biased_attention(q, b, masks, [0, 2], 2)[0], [(2, 4, 12), (2, 4, 4)]),
        (lambda q: mutual_attention(q, masks[:, :2, :2], [0, 2], 2)[0], [(2, 4, 12)]),
        (lambda x: to_windows(x, torch.tensor([1, 0]), torch.tensor([1, 0]), None).square(), [(2, 3)]),
    ]
    for function, shapes in cases:
        references.assert_twice_differentiable_or_refused(function, shapes)
