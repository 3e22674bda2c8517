import pytest
import torch

from deblurkit.models.vrt.blocks import Block, BlockGroup, DropPath, GatedMlp


def block(window=(2, 4, 4), *, mutual=False, shifted=False, drop_path=0.0, attention=False, mlp=False):
    torch.manual_seed(0)
    return Block(
        8,
        window=window,
        num_heads=2,
        mutual=mutual,
        shifted=shifted,
        drop_path=drop_path,
        checkpoint_attention=attention,
        checkpoint_mlp=mlp,
    )


def results(layer, x):
    """Return the output and, by name, the gradients of input and parameters."""
    x = x.clone().requires_grad_()
    out = layer(x)
    torch.manual_seed(1)
    inputs = {"input": x, **dict(layer.named_parameters())}
    grads = torch.autograd.grad(out, list(inputs.values()), torch.randn_like(out))
    return {"output": out, **dict(zip(inputs, grads, strict=True))}


def same(references, actual, expected, *, within):
    assert {name.removeprefix("_orig_mod.") for name in actual} == set(expected)
    for name, mine in actual.items():
        name = name.removeprefix("_orig_mod.")
        references.assert_near(mine, expected[name], within=within, name=name)


@pytest.mark.parametrize(
    "size, window",
    [((2, 8, 8), (2, 4, 4)), ((3, 6, 5), (2, 4, 4)), ((5, 7, 9), (6, 4, 3)), ((4, 8, 8), (1, 4, 4))],
)
@pytest.mark.parametrize("shifted", [False, True])
def test_a_block_equals_a_plain_one_with_the_same_weights(references, plain_vrt, size, window, shifted):
    """`benchmarks/plain_vrt.py`, with all gradients."""
    mutual = window[0] == 2
    layer = references.seed_weights(block(window, mutual=mutual, shifted=shifted)).double()
    plain = plain_vrt.Block(8, window, 2, mutual=mutual, shifted=shifted).double()
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(2, *size, 8, dtype=torch.float64)
    same(references, results(layer, x), results(plain, x), within=1e-10)


@pytest.mark.parametrize("shape", [(5, 6), (2, 3, 4, 6), (1, 6)])
def test_the_gated_mlp_equals_a_plain_one_with_the_same_weights(references, plain_vrt, shape):
    """`benchmarks/plain_vrt.py`, with all gradients."""
    torch.manual_seed(0)
    layer, plain = GatedMlp(6, 10, 4).double(), plain_vrt.Geglu(6, 10, 4).double()
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(shape, dtype=torch.float64)
    same(references, results(layer, x), results(plain, x), within=1e-12)


def test_the_gated_mlp_takes_rows_that_are_views(references):
    """The same rows laid out anew."""
    torch.manual_seed(0)
    layer, x = GatedMlp(6, 10, 4).double(), torch.randn(6, 5, 3, dtype=torch.float64).permute(1, 2, 0)
    same(references, results(layer, x), results(layer, x.contiguous()), within=1e-13)


@pytest.mark.parametrize("frozen", ["weights", "input"])
def test_the_gated_mlp_trains_what_is_not_frozen(frozen):
    """The gradients that come when nothing is frozen."""
    torch.manual_seed(0)
    layer, x = GatedMlp(6, 10, 4).double(), torch.randn(5, 6, dtype=torch.float64)
    _, to_x, *to_weights = results(layer, x).values()
    torch.manual_seed(1)
    grad = torch.randn(5, 4, dtype=torch.float64)
    if frozen == "weights":
        layer.requires_grad_(False)
        x.requires_grad_()
        layer(x).backward(grad)
        assert torch.equal(x.grad, to_x) and all(p.grad is None for p in layer.parameters())
    else:
        layer(x).backward(grad)
        assert all(torch.equal(p.grad, g) for p, g in zip(layer.parameters(), to_weights, strict=True))


@pytest.mark.parametrize("dtype, within", [(torch.bfloat16, 0.03), (torch.float16, 0.004)])
@pytest.mark.parametrize("part", ["mlp", "block"])
def test_autocast_gives_the_dtypes_and_about_the_numbers_of_plain_layers(
    references, plain_vrt, part, dtype, within
):
    """`benchmarks/plain_vrt.py` in float32."""
    if part == "mlp":
        layer, plain = GatedMlp(8, 16, 8), plain_vrt.Geglu(8, 16, 8)
    else:
        layer = block(mutual=True, shifted=True)
        plain = plain_vrt.Block(8, (2, 4, 4), 2, mutual=True, shifted=True)
    references.seed_weights(layer)
    plain.load_state_dict(layer.state_dict())
    torch.manual_seed(0)
    x = torch.randn(1, 2, 8, 8, 8)
    with torch.autocast("cpu", dtype=dtype):
        out = layer(x)
        assert out.dtype == plain(x).dtype
        mine = results(layer, x)
    assert {g.dtype for name, g in mine.items() if name != "output"} == {torch.float32}
    same(references, mine, results(plain, x), within=within)


