import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblurkit.analysis.bins import bins


@given(count=st.integers(1, 3_000), most=st.integers(1, 700))
def test_every_value_is_in_one_stretch_and_stretches_are_about_equally_long(count, most):
    drawn = bins(count, most)
    places = [
        place
        for first, last in zip(drawn.firsts, drawn.lasts, strict=True)
        for place in range(first, last + 1)
    ]
    assert places == list(range(count))
    sizes = drawn.lasts - drawn.firsts + 1
    assert sizes.max() - sizes.min() <= 1
    assert len(drawn) <= 2 * most
    assert drawn.hold_several == (count > 2 * most)


def test_figures_are_those_of_each_stretch_alone():
    values = np.random.default_rng(0).normal(size=1_003)
    drawn = bins(len(values), 100)
    assert len(drawn) == 100
    own = [values[first : last + 1] for first, last in zip(drawn.firsts, drawn.lasts, strict=True)]
    assert drawn.means(values) == pytest.approx([part.mean() for part in own])
    assert drawn.lows(values).tolist() == [part.min() for part in own]
    assert drawn.highs(values).tolist() == [part.max() for part in own]
    assert all(
        first <= middle <= last
        for first, middle, last in zip(drawn.firsts, drawn.middles, drawn.lasts, strict=True)
    )


def test_nothing_cannot_be_drawn():
    with pytest.raises(ValueError, match="no value"):
        bins(0, 10)
