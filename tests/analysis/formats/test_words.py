import numpy as np
import pytest

from deblurkit.analysis.formats.words import equal_rows, windows


def test_windows_begin_at_any_byte():
    text = bytes(range(40))
    rows = windows(text, np.array([0, 3, 24]), 16)
    assert rows.shape == (3, 2)
    assert [row.tobytes() for row in rows] == [text[:16], text[3:19], text[24:]]


@pytest.mark.parametrize("width", [8, 16])
def test_rows_are_equal_only_if_all_words_are(width):
    words = np.arange(3 * width, dtype=np.uint64).reshape(3, width)
    for place in range(width):
        others = words.copy()
        others[1, place] ^= np.uint64(1 << 63)
        assert equal_rows(words, others).tolist() == [True, False, True]
