from pathlib import Path

import pytest

from deblurkit.data.checks.comparison import compare
from deblurkit.data.checks.report import SequenceReport, SequenceResult


def results(rates, *, split="train", shape=(720, 1280), **more):
    return [
        SequenceResult(
            SequenceReport(split, f"{split}{index}", 10, spike_rate=rate, **more),
            (),
            Path(f"{split}{index}"),
            frame_shape=shape,
        )
        for index, rate in enumerate(rates)
    ]


def kinds(found):
    return [result.report.kinds for result in found]


def test_rates_of_scenes_that_differ_as_scenes_do_pass():
    assert kinds(compare(results([0.1, 0.2, 0.25, 0.3, 0.4]))) == [()] * 5


@pytest.mark.parametrize(("rate", "stands_out"), [(0.02, True), (0.06, False), (0.9, False)])
def test_a_rate_stands_out_beyond_a_factor_of_five_of_the_training_median(rate, stands_out):
    """1.5 to the power of 4 is 5.06; the median of the training sequences is 0.25."""
    found = compare([*results([0.2, 0.25, 0.3]), *results([rate], split="test")])
    assert kinds(found) == [(), (), (), ("rate",) if stands_out else ()]


def test_the_limit_grows_with_the_spread_of_the_training_set():
    spread = [0.01, 0.03, 0.1, 0.3, 0.9]
    assert kinds(compare([*results(spread), *results([0.005], split="test")])) == [()] * 6


def test_test_sequences_alone_are_compared_with_each_other():
    assert kinds(compare(results([0.2, 0.2, 0.3, 0.01], split="test")))[3] == ("rate",)
    assert kinds(compare(results([0.2, 0.01]))) == [(), ()]  # two do not say which is odd


def test_pixels_that_never_fire_or_always_stand_out():
    found = compare(
        [
            *results([0.2, 0.2, 0.2], dead_share=0.1, saturated_share=0.0),
            *results([0.2], split="test", dead_share=0.5, saturated_share=0.6),
        ]
    )
    assert kinds(found) == [(), (), (), ("rate",)]
    assert ["never fire" in found[3].problems[0].message, "every frame" in found[3].problems[1].message]


def test_a_sequence_of_another_size_is_named():
    found = compare([*results([0.2, 0.2]), *results([0.2], split="test", shape=(360, 640))])
    assert kinds(found) == [(), (), ("wrong-size",)]
    assert "360x640" in found[2].problems[0].message and "720x1280" in found[2].problems[0].message


def test_spikes_of_another_scene_stand_out():
    found = compare([*results([0.2, 0.2, 0.2], best_score=0.9), *results([0.2], best_score=0.1)])
    assert kinds(found) == [(), (), (), ("shifted",)]
    assert kinds(compare(results([0.2] * 4, best_score=0.2))) == [()] * 4  # dark sets score low throughout
