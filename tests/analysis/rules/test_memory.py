import numpy as np
import pytest

from deblurkit.analysis.rules.memory import growing_memory, missed_reads
from deblurkit.analysis.tables import Event

GIB = 1024**3
LOOKS = np.arange(1, 101)


def noisy(values, deviation, seed=0):
    return np.asarray(values) + np.random.default_rng(seed).normal(0, deviation, len(values))


def test_growth_by_hand(evidence):
    """From 4 to 8 GiB over 1,000 steps: after a quarter of them it is 5, so that 60 % are still to come."""
    memory = noisy(4 * GIB * (1 + LOOKS / 100), 0.01 * GIB)
    measured = growing_memory(evidence(steps=1_000, scalars={"process_memory_bytes": memory}))
    # medians of the first and the last 7 of 75 looks: 5.16 and 7.88 GiB
    assert measured.value == pytest.approx(7.88 / 5.16 - 1, abs=0.01)
    assert measured.steps == (10,)
    assert "4.0" in measured.evidence and "GiB more every 1,000 steps" in measured.evidence


def test_when_the_machine_is_full(evidence):
    memory = noisy(0.3 + 0.004 * LOOKS, 0.002)
    measured = growing_memory(evidence(steps=1_000, scalars={"host_memory_share": memory}))
    # 0.7 at the end and 0.4 every 1,000 steps: the last 0.3 in 750 steps
    figure = int(measured.evidence.partition("full after ")[2].partition(" steps")[0])
    assert figure == pytest.approx(750, rel=0.1)


@pytest.mark.parametrize(
    "memory",
    [
        noisy(np.full(100, 4 * GIB), 0.05 * GIB),
        4 * GIB * np.minimum(1, LOOKS / 20),  # a cache that fills
        np.where(LOOKS > 60, 6 * GIB, 4 * GIB),  # one large thing more
        noisy(8 * GIB - 0.02 * GIB * LOOKS, 0.05 * GIB),  # shrinks
        (4 * GIB * (1 + LOOKS / 100))[:15],  # too few looks
        5e5 * LOOKS,  # the interpreter's own growth
        4 * GIB + 0.3 * GIB * (LOOKS % 10),  # a saw
    ],
)
def test_what_is_no_creep(evidence, memory):
    measured = growing_memory(evidence(steps=1_000, scalars={"process_memory_bytes": memory}))
    assert measured is None or measured.value <= 0.05


def test_the_device_has_a_remedy_of_its_own(evidence):
    memory = noisy(4 * GIB * (1 + LOOKS / 100), 0.01 * GIB)
    assert growing_memory(evidence(steps=1_000, scalars={"cuda_allocated_bytes": memory})).advice == "device"


def hit_rates(evidence, rates, **more):
    return missed_reads(evidence(steps=1_000, scalars={"cache_hit_rate": rates}, **more))


def test_the_first_epoch_counts_for_nothing(evidence):
    epochs = 1 + np.arange(1_000) // 500
    rates = np.where(LOOKS <= 50, 0.0, 0.9)
    assert hit_rates(evidence, rates, epochs=epochs).value == pytest.approx(0.1)
    assert hit_rates(evidence, rates[:50], epochs=np.ones(1_000)) is None  # there was no other
    begun = [Event("epoch", "epoch 2", 500)]
    assert hit_rates(evidence, rates, events=begun).value == pytest.approx(0.1)


def test_a_rate_that_still_rises_is_waited_for(evidence):
    """A rate over the whole run, of a cache that holds everything: 0 in the first pass, then (n - 1) / n."""
    passes = 10 * LOOKS / 500
    assert hit_rates(evidence, np.clip(1 - 1 / passes, 0, 1)) is None


def test_without_epochs_the_end_of_the_log_tells(evidence):
    assert hit_rates(evidence, [0.45] * 100).value == pytest.approx(0.55)
    assert hit_rates(evidence, [0.45] * 3) is None
    assert missed_reads(evidence()) is None


def test_the_wait_for_data_is_what_a_larger_cache_can_save(evidence):
    rows = {"data": 40.0, "forward": 120.0, "backward": 240.0}
    measured = hit_rates(evidence, [0.45] * 100, phases=rows, total=400.0, noise=0.0)
    assert measured.saved.mean() == pytest.approx(40)
    assert "10.0 % of a step waits for data." in measured.evidence
