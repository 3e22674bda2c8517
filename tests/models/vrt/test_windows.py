import itertools
import math

import pytest
import torch

from deblurkit.models.vrt.windows import (
    bias_rows,
    relative_position_index,
    sine_encoding,
    used_window,
    window_layout,
)

CPU = torch.device("cpu")
CASES = [
    ((4, 8, 8), (2, 4, 4), True),
    ((4, 8, 8), (2, 4, 4), False),
    ((5, 9, 11), (6, 4, 4), True),  # a window of all frames, and padding on two axes
    ((3, 7, 10), (2, 3, 5), True),
    ((6, 8, 12), (3, 8, 6), True),  # no shift on the rows, an odd window of frames
    ((2, 3, 3), (2, 4, 4), True),  # one window is all
    ((5, 6, 6), (1, 4, 4), True),
]


@pytest.mark.parametrize(
    "size, window, shifted, expected",
    [
        ((6, 16, 16), (6, 8, 8), True, ((6, 8, 8), (0, 4, 4))),
        ((7, 16, 16), (6, 8, 8), True, ((6, 8, 8), (3, 4, 4))),
        ((7, 16, 16), (6, 8, 8), False, ((6, 8, 8), (0, 0, 0))),
        ((5, 8, 7), (6, 8, 8), True, ((5, 8, 7), (0, 0, 0))),
        ((6, 9, 9), (1, 3, 5), True, ((1, 3, 5), (0, 1, 2))),
    ],
)
def test_a_window_shrinks_to_the_clip_and_then_does_not_shift(size, window, shifted, expected):
    assert used_window(size, window, shifted=shifted) == expected


def rolled_and_cut(size, window, *, shifted, batch):
    """Return tokens (numbers from 1, 0 for padding) and coordinates of every place, window by window.

    Padding, rolling and cutting in plain loops; coordinates are those after and before the roll.
    """
    used, shift = used_window(size, window, shifted=shifted)
    padded = [math.ceil(s / w) * w for s, w in zip(size, used, strict=True)]
    tokens, coordinates = [], []
    for clip in range(batch):
        for corner in itertools.product(*(range(0, p, w) for p, w in zip(padded, used, strict=True))):
            window_tokens, window_coordinates = [], []
            for inside in itertools.product(*(range(w) for w in used)):
                rolled = [c + i for c, i in zip(corner, inside, strict=True)]
                at = [(r + s) % p for r, s, p in zip(rolled, shift, padded, strict=True)]
                number = 0
                if all(a < s for a, s in zip(at, size, strict=True)):
                    number = 1 + ((clip * size[0] + at[0]) * size[1] + at[1]) * size[2] + at[2]
                window_tokens.append(number)
                window_coordinates.append((tuple(rolled), tuple(at)))
            tokens.append(tuple(window_tokens))
            coordinates.append(window_coordinates)
    return tokens, coordinates, shift


def tokens_of(layout):
    """Return the token (number from 1, 0 for padding) of every place of a layout, window by window."""
    number = layout.index + 1
    if layout.padding is not None:
        number[layout.padding] = 0
    return [tuple(row) for row in number.view(layout.num_windows, -1).tolist()]


@pytest.mark.parametrize("size, window, shifted", CASES)
@pytest.mark.parametrize("batch", [1, 2])
def test_the_windows_are_those_of_a_clip_padded_rolled_and_cut(size, window, shifted, batch):
    """Plain loops over the coordinates; the order of the windows is free."""
    layout = window_layout(batch, size, window, shifted=shifted, device=CPU)
    expected, _, _ = rolled_and_cut(size, window, shifted=shifted, batch=batch)
    assert sorted(tokens_of(layout)) == sorted(expected)
    assert layout.window == used_window(size, window, shifted=shifted)[0]


@pytest.mark.parametrize("size, window, shifted", CASES)
def test_every_token_has_one_place_and_the_way_back(size, window, shifted):
    layout = window_layout(2, size, window, shifted=shifted, device=CPU)
    count = 2 * math.prod(size)
    places = [number for row in tokens_of(layout) for number in row if number]
    assert sorted(places) == list(range(1, count + 1))
    assert layout.index[layout.inverse].tolist() == list(range(count))


@pytest.mark.parametrize("size, window, shifted", CASES)
def test_padding_is_what_the_multiple_of_the_window_adds(size, window, shifted):
    used, _ = used_window(size, window, shifted=shifted)
    padded = math.prod(math.ceil(s / w) * w for s, w in zip(size, used, strict=True))
    layout = window_layout(2, size, window, shifted=shifted, device=CPU)
    missing = 0 if layout.padding is None else len(layout.padding)
    assert missing == 2 * (padded - math.prod(size))
    assert missing == 0 or layout.padding.unique().numel() == missing


