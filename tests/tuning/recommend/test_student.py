import math

import pytest

from deblurkit.tuning.recommend.student import student_quantile


@pytest.mark.parametrize(
    "freedom, at_90, at_99",
    [(1, 6.314, 63.657), (2, 2.920, 9.925), (3, 2.353, 5.841), (4, 2.132, 4.604), (9, 1.833, 3.250)],
)
def test_quantiles_are_those_of_the_printed_tables(freedom, at_90, at_99):
    """Abramowitz and Stegun, table 26.10."""
    assert student_quantile(freedom, confidence=0.9) == pytest.approx(at_90, abs=6e-4)
    assert student_quantile(freedom, confidence=0.99) == pytest.approx(at_99, abs=6e-4)


def test_one_degree_of_freedom_is_cauchys():
    assert student_quantile(1, confidence=0.8) == pytest.approx(math.tan(0.8 * math.pi / 2))


def test_many_degrees_are_nearly_normal():
    assert student_quantile(1000, confidence=0.9) == pytest.approx(1.6449, abs=0.002)
