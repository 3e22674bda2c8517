import pytest
import torch
from torch import nn

from deblurkit.config.load import load_config
from deblurkit.models.registry import build_model
from deblurkit.timing.module_rows import module_rows

SCALES = ["残差", "下采样"]
VRT_ROWS = {
    *(f"VRT处理/Stage{k}" for k in range(1, 9)),
    *(f"VRT处理/{name}" for name in ("光流", "conv_first", "norm", "conv_after_body", "conv_last")),
    *(f"VRT融合/Stage{k}" for k in range(1, 5)),
    *(f"Spike时间自注意力/尺度{k}" for k in range(4)),
    *(f"Spike编码器/尺度{k} 残差" for k in range(4)),
    *(f"Spike编码器/尺度{k} 下采样" for k in range(1, 4)),
    "Spike编码器",
    "Spike编码器/输入投影",
}


@pytest.fixture(scope="module")
def tiny_vrt():
    sets = [
        "MODEL.VRT.EMBED_DIMS=[8, 8]",
        "MODEL.VRT.NUM_HEADS=1",
        "MODEL.CHANNELS_PER_SCALE=[4, 4, 4, 4]",
    ]
    section = load_config("quickstart_vrt", None, sets, warn=lambda text: None).model
    return build_model(section, num_voxel_bins=2)


def fired(model, rows):
    """Return the modules with rows that a forward pass calls, by plain hooks."""
    found = set()
    for module in rows:
        module.register_forward_hook(lambda module, args, output: found.add(module))
    with torch.no_grad():
        model(torch.rand(1, 2, 3, 40, 40), torch.rand(1, 2, 2, 20, 20))
    return found


def test_vrt_has_the_rows_of_its_logs_and_every_one_of_them_fires(tiny_vrt):
    rows = module_rows(tiny_vrt, depth=2, language="zh")
    assert set(rows.values()) == VRT_ROWS
    assert rows[tiny_vrt.stage1] == "VRT处理/Stage1"
    assert rows[tiny_vrt.spike_encoder] == "Spike编码器"
    assert rows[tiny_vrt.fusion[3]] == "VRT融合/Stage4"
    assert fired(tiny_vrt, rows) == set(rows)


def test_english_names_and_deeper_rows(tiny_vrt):
    rows = module_rows(tiny_vrt, depth=3)
    named = set(rows.values())
    assert {"VRT/Stage1/residual_group1", "VRT/Stage8/entry", "VRT/Stage8/group1"} <= named
    assert {"Fusion/Stage1/proj", "Spike temporal attention/Scale 0/FFN", "VRT/Optical flow"} <= named
    assert fired(tiny_vrt, rows) == set(rows)


def test_at_depth_one_modules_of_a_group_share_a_row(tiny_vrt):
    rows = module_rows(tiny_vrt, depth=1)
    assert set(rows.values()) == {"VRT", "Fusion", "Spike encoder", "Spike temporal attention"}
    assert rows[tiny_vrt.stage1] == rows[tiny_vrt.spynet] == "VRT"


def test_a_pattern_nests_rows_in_chosen_ones_only(tiny_vrt):
    rows = module_rows(tiny_vrt, pattern=r"^stage1\.residual_group1$|^stage1.*attn$|Fusion/Stage2$")
    assert set(rows.values()) == {
        "VRT/Stage1.residual_group1",
        "VRT/Stage1.residual_group1/blocks.0.attn",
        "VRT/Stage1.residual_group2.blocks.0.attn",
        "Fusion/Stage2",
    }


def test_modules_that_are_bypassed_have_no_row_where_that_is_known(tiny_vrt):
    pattern = r"stage1\.pa_deform"
    guessed = module_rows(tiny_vrt, pattern=pattern)
    called = fired(tiny_vrt, guessed)
    rows = module_rows(tiny_vrt, pattern=pattern, called=called)
    assert set(rows) == called < set(guessed)
    assert tiny_vrt.stage1.pa_deform.conv_offset in set(guessed) - called  # its layers run without it


def test_other_networks_keep_their_names_and_lists_add_no_level():
    model = nn.Module()
    model.stem = nn.Linear(1, 1)
    model.blocks = nn.ModuleList([nn.Sequential(nn.Linear(1, 1), nn.ReLU())])
    rows = module_rows(model, depth=2)
    assert list(rows.values()) == ["stem", "blocks.0", "blocks.0/0", "blocks.0/1"]
    assert set(module_rows(model, depth=1).values()) == {"stem", "blocks.0"}


def test_a_slash_in_a_name_makes_no_level():
    assert list(module_rows(nn.Sequential(), depth=1)) == []
    model = nn.Module()
    model.add_module("a/b", nn.Linear(1, 1))
    assert list(module_rows(model, depth=1).values()) == ["a_b"]


@pytest.mark.parametrize("choice", [{}, {"depth": 1, "pattern": "x"}, {"depth": 0}])
def test_a_wrong_choice_is_refused(choice):
    with pytest.raises(ValueError, match="expected"):
        module_rows(nn.Sequential(), **choice)
