import math

import pytest

from deblurkit.analysis.formats.progress_bars import bars_in, training_bar


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"50/1000 [01:23<26:12,  1.65s/it]", (b"", 50, 1000, 83, 1.65)),
        (b"  5%|#5        | 50/1000 [01:23<26:12,  1.65s/it]", (b"", 50, 1000, 83, 1.65)),
        (
            b"Epoch 3/10:   6%|##8    | 6/100 [1:02:03<94:39:17, 4.00it/s, loss=2.6]",
            (b"Epoch", 6, 100, 3723, 0.25),
        ),
        (b"Steps:   0%|   | 0/4000 [00:00<?, ?it/s]", (b"Steps", 0, 4000, 0, None)),
        ("训练: 10%|█   | 10/100 [00:10<01:30, 1.00step/s]".encode(), ("训练".encode(), 10, 100, 10, 1.0)),
    ],
)
def test_a_bar(text, expected):
    (bar,) = bars_in(text)
    seconds = None if math.isnan(bar.seconds) else bar.seconds
    assert (bar.name, bar.done, bar.total, bar.elapsed_s, seconds) == expected


def test_bars_that_are_glued_together():
    line = b" 5%|5 | 50/1000 [01:23<26:12,  1.65s/it] 6%|6 | 60/1000 [01:40<26:12,  1.65s/it, loss=0.1]tail"
    bars = list(bars_in(line))
    assert [bar.done for bar in bars] == [50, 60]
    assert bars[1].postfix == b"loss=0.1"
    assert line[bars[1].end :] == b"tail"


@pytest.mark.parametrize(
    "text",
    [b"50/1000 [01:23", b"1/2 [x<y, z]", b"[01:23<26:12, 1.65s/it]", b"50/1000 [01:23<26:12,  1.65s/it"],
)
def test_what_is_no_bar(text):
    assert list(bars_in(text)) == []


def test_the_bar_of_training_is_told_from_others():
    rest = "[00:01<00:01, 9.0it/s]"
    lines = [f"Map: 50%|5 | {done}/2000 {rest}".encode() for done in range(2000)]
    lines += [f"Validating: 50%|5 | {done}/200 {rest}".encode() for done in range(200)]
    lines += [f"Epoch {done // 40}: 50%|5 | {done % 40}/40 {rest}".encode() for done in range(80)]
    assert training_bar(lines) == (b"Epoch", 40)
    assert training_bar(lines[:2000]) == (b"Map", 2000)  # better than none
    assert training_bar([b"nothing"]) is None