@pytest.mark.parametrize("attention, mlp", [(True, False), (False, True), (True, True)])
def test_a_recomputing_block_gives_the_same_gradients_and_recomputes_what_it_should(attention, mlp):
    """The block that keeps everything."""
    x, kept = torch.randn(2, 2, 8, 8, 8), block(mutual=True)
    layer, ran = block(mutual=True, attention=attention, mlp=mlp), []
    layer.attn.register_forward_pre_hook(lambda *_: ran.append("attention"))
    layer.mlp.register_forward_pre_hook(lambda *_: ran.append("mlp"))
    actual = results(layer, x)
    assert (ran.count("attention"), ran.count("mlp")) == (1 + attention, 1 + mlp)
    expected = results(kept, x)
    assert all(torch.equal(actual[name], expected[name]) for name in expected)


def test_drop_path_leaves_out_whole_clips_at_its_rate_and_keeps_the_mean():
    """Closed form: 0 at the rate of 0.3, else 1 / 0.7; 20000 clips put the mean within 0.02 (4 sigma)."""
    torch.manual_seed(0)
    out = DropPath(0.3).train()(torch.ones(20000, 3, 2))
    assert torch.equal(out, out[:, :1, :1].expand_as(out))
    kept = out[out > 0]
    assert torch.allclose(kept, torch.full_like(kept, 1 / 0.7))
    assert abs((out == 0).float().mean().item() - 0.3) < 0.013
    assert abs(out.mean().item() - 1) < 0.02


def test_drop_path_does_nothing_in_evaluation_or_at_rate_zero():
    x = torch.randn(8, 3)
    assert torch.equal(DropPath(0.9).eval()(x), x) and torch.equal(DropPath(0.0).train()(x), x)


def test_the_two_branches_of_a_block_are_dropped_apart():
    """Closed form: at a rate of 0.5, 400 clips take each of the four ways about 100 times (5 sigma: 45)."""
    layer = block(drop_path=0.5)
    for branch in (layer.attn.proj, layer.mlp.fc2):
        torch.nn.init.zeros_(branch.weight)
    torch.nn.init.constant_(layer.attn.proj.bias, 1.0)
    torch.nn.init.constant_(layer.mlp.fc2.bias, 10.0)
    torch.manual_seed(2)
    with torch.no_grad():
        out = layer(torch.zeros(400, 1, 2, 2, 8))
    assert torch.equal(out, out[:, :1, :1, :1, :1].expand_as(out))
    ways, counts = out[:, 0, 0, 0, 0].unique(return_counts=True)
    assert ways.tolist() == [0, 2, 20, 22]
    assert counts.min() > 55 and counts.max() < 145


def test_every_second_block_of_a_group_is_shifted():
    group = BlockGroup(
        8,
        window=(2, 4, 4),
        num_heads=2,
        mutual=False,
        drop_paths=[0.0, 0.1, 0.2],
        checkpoint_attention=False,
        checkpoint_mlp=True,
    )
    assert [b.shifted for b in group.blocks] == [False, True, False]
    assert [b.drop_path.rate for b in group.blocks] == [0.0, 0.1, 0.2]
    assert [(b.checkpoint_attention, b.checkpoint_mlp) for b in group.blocks] == [(False, True)] * 3


@pytest.mark.parametrize("mutual", [False, True])
def test_a_block_compiles_without_a_break_and_gives_the_same_numbers(references, mutual):
    """The block as it is, with its gradients."""
    layer, x = block(mutual=mutual, shifted=True), torch.randn(1, 3, 6, 8, 8)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    same(references, results(compiled, x), results(layer, x), within=1e-5)


@pytest.mark.slow
def test_a_block_compiled_to_code_takes_clips_of_two_sizes(references):
    """The block as it is, under the compiler that users get; a size is a graph of its own."""
    layer = block()
    compiled = torch.compile(layer, fullgraph=True, dynamic=False)
    for size in ((2, 8, 8), (3, 6, 12)):
        x = torch.randn(1, *size, 8)
        same(references, results(compiled, x), results(layer, x), within=1e-5)
