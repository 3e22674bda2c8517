import pytest
import torch

from deblurkit.config.sections import ModelSection
from deblurkit.errors import ConfigError
from deblurkit.models.blocks import ConvNeXtBlock, ResidualBlock
from deblurkit.models.registry import build_model


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


def test_an_architecture_that_is_not_built_is_refused_with_those_that_are():
    with pytest.raises(ConfigError, match="MODEL.ARCH: vrt is not built.*baseline, convnext"):
        build_model(section(ARCH="vrt"), num_voxel_bins=5)
