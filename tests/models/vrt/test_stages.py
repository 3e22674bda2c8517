import pytest
import torch

from deblurkit.models.vrt.flow import ClipFlows
from deblurkit.models.vrt.stages import ReconstructionGroup, Stage, depth_to_space, space_to_depth


def test_space_to_depth_puts_column_then_row_then_channel_into_the_channels():
    """A loop over the indices."""
    x = torch.arange(2 * 3 * 4 * 6 * 5).view(2, 3, 4, 6, 5)
    out = space_to_depth(x)
    assert out.shape == (2, 3, 2, 3, 20)
    for row in range(4):
        for column in range(6):
            for channel in range(5):
                place = (column % 2 * 2 + row % 2) * 5 + channel
                assert torch.equal(out[:, :, row // 2, column // 2, place], x[:, :, row, column, channel])


def test_depth_to_space_undoes_it():
    x = torch.arange(2 * 3 * 4 * 6 * 5).view(2, 3, 4, 6, 5)
    assert torch.equal(depth_to_space(space_to_depth(x)), x)


ENTRIES = {"same": (8, (4, 8)), "down": (8, (8, 16)), "up": (16, (2, 4))}


def stage(entry="same", *, depth=3, dim_in=8, neighbours=1, recompute=False):
    torch.manual_seed(0)
    return Stage(
        entry,
        dim_in=dim_in,
        dim=8,
        window=(3, 4, 4),
        num_heads=2,
        drop_paths=[0.0] * depth,
        neighbours=neighbours,
        deformable_groups=2,
        radius=2.5,
        checkpoint_attention=recompute,
        checkpoint_mlp=recompute,
    )


def drawn(entry, *, depth=3, neighbours=1, dtype=torch.float64):
    """Return tokens of the stage before and flows at the scale of 4 x 8 tokens."""
    torch.manual_seed(1)
    dim_in, side = ENTRIES[entry]
    x = torch.randn(1, depth, *side, dim_in, dtype=dtype)
    both = [
        [torch.randn(1, max(0, depth - n), 2, 4, 8, dtype=dtype) for n in range(1, neighbours + 1)]
        for _ in range(2)
    ]
    return x, ClipFlows(*both)


def results(layer, x, flows):
    """Return output, and gradients of tokens and parameters for seeded gradients of the output."""
    x = x.clone().requires_grad_()
    out = layer(x, flows)
    torch.manual_seed(2)
    return [out, *torch.autograd.grad(out, [x, *layer.parameters()], torch.randn_like(out))]


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("neighbours, blocks", [(1, 4), (2, 3)])
def test_a_stage_equals_a_plain_one_with_the_same_weights(references, plain_vrt, entry, neighbours, blocks):
    """`benchmarks/plain_vrt.py`, channels first there, with all gradients."""
    dim_in = ENTRIES[entry][0]
    layer = references.seed_weights(stage(entry, depth=blocks, dim_in=dim_in, neighbours=neighbours)).double()
    plain = plain_vrt.Stage(
        {"same": "none"}.get(entry, entry), dim_in, 8, blocks, 2, (3, 4, 4),
        pa_frames=2 * neighbours, groups=2, radius=2.5,
    ).double()  # fmt: skip
    plain.load_state_dict(layer.state_dict())
    x, flows = drawn(entry, neighbours=neighbours)
    actual = results(layer, x, flows)
    x = x.permute(0, 4, 1, 2, 3).requires_grad_()
    out = plain(x, flows.backward, flows.forward)
    references.assert_near(actual[0], out.permute(0, 2, 3, 4, 1), within=1e-9)
    torch.manual_seed(2)
    grad = torch.randn(1, 3, 4, 8, 8, dtype=torch.float64).permute(0, 4, 1, 2, 3)
    wanted = dict(
        zip(
            ["x", *dict(plain.named_parameters())],
            torch.autograd.grad(out, [x, *plain.parameters()], grad),
            strict=True,
        )
    )
    wanted["x"] = wanted["x"].permute(0, 2, 3, 4, 1)
    for name, mine in zip(["x", *dict(layer.named_parameters())], actual[1:], strict=True):
        references.assert_near(mine, wanted[name], within=1e-8, name=name)


@pytest.mark.parametrize("depth, mutual", [(1, 0), (2, 1), (3, 2), (4, 3), (6, 4), (8, 6)])
def test_three_quarters_of_the_blocks_have_mutual_attention(depth, mutual):
    layer = stage(depth=depth)
    assert [len(group.blocks) for group in (layer.residual_group1, layer.residual_group2)] == [
        mutual,
        depth - mutual,
    ]
    assert all(b.attn.mutual and b.window == (2, 4, 4) for b in layer.residual_group1.blocks)
    assert not any(b.attn.mutual or b.window != (3, 4, 4) for b in layer.residual_group2.blocks)


def test_a_recomputing_stage_gives_the_same_gradients():
    """The stage that keeps everything."""
    x, flows = drawn("same", dtype=torch.float32)
    for mine, other in zip(results(stage(recompute=True), x, flows), results(stage(), x, flows), strict=True):
        assert torch.equal(mine, other)


def test_a_group_adds_what_its_blocks_and_its_linear_make(references, plain_vrt):
    """`benchmarks/plain_vrt.py`."""
    group = ReconstructionGroup(
        8,
        window=(1, 4, 4),
        num_heads=2,
        drop_paths=[0.0, 0.0],
        checkpoint_attention=False,
        checkpoint_mlp=False,
    )
    references.seed_weights(group).double()
    plain = plain_vrt.Group(8, 2, (1, 4, 4), 2).double()
    plain.load_state_dict(group.state_dict())
    x = torch.randn(2, 3, 6, 5, 8, dtype=torch.float64)
    expected = plain(x.permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1)
    references.assert_near(group(x), expected, within=1e-12)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("neighbours", [1, 2])
def test_a_stage_compiles_without_a_break_and_gives_the_same_numbers(references, neighbours, recompute):
    """The stage as it is, with its gradients."""
    layer = references.seed_weights(stage("down", neighbours=neighbours, recompute=recompute)).double()
    x, flows = drawn("down", neighbours=neighbours)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for mine, other in zip(results(compiled, x, flows), results(layer, x, flows), strict=True):
        references.assert_near(mine, other, within=1e-9)
