import pytest
from torch import nn

from deblurkit.training.profiling.watched import kind_of, rows_with_recompute


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("stage1.residual_group1.blocks.0.attn", "attention"),
        ("stage8.2.residual_group.blocks.3.norm1", "attention"),
        ("stage1.residual_group1.blocks.0.mlp", "feed_forward"),
        ("stage8.2.residual_group.blocks.3.norm2", "feed_forward"),
        ("stage7.pa_fuse.fc2", "feed_forward"),
        ("stage7.pa_deform.conv_offset.0", "other"),
        ("spike_attention.0.mlp", "attention"),  # its chunks go by the flag of attention
        ("fusion.2.query", "attention"),
        ("encoders.0.1", "other"),
    ],
)
def test_what_is_made_again_belongs_to_a_branch(path, kind):
    assert kind_of(path) == kind


def test_what_is_made_again_is_watched_once_and_shown_in_the_nearest_row():
    model = nn.Sequential(nn.Sequential(nn.Sequential(nn.ReLU()), nn.ReLU()), nn.ReLU())
    rows = rows_with_recompute(model, {model[0]: "a"}, again=["0.0", "0.0.0", "1"])
    assert rows.shown == {"a": ("0",)}
    assert rows.watched == {model[0]: "a", model[0][0]: "once more:0.0", model[1]: "once more:1"}
    assert rows.names.hidden == {"once more:0.0": "a", "once more:1": ""}
    assert rows.modules_of("a") == [model[0]]


def test_a_row_that_is_made_again_needs_no_other():
    model = nn.Sequential(nn.Sequential(nn.ReLU()))
    rows = rows_with_recompute(model, {model[0]: "a"}, again=["0", "0.0"])
    assert rows.watched == {model[0]: "a"} and rows.names.kinds == {"a": "other"}
