import math

import pytest

from deblurkit.analysis.formats.scalar_names import Names, count, number, scalar_name


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b"loss", "loss"),
        (b"G_loss", "loss"),
        (b"l_all", "loss"),
        (b"Train Loss", "loss"),
        (b"l_pix", "loss/pix"),
        (b"loss_cls", "loss/cls"),
        (b"vgg_loss", "loss/vgg"),
        (b"eval_loss", "loss/validation"),
        (b"lr", "learning_rate"),
        (b"PSNR", "psnr_db"),
        (b"grad_norm", "grad_norm"),
        (b"loss_scale", "loss_scale"),
        (b"eta", None),
        (b"data_time", None),
        (b"top1", "top1"),
        ("损失".encode(), "损失"),
    ],
)
def test_what_a_number_is_called_here(raw, name):
    assert scalar_name(raw) == name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"l_pix: 1.2345e-02 l_percep: 3e+00 ", {"loss/pix": 0.012345, "loss/percep": 3}),
        (
            b"lr: 1.0e-03  eta: 1 day, 2:03:04  time: 0.5  loss: 1.9368",
            {"learning_rate": 1e-3, "loss": 1.9368},
        ),
        (b"loss=0.1, lr=(2e-4, 1e-4)", {"loss": 0.1, "learning_rate": 2e-4}),
        (b"took=3.2ms x", {"took": 3.2}),
        (b"Train Loss: 0.0111", {"loss": 0.0111}),
        (b"a: 12abc b: 1.5", {"a": 12, "b": 1.5}),
        (b"nothing here", {}),
        (b"", {}),
    ],
)
def test_pairs_of_a_line(text, expected):
    names, values = Names().numbers(text)
    assert dict(zip(names, values, strict=True)) == pytest.approx(expected)


def test_what_is_not_finite_is_kept():
    names, values = Names().numbers(b"loss: nan l_pix: -inf")
    assert names == ("loss", "loss/pix")
    assert math.isnan(values[0])
    assert values[1] == -math.inf


def test_quick_and_patient_ways_agree():
    names = Names()
    plain, odd = b"loss: 1.5 lr: 2e-4 x: 3", b"loss: 1.5, lr: 2e-4, x: 3"
    for _ in range(2):  # the second time the layout is known
        assert names.numbers(plain)[0] == names.numbers(odd)[0] == ("loss", "learning_rate", "x")
        assert list(names.numbers(plain)[1]) == list(names.numbers(odd)[1]) == [1.5, 2e-4, 3]
    assert names.numbers(b"loss: 1.5 lr: 2e-4 x:")[0] == ("loss", "learning_rate")
    assert names.numbers(b"loss: 1.5 lr: oops x: 3")[0] == ("loss", "x")
    assert names.numbers(plain)[1] == [1.5, 2e-4, 3]


def test_lines_of_one_layout_share_their_names():
    names = Names()
    first, second = names.numbers(b"loss: 1 lr: 2"), names.numbers(b"loss: 3 lr: 4")
    assert first[0] is second[0]


def test_a_name_of_the_log_s_own_with_its_unit():
    names = Names()
    names.know(b"memory", "cuda_peak_allocated_bytes", factor=1024.0)
    assert names.numbers(b"memory: 2 loss: 3") == (("cuda_peak_allocated_bytes", "loss"), [2048.0, 3.0])


def test_whole_numbers_with_commas():
    assert [count(text) for text in (b"1,200", b"   200", b"", b",", None, b"1.5")] == [
        1200,
        200,
        -1,
        -1,
        -1,
        -1,
    ]


def test_numbers_that_are_none():
    assert number(b"0.5") == 0.5
    assert [math.isnan(number(text)) for text in (b"0.5.1", b"", None)] == [True] * 3
