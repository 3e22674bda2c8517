import math

import pytest

from deblurkit.config.sections.run import PromiseSection
from deblurkit.training import run_evidence
from deblurkit.training.promise import PromiseOutcome
from deblurkit.training.run_evidence import Measured, RunEvidence, Unknown
from deblurkit.training.validate import Score
from deblurkit.training.vitals import VitalSigns

GIB, MIB = 2**30, 2**20


def look(**figures):
    """A look at a machine of which nothing is known but what is given."""
    unknown = dict.fromkeys(
        ("cpu_percent", "io_wait_percent", "written_bytes", "gpu_busy_percent", "gpu_used_bytes")
    )
    known = {"seconds": 10.0, "rss_bytes": GIB, "host_used_percent": 40.0, "disk_free_bytes": GIB}
    return VitalSigns(**{**unknown, **known, **figures})


def test_a_course_is_told_by_the_medians_of_its_quarters():
    losses = [4.0, 5.0, 99.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 2.0, 1.0, 0.0]  # quarters of three
    found = run_evidence.loss_trend(RunEvidence(losses=list(enumerate(losses))))
    assert found == Measured(100 * (1 / 5 - 1), "5.00000 -> 1.00000 (-80.0 %)")


def test_losses_of_skipped_steps_are_no_part_of_the_course():
    losses = [2.0, 2.0, math.nan, 1.5, 1.5, 1.5, 1.5, math.inf, 1.0, 1.0]
    assert run_evidence.loss_trend(RunEvidence(losses=list(enumerate(losses)))).value == -50.0


def test_terms_of_some_steps_are_no_part_of_the_course():
    """A term of 10 in the steps of the first quarter, and in no other: the loss has not fallen."""
    steady = [1.0, 1.0, 1.1, 1.1, 1.2, 1.2, 1.5, 1.5]
    losses = [(step, value + (10 if step < 2 else 0)) for step, value in enumerate(steady)]
    assert run_evidence.loss_trend(RunEvidence(losses=losses)).value < -80
    found = run_evidence.loss_trend(RunEvidence(losses=losses, steady_losses=steady))
    assert found == Measured(pytest.approx(50.0), "1.00000 -> 1.50000 (+50.0 %)")


def grown(count, **values):
    """Reports every 10 steps: 4 of clips of (3, 32), then ``count`` of (3, 64)."""
    reports = range(10, 10 * (4 + count) + 1, 10)
    sizes = [(3, 32)] * 4 + [(3, 64)] * count
    return RunEvidence(losses=[(step, 1.0) for step in reports], clip_sizes=sizes, **values)


def test_clips_that_grow_make_no_trend_and_no_slowdown():
    """Larger crops are slower, heavier, and may be harder; the course is that of the last size."""
    rates = [9.0] * 4 + [2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]
    evidence = grown(
        9,
        steady_losses=[0.1] * 4 + [1.0, 1.0, 0.9, 0.9, 0.8, 0.8, 0.5, 0.5, 0.5],
        samples_per_second=rates,
        vitals=[look(rss_bytes=GIB)] * 4 + [look(rss_bytes=9 * GIB)] * 9,
    )
    assert run_evidence.loss_trend(evidence).value == pytest.approx(-50.0)
    assert run_evidence.slowdown(evidence).value == 0.0
    assert run_evidence.memory_growth(evidence).value == 0.0


def test_too_few_reports_since_clips_have_grown_tell_nothing():
    evidence = grown(7, samples_per_second=[9.0] * 11, vitals=[look()] * 11)
    assert run_evidence.loss_trend(evidence) == "7 losses reported since the clips grew at step 50, 8 needed"
    assert run_evidence.slowdown(evidence) == (
        "6 reports after the first since the clips grew at step 50, 8 needed"
    )
    assert run_evidence.memory_growth(evidence) == (
        "7 looks at the memory since the clips grew at step 50, 8 needed"
    )


