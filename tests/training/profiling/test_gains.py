"""Amdahl's arithmetic on profiles that are made up."""

import pytest

from deblurkit.config.load import load_config
from deblurkit.training.profiling.gains import arithmetic, find_gains, speedup
from deblurkit.training.profiling.records import Passes, Phase, Row, StepProfile, Subject

SUBJECT = Subject("vrt", 10, "cpu", "CPU", "fp32", (1, 2, 3, 8, 8), None, 1, "loader", False)


@pytest.fixture(scope="module")
def config():
    return load_config("baseline", None, [], warn=lambda text: None)


def profile_of(*, phases=None, rows=(), recompute=None, step_ms=1000.0):
    shown = [Phase(name, ms, ms, ms / step_ms, None, None) for name, ms in (phases or {}).items()]
    rest = Passes()
    return StepProfile(
        SUBJECT, 5, 1, step_ms, step_ms, tuple(shown), tuple(rows), rest, recompute or {}, None, None
    )


def row(name, modules, *, forward=0.0, backward=0.0):
    ms = Passes(forward, backward)
    return Row(name, modules, 1, ms, ms, ms.total / 1000, Passes(), Passes(), 0, (), ())


def found(profile, config):
    return {gain.id: gain for gain in find_gains(profile, config)}


def test_a_quarter_saved_is_four_thirds_as_fast():
    assert speedup(1000, 250) == pytest.approx(4 / 3)
    text = arithmetic(1000, 250)
    assert text == (
        "250 ms of a 1,000 ms step (25.0 %): 1,000 ms / (1,000 ms - 250 ms) = 1,000 ms / 750 ms"
        " = 1.33 times as fast"
    )


def test_nothing_is_said_where_nothing_is_above_five_percent(config):
    phases = {"data": 49.0, "transfer": 10.0, "optimizer": 99.0, "unaccounted": 20.0}
    assert find_gains(profile_of(phases=phases, recompute={"attention": 50.0}), config) == ()


def test_recompute_is_a_gain_of_each_key_and_of_both(config):
    gains = found(profile_of(recompute={"attention": 200.0, "feed_forward": 100.0, "other": 90.0}), config)
    assert list(gains) == ["recompute", "recompute_attention", "recompute_feed_forward"]
    assert gains["recompute"].saved_ms == 300 and gains["recompute"].speedup == pytest.approx(1000 / 700)
    assert gains["recompute_attention"].keys == ("MODEL.VRT.USE_CHECKPOINT_ATTN",)
    assert gains["recompute_feed_forward"].speedup == pytest.approx(1000 / 900)


def test_phases_that_others_can_hide_or_share(config):
    gains = found(profile_of(phases={"data": 300.0, "transfer": 60.0, "optimizer": 160.0}), config)
    assert gains["data"].speedup == pytest.approx(1000 / 700)
    assert gains["transfer"].saved_ms == 60
    assert (
        gains["optimizer"].saved_ms == 80 and "every 12 micro-steps instead of 6" in gains["optimizer"].title
    )


def test_parts_of_vrt(config):
    rows = [
        row("VRT/Optical flow", ("spynet",), forward=100, backward=150),
        row("VRT/Stage8", ("stage8",), forward=100, backward=200),
        row("VRT/Stage3", ("stage3",), forward=50),
        row("Fusion/Stage1", ("fusion.0",), forward=30, backward=20),
        row("Spike encoder", ("spike_encoder",), forward=40),
    ]
    gains = found(profile_of(rows=rows), config)
    assert gains["flow_backward"].saved_ms == 150
    assert gains["spike_branch"].saved_ms == 90
    assert gains["longest_stage"].saved_ms == 150 and "Stage8" in gains["longest_stage"].title


def test_other_networks_hear_nothing_of_vrt():
    plain = load_config("quickstart", None, [], warn=lambda text: None)
    assert find_gains(profile_of(rows=[row("stage1", ("stage1",), forward=900)]), plain) == ()
