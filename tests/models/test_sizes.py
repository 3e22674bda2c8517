"""Expected are the values that the networks were built with."""

import pytest
import torch

from deblurkit.config.load import load_config
from deblurkit.models.registry import build_model
from deblurkit.models.sizes import sizes_of, window_of
from deblurkit.models.vrt.windows import relative_position_index


def weights(*overrides, preset="quickstart_vrt"):
    config = load_config(preset, None, overrides, warn=lambda text: None)
    return build_model(config.model, num_voxel_bins=config.data.num_voxel_bins).state_dict()


def test_the_sizes_of_vrt_are_those_that_it_was_built_with():
    keys = {
        "MODEL.VRT_DEPTHS": [2, 1, 1, 1, 1, 1, 3, 1, 1, 1, 1],
        "MODEL.WINDOW_SIZE": [2, 4, 3],
        "MODEL.VRT.EMBED_DIMS": [16, 24],
        "MODEL.VRT.NUM_HEADS": 4,
        "MODEL.VRT.PA_FRAMES": 4,
        "MODEL.VRT.DEFORMABLE_GROUPS": 8,
        "MODEL.VRT.INDEP_RECONSTS": [8, 10],
        "MODEL.CHANNELS_PER_SCALE": [4, 8, 12, 16],
        "DATA.NUM_VOXEL_BINS": 5,
    }
    found = sizes_of(weights(*(f"{key}={value}" for key, value in keys.items())))
    assert found == {**keys, "MODEL.ARCH": "vrt", "MODEL.USE_SPIKE": True}


def test_vrt_without_spikes_says_nothing_of_them():
    found = sizes_of(weights("MODEL.USE_SPIKE=false"))
    assert "MODEL.USE_SPIKE" not in found and "DATA.NUM_VOXEL_BINS" not in found


@pytest.mark.parametrize("arch", ["baseline", "convnext"])
def test_the_sizes_of_the_light_networks(arch):
    keys = {"MODEL.ARCH": arch, "MODEL.BASE_CHANNELS": 6, "MODEL.NUM_BLOCKS": 2, "DATA.NUM_VOXEL_BINS": 5}
    found = sizes_of(weights(*(f"{key}={value}" for key, value in keys.items()), preset="quickstart"))
    assert found == {**keys, "MODEL.USE_SPIKE": True}


def test_another_kind_of_network_tells_nothing():
    assert sizes_of({"layer.weight": torch.ones(2, 2)}) == {}


@pytest.mark.parametrize(
    "window", [(1, 1, 1), (1, 8, 8), (6, 8, 8), (2, 3, 5), (4, 1, 3), (3, 4, 1), (5, 1, 1)]
)
def test_a_window_is_told_from_its_relative_positions(window):
    found = window_of(relative_position_index(window))
    assert found[0] * found[1] * found[2] == window[0] * window[1] * window[2]
    if min(window[1:]) > 1:
        assert tuple(found) == window


def test_a_table_of_no_window_is_none():
    assert window_of(torch.ones(3, 4)) is None
