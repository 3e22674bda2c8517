import re

import pytest
import torch

from deblurkit.models.blocks import ResidualBlock
from deblurkit.models.parts import parameters_of, part_of
from deblurkit.models.unet import ClipUNet
from deblurkit.models.vrt.network import VRT
from deblurkit.models.vrt.spike_network import SpikeVRT
from deblurkit.models.vrt.spikes import ChunkPlan

SIZES = {
    "window_size": (2, 4, 4),
    "depths": [1] * 8,
    "indep_reconsts": [],
    "embed_dims": [8] * 8,
    "num_heads": [2] * 8,
    "deformable_groups": 2,
}
PARTS = ("flow", "spikes", "rest")


@pytest.fixture(scope="module")
def made():
    """The networks by kind, without memory for their weights."""
    with torch.device("meta"):
        with_spikes = SpikeVRT(
            num_voxel_bins=5,
            channels_per_scale=[8] * 4,
            attention_heads=2,
            attention_plan=ChunkPlan(),
            fusion_heads=2,
            fusion_plan=ChunkPlan(),
            **SIZES,
        )
        light = ClipUNet(block=ResidualBlock, base_channels=4, num_blocks=1, num_voxel_bins=5)
        return {"vrt": VRT(**SIZES), "vrt with spikes": with_spikes, "light": light}


def names(model, part):
    return {name for name, _ in model.named_parameters() if part_of(name) == part}


def test_flow_and_alignment_of_vrt_are_a_part(made):
    """The published names: SpyNet stands at the top, the alignment in stages 1 to 7."""
    flow = names(made["vrt"], "flow")
    expected = re.compile(r"spynet\.basic_module\.\d\.|stage[1-7]\.pa_deform\.")
    assert flow == {name for name, _ in made["vrt"].named_parameters() if expected.match(name)}
    assert {name.split(".")[0] for name in flow} == {"spynet", *(f"stage{i}" for i in range(1, 8))}
    assert names(made["vrt"], "spikes") == set()


def test_what_spikes_add_to_vrt_is_a_part(made):
    """The difference of the two networks."""
    plain = {name for name, _ in made["vrt"].named_parameters()}
    both = {name for name, _ in made["vrt with spikes"].named_parameters()}
    assert plain < both
    assert names(made["vrt with spikes"], "spikes") == both - plain
    assert names(made["vrt with spikes"], "flow") == names(made["vrt"], "flow")


def test_the_light_networks_are_one_part(made):
    assert names(made["light"], "rest") == {name for name, _ in made["light"].named_parameters()}


@pytest.mark.parametrize("kind", ["vrt", "vrt with spikes", "light"])
def test_every_parameter_is_in_one_part(made, kind):
    model = made[kind]
    found = [id(parameter) for part in PARTS for parameter in parameters_of(model, part)]
    assert sorted(found) == sorted(id(parameter) for parameter in model.parameters())


@pytest.mark.parametrize(
    "name, part",
    [
        ("module.spynet.basic_module.0.basic_module.0.weight", "flow"),  # as DistributedDataParallel names it
        ("_orig_mod.stage1.pa_deform.weight", "flow"),  # as torch.compile does
        ("module.fusion.0.proj.weight", "spikes"),
        ("module.conv_first.weight", "rest"),
        ("spynetwork.weight", "rest"),
        ("stage1.my_fusion.weight", "rest"),
        ("", "rest"),
    ],
)
def test_a_part_is_told_by_the_whole_name_of_a_module_at_any_depth(name, part):
    assert part_of(name) == part