def test_a_checkpoint_that_cannot_be_read_is_told_with_the_reason():
    found = run_evidence.reload(RunEvidence(reload_error="step.pt: damaged"))
    assert found == Measured(math.inf, "cannot be read back: step.pt: damaged")


def test_a_gain_is_that_of_the_last_validation():
    scores = [(100, Score(20.0, 0.5, 25.0, 0.8)), (200, Score(27.5, 0.9, 25.0, 0.8))]
    found = run_evidence.psnr(RunEvidence(validations=scores))
    assert found == Measured(2.5, "27.50 dB, +2.50 dB against the blurry input (vrt)")
    assert run_evidence.ssim(RunEvidence(validations=scores, protocol="y")).figure == (
        "0.9000, +0.1000 against the blurry input (y)"
    )


def test_the_first_rate_holds_the_warm_up_and_counts_for_nothing():
    rates = [0.1, 2.0, 2.0, 3.0, 3.0, 3.0, 3.0, 1.0, 1.0]
    assert run_evidence.slowdown(RunEvidence(samples_per_second=rates)) == Measured(
        -50.0, "2.00 -> 1.00 samples/s (-50.0 %)"
    )


def test_looks_that_could_not_tell_are_left_out_of_a_mean():
    looks = [look(io_wait_percent=None), look(io_wait_percent=4.0), look(io_wait_percent=8.0)]
    assert run_evidence.disk_wait(RunEvidence(vitals=looks)) == Measured(6.0, "6.0 % in the mean of 2 looks")
    written = [look(io_wait_percent=4.0, written_bytes=20 * MIB)]
    assert run_evidence.disk_wait(RunEvidence(vitals=written)).figure.endswith("2.0 MiB/s written")


def test_growth_is_from_the_second_quarter_on_and_not_below_64_mib():
    def growth(*quarters):
        looks = [look(rss_bytes=size) for size in quarters for _ in range(2)]
        return run_evidence.memory_growth(RunEvidence(vitals=looks))

    assert growth(GIB, 4 * GIB, 5 * GIB, 6 * GIB) == Measured(50.0, "4.00 GiB -> 6.00 GiB (+50.0 %)")
    assert growth(GIB, 100 * MIB, 100 * MIB, 150 * MIB) == Measured(0.0, "100.0 MiB -> 150.0 MiB (+50.0 %)")


def test_what_is_not_known_says_why():
    nothing = RunEvidence()
    told = {
        run_evidence.psnr: "no validation",
        run_evidence.reload: "no checkpoint was read back",
        run_evidence.data_wait: "steps are not timed (LOG.ENABLE_TIMING_LOG)",
        run_evidence.cache_hits: "no cache (DATA.USE_RAM_CACHE)",
        run_evidence.gpu_busy: "no GPU in this run",
        run_evidence.cpu: "the network itself computes on the CPU",
    }
    for measure, reason in told.items():
        found = measure(nothing)
        assert isinstance(found, Unknown)
        assert found == reason


def test_a_promise_is_told_as_shares_of_what_was_promised():
    """6.1 of at least 5 samples/s are 122 %; 9 of 10 GiB are 90 %."""
    rates = {"LOW": 5.0, "SAMPLES_PER_SECOND": 6.0, "HIGH": 7.0}
    promised = PromiseSection.model_validate({**rates, "PEAK_BYTES": 10 * GIB})
    told = RunEvidence(promise=PromiseOutcome(promised, 50, 6.1, 9 * GIB, None))
    rate, memory = run_evidence.promised_rate(told), run_evidence.promised_memory(told)
    assert rate == Measured(pytest.approx(122), "6.10 samples/s, 5.00 to 7.00 promised")
    assert memory == Measured(pytest.approx(90), "9.00 GiB, 10.00 GiB promised")
    assert run_evidence.promised_rate(RunEvidence()) == "no rate was promised"
    assert run_evidence.promised_memory(RunEvidence()) == "no memory was promised"
