"""Cards by name, and what is believed of a device before it has taken a step."""

import pytest

from deblurkit.errors import UsageError
from deblurkit.timing.peaks import peak_of
from deblurkit.tuning.recommend.cards import (
    CARDS,
    find_card,
    prior_for_card,
    prior_for_cpu,
    prior_for_gpu,
)

GIB = 2**30


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("a6000", "a6000"),
        ("A6000", "a6000"),
        ("RTX A6000", "a6000"),
        ("rtx 3090", "3090"),
        ("A100_80GB", "a100-80gb"),
        ("NVIDIA GeForce RTX 4090", "4090"),
        ("Tesla T4", "t4"),
        ("rtx4090", "4090"),
        ("RTXA6000", "a6000"),
    ],
)
def test_a_card_is_found_however_it_is_written(asked, name):
    assert find_card(asked).name == name


@pytest.mark.parametrize(("asked", "near"), [("a600", "a6000"), ("a100", "a100-40gb"), ("h10", "h100")])
def test_an_unknown_card_is_refused_with_the_nearest_names(asked, near):
    with pytest.raises(UsageError, match=f"--gpu {asked}: .*did you mean .*{near}"):
        find_card(asked)


def test_a_name_like_no_other_lists_all_cards():
    with pytest.raises(UsageError, match="there are: 3090, 4090, a6000") as error:
        find_card("zzzz")
    assert "did you mean" not in str(error.value)


def test_every_card_is_in_the_table_of_peaks_by_its_drivers_name():
    unknown = [card.name for card in CARDS if peak_of(card.driver_name, "fp32") is None]
    assert (unknown, len({card.name for card in CARDS})) == ([], len(CARDS))


@pytest.mark.parametrize(
    ("name", "gib"),
    [("a6000", 48), ("3090", 24), ("a100-40gb", 40), ("h200", 141), ("t4", 16)],
)
def test_a_card_has_a_little_less_memory_than_its_maker_says(name, gib):
    assert 0.88 * gib * GIB < find_card(name).memory_bytes < gib * GIB


def test_what_a_card_reaches_is_below_its_peaks_and_its_rank_among_cards_is_kept():
    faster, slower = prior_for_card(find_card("a100-80gb")), prior_for_card(find_card("t4"))
    peak = peak_of("NVIDIA A100-SXM4-80GB", "bf16")
    assert peak is not None
    assert 0.1 * peak.flops_per_second < faster.flops_per_second["bf16"] < peak.flops_per_second
    assert faster.bytes_per_second < find_card("a100-80gb").bytes_per_second
    assert all(faster.flops_per_second[word] > slower.flops_per_second[word] for word in ("float32", "fp16"))
    assert "A100" in faster.source


def test_a_card_without_bf16_has_a_figure_for_it_nonetheless():
    assert prior_for_card(find_card("v100")).flops_per_second["bf16"] > 0


def test_an_unknown_gpu_is_a_wider_guess_than_a_known_one():
    unknown, known = prior_for_gpu("Some GPU 9000"), prior_for_gpu("NVIDIA H200")
    assert known == prior_for_card(find_card("h200"))
    assert unknown.spread > known.spread
    assert "Some GPU 9000 is in no table" in unknown.source


def test_more_threads_are_believed_to_compute_more():
    two, four = prior_for_cpu(2), prior_for_cpu(4)
    assert four.flops_per_second["float32"] == 2 * two.flops_per_second["float32"]
    assert two.spread >= 1