def kind_of_every_window(starts):
    return [kind for kind, (a, b) in enumerate(zip(starts, starts[1:], strict=False)) for _ in range(a, b)]


@pytest.mark.parametrize("size, window, shifted", CASES)
def test_tokens_that_the_roll_brought_together_do_not_see_each_other(size, window, shifted):
    """Two places of a window see each other where the roll moved both by the same way, on every axis."""
    layout = window_layout(2, size, window, shifted=shifted, device=CPU)
    expected, coordinates, _ = rolled_and_cut(size, window, shifted=shifted, batch=2)
    # A window of padding alone has no name; its mask must still be among those of its likes.
    wanted = sorted((row, hidden_pairs(places)) for row, places in zip(expected, coordinates, strict=True))
    kinds, found = kind_of_every_window(layout.starts), []
    for row, kind in zip(tokens_of(layout), kinds, strict=True):
        mask = layout.masks[kind]
        assert set(mask.unique().tolist()) <= {0.0, float("-inf")}
        found.append((row, tuple((mask != 0).flatten().tolist())))
    assert sorted(found) == wanted
    assert layout.starts[0] == 0 and layout.starts[-1] == layout.num_windows


def hidden_pairs(places):
    moved = [tuple(a - r for r, a in zip(rolled, at, strict=True)) for rolled, at in places]
    return tuple(one != other for one in moved for other in moved)


@pytest.mark.parametrize("size, window", [((4, 8, 8), (2, 4, 4)), ((5, 9, 11), (2, 4, 4))])
def test_the_mask_of_a_frame_is_the_top_left_of_its_windows(size, window):
    """The masks of whole windows, which the test above holds."""
    layout = window_layout(2, size, window, shifted=True, device=CPU)
    half = layout.masks.shape[1] // 2
    whole, frame = kind_of_every_window(layout.starts), kind_of_every_window(layout.frame_starts)
    assert len(frame) == layout.num_windows
    for one, other in zip(whole, frame, strict=True):
        assert torch.equal(layout.masks[one][:half, :half], layout.frame_masks[other])


def test_windows_that_are_not_shifted_are_of_one_kind():
    layout = window_layout(1, (4, 8, 8), (2, 4, 4), shifted=False, device=CPU)
    assert layout.starts == (0, 8) and layout.masks.shape == (1, 32, 32) and not layout.masks.any()


def test_a_layout_is_made_once():
    arguments = (1, (4, 8, 8), (2, 4, 4))
    first = window_layout(*arguments, shifted=True, device=CPU)
    assert window_layout(*arguments, shifted=True, device=CPU) is first


@pytest.mark.parametrize("window", [(2, 3, 4), (1, 2, 2), (6, 8, 8)])
def test_the_relative_position_index_counts_offsets(window):
    """The formula, pair by pair."""
    wd, wh, ww = window
    index = relative_position_index(window)
    places = list(itertools.product(range(wd), range(wh), range(ww)))
    for i in range(0, len(places), 7):
        for j in range(0, len(places), 5):
            d, h, w = (a - b for a, b in zip(places[i], places[j], strict=True))
            row = (d + wd - 1) * (2 * wh - 1) * (2 * ww - 1) + (h + wh - 1) * (2 * ww - 1) + w + ww - 1
            assert index[i, j] == row
    assert index.dtype == torch.int64 and index.shape == (len(places), len(places))
    assert index.unique().tolist() == list(range((2 * wd - 1) * (2 * wh - 1) * (2 * ww - 1)))


def test_a_shrunken_window_takes_the_first_rows_of_the_whole_ones_index():
    """The published network cuts the index of the whole window, not that of the shrunken one."""
    rows = bias_rows((6, 4, 4), tokens=5 * 16, device=CPU).view(80, 80)
    assert torch.equal(rows, relative_position_index((6, 4, 4))[:80, :80])


@pytest.mark.parametrize("height, width, channels", [(3, 5, 8), (4, 4, 12)])
def test_the_sine_encoding_is_the_published_one(height, width, channels):
    """The formula, element by element: rows in the first half of the channels, columns in the second."""
    encoding, half = sine_encoding(height, width, channels), channels // 2
    for row, column, channel in itertools.product(range(height), range(width), range(channels)):
        at, count = (row, height) if channel < half else (column, width)
        j = channel % half
        angle = 2 * math.pi * (at + 1) / (count + 1e-6) / 10000 ** (2 * (j // 2) / half)
        expected = math.sin(angle) if j % 2 == 0 else math.cos(angle)
        assert encoding[0, row * width + column, channel] == pytest.approx(expected, abs=2e-6)
    assert encoding.shape == (1, height * width, channels) and encoding.dtype == torch.float32
