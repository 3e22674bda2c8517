import numpy as np
import pytest

from deblurkit.analysis.formats.line_shapes import SHAPES, read_ends

AROUND = b"\n" * 128


def read(lines, shape):
    """Return the milliseconds of each line that ends in a shape, by its place."""
    text = b"".join([AROUND, *(line + b"\n" for line in lines), AROUND])
    ends = len(AROUND) + np.cumsum([len(line) + 1 for line in lines]) - 1
    at, values = read_ends(text, ends, shape)
    return dict(zip(at.tolist(), values.tolist(), strict=True))


def test_numbers_are_those_that_python_reads_to_the_last_bit():
    rng = np.random.default_rng(1)
    numbers = [f"{value:8.2f}" for value in 10 ** rng.uniform(-3, 4.9999, 2000)]
    ends = (": {}ms ( 45.2%) [avg:   280.00ms]", ": {}ms [avg: 99999.99ms]", ": {}ms")
    for shape, end in zip(SHAPES, ends, strict=True):
        found = read([("前向传播" + end.format(number)).encode() for number in numbers], shape)
        assert found == {at: float(number) for at, number in enumerate(numbers)}


@pytest.mark.parametrize(
    ("line", "at"),
    [
        (b"a: 280.00ms", 2),
        (b"a:  280.000ms", 2),
        (b"a: 1280.0 ms", 2),
        (b"a:    2 8.00ms", 2),
        (b"a:      .50ms", 2),
        (b"a:   -28.00ms", 2),
        (b"a:   28e.00ms", 2),
        (b"a:   28:.00ms", 2),
        (b"a:   28/.00ms", 2),
        (b"a:   280,00ms", 2),
        (b"a;   280.00ms", 2),
        (b"a:   280.00mz", 2),
        (b"a:   280.00ms ", 2),
        (b"a:   280.00ms [avg:   280.00ms", 1),
        (b"a:   280.00ms [avg:   28\xe5.00ms]", 1),
        (b"a:   280.00ms [axg:   280.00ms]", 1),
        (b"a:   280.00ms ( 45.2%) [avg:   280.00ms]", 1),
        (b"a:   280.00ms ( 4(.2%) [avg:   280.00ms]", 0),
        (b"a:   280.00ms (145,2%) [avg:   280.00ms]", 0),
        (b"a:   280.00ms [avg:   280.00ms]", 0),
    ],
)
def test_a_byte_that_is_otherwise_is_another_line(line, at):
    assert read([line], SHAPES[at]) == {}
