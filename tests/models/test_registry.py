import pytest
import torch

from deblurkit.config.sections.model import ModelSection
from deblurkit.models.blocks import ConvNeXtBlock, ResidualBlock
from deblurkit.models.registry import build_model, smallest_clip
from deblurkit.models.vrt.network import VRT


def section(**keys):
    return ModelSection.model_validate({"BASE_CHANNELS": 4, "NUM_BLOCKS": 2, **keys})


@pytest.mark.parametrize(("arch", "block"), [("baseline", ResidualBlock), ("convnext", ConvNeXtBlock)])
def test_the_section_decides_blocks_and_width(arch, block):
    model = build_model(section(ARCH=arch), num_voxel_bins=5)
    blocks = [module for module in model.modules() if isinstance(module, block)]
    assert len(blocks) == 2 * (3 + 2)  # three levels down, two up
    out = model(torch.rand(1, 2, 3, 16, 16), torch.rand(1, 2, 5, 8, 8))
    assert out.shape == (1, 2, 3, 16, 16)


def test_without_spikes_the_network_takes_none():
    model = build_model(section(ARCH="baseline", USE_SPIKE=False), num_voxel_bins=5)
    assert model(torch.rand(1, 2, 3, 16, 16), None).shape == (1, 2, 3, 16, 16)


TINY_VRT = {
    "ARCH": "vrt",
    "VRT_DEPTHS": [1] * 11,
    "WINDOW_SIZE": [2, 4, 4],
    "CHANNELS_PER_SCALE": [8, 8, 8, 8],
    "VRT": {"EMBED_DIMS": [8, 12], "NUM_HEADS": 2, "DEFORMABLE_GROUPS": 2},
}


def test_vrt_is_built_as_the_section_says():
    model = build_model(section(**TINY_VRT, USE_SPIKE=False), num_voxel_bins=5)
    assert type(model) is VRT
    shapes = {name: tuple(weights.shape) for name, weights in model.state_dict().items()}
    assert shapes["stage3.residual_group2.blocks.0.attn.relative_position_index"] == (32, 32)
    assert shapes["stage8.1.linear.weight"] == (12, 12)
    assert shapes["stage8.4.residual_group.blocks.0.attn.relative_position_bias_table"] == (49, 2)
    assert model.num_voxel_bins == 0
    assert model.stage1.residual_group2.blocks[0].checkpoint_attention  # the default of MODEL.VRT


def test_vrt_with_spikes_has_the_same_names_and_a_branch_beside_them():
    plain = build_model(section(**TINY_VRT, USE_SPIKE=False), num_voxel_bins=5)
    with_spikes = build_model(section(**TINY_VRT), num_voxel_bins=5)
    extra = with_spikes.state_dict().keys() - plain.state_dict().keys()
    assert {name.split(".")[0] for name in extra} == {"spike_encoder", "spike_attention", "fusion"}
    assert plain.state_dict().keys() <= with_spikes.state_dict().keys()
    assert with_spikes.num_voxel_bins == 5


def test_the_published_sizes_are_the_defaults():
    keys = {"ARCH": "vrt", "USE_SPIKE": False, "VRT_DEPTHS": [8] * 7 + [4] * 4}
    with torch.device("meta"):
        ours = build_model(section(**keys), num_voxel_bins=5).state_dict()
        published = VRT().state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in published.items()}


def test_the_smallest_clip_is_what_the_network_takes():
    vrt = section(**TINY_VRT, USE_SPIKE=False)
    assert smallest_clip(vrt) == (2, 33, 33)
    assert smallest_clip(section(ARCH="vrt", WINDOW_SIZE=[6, 8, 10])) == (2, 64, 80)
    assert smallest_clip(section(ARCH="baseline")) == (1, 1, 1)
    model = build_model(vrt, num_voxel_bins=5)
    assert model(torch.rand(1, 2, 3, 33, 33)).shape == (1, 2, 3, 33, 33)
    with pytest.raises(ValueError, match="at least 33 x 33 px"):
        model(torch.rand(1, 2, 3, 32, 33))
