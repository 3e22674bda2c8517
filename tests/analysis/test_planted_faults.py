"""Faults that were planted into logs are found, at their step or rank, and nothing else is."""

import numpy as np
import pytest

from deblurkit.analysis.report import analyze
from deblurkit.analysis.several_logs import analyze_all

SEEDS = range(5)


def only_finding(log):
    [finding] = analyze(log).findings
    return finding


@pytest.mark.parametrize("size", [300, 5_000, 20_000])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_healthy_log_has_no_finding_and_no_change(make_run, size, seed):
    report = analyze(make_run(size, seed).log())
    assert report.findings == ()
    assert report.changes == ()
    assert report.verdict.startswith("compute-bound")
    assert report.warmup_steps == 3


@pytest.mark.parametrize("seed", SEEDS)
def test_a_stall_every_500_steps(make_run, seed):
    run = make_run(seed=seed)
    run.stall(every=500, milliseconds=1_900)
    finding = only_finding(run.log())
    assert finding.id == "stall"
    assert finding.steps == tuple(range(500, 5_001, 500))
    assert "They come every 500 steps." in finding.evidence
    assert "data grew most, by 1,9" in finding.evidence
    assert finding.gain.likely == pytest.approx(1 + 19_000 / (5_000 * 323), rel=0.002)


@pytest.mark.parametrize(
    ("name", "start", "per_1000_steps", "off"),
    [
        ("process_memory_bytes", 2_000, 1e9, 200),
        ("cuda_allocated_bytes", 1_000, 5e8, 150),
        ("host_memory_share", 1_500, 0.1, 1_000),
    ],
)
@pytest.mark.parametrize("seed", SEEDS)
def test_creeping_memory(make_run, seed, name, start, per_1000_steps, off):
    run = make_run(seed=seed)
    run.creep(name, start, per_1000_steps)
    finding = only_finding(run.log())
    assert finding.id == "memory-creep"
    assert abs(finding.steps[0] - start) <= off


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("slow", [0, 1, 2])
def test_a_slow_rank(make_run, seed, slow):
    """One rank takes 60 ms more for its forward pass; the others wait for it as long, inside backward."""
    logs = []
    for rank in range(3):
        run = make_run(1_000, seed=10 * seed + rank)
        if rank == slow:
            run.slow_down("forward", 1.6)
        logs.append(run.log(rank=rank, world_size=3, waiting=1.0 if rank == slow else 61.0))
    reports = analyze_all(logs)
    found = [(finding.id, finding.rank) for report in reports for finding in report.findings]
    assert found == [("straggler", slow)]
    [finding] = reports[slow].findings
    assert "most of it in forward" in finding.evidence
    assert finding.gain.likely == pytest.approx(384 / 324, rel=0.04)


def test_ranks_that_keep_step_have_no_slow_one(make_run):
    logs = [make_run(1_000, seed=rank).log(rank=rank, world_size=3, waiting=3.0) for rank in range(3)]
    assert [report.findings for report in analyze_all(logs)] == [(), (), ()]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("step", "factor"), [(3_000, 20.0), (2_000, 4.0), (4_000, 100.0)])
def test_a_divergence(make_run, seed, step, factor):
    run = make_run(seed=seed)
    run.diverge(step, factor)
    finding = only_finding(run.log())
    assert finding.id == "divergence"
    assert abs(finding.steps[0] - step) <= 150  # it takes 300 steps to get there


@pytest.mark.parametrize("seed", SEEDS)
def test_a_loss_that_is_lost(make_run, seed):
    run = make_run(seed=seed)
    run.scalars["loss"][run.at >= 3_210] = np.nan
    finding = only_finding(run.log())
    assert (finding.id, finding.severity, finding.steps) == ("divergence", "critical", (3_210,))
    assert finding.keys[0] == "TRAIN.AMP_DTYPE"


@pytest.mark.parametrize(("rate", "severity"), [(0.70, "warning"), (0.45, "critical")])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_cache_that_is_too_small(make_run, seed, rate, severity):
    run = make_run(seed=seed)
    noise = 0.01 * run.generator.normal(size=len(run.at))
    run.scalars["cache_hit_rate"] = np.where(run.at > 1_000, rate + noise, 0.0)
    finding = only_finding(run.log())
    assert (finding.id, finding.severity) == ("cache-too-small", severity)
    assert finding.keys[0] == "DATA.CACHE_SIZE_GB"


@pytest.mark.parametrize(("factor", "id_"), [(40, "data-bound"), (80, "data-bound")])
def test_a_loader_that_is_too_slow(make_run, factor, id_):
    run = make_run()
    run.slow_down("data", factor)
    finding = only_finding(run.log())
    assert (finding.id, finding.severity) == (id_, "critical")
    wait = float(run.times["data"][3:].sum())
    whole = float(run.log().steps["total_ms"][3:].sum())
    assert finding.gain.likely == pytest.approx(whole / (whole - wait), rel=1e-3)
    assert finding.gain.low < finding.gain.likely < finding.gain.high


def test_a_new_pace_is_reported_with_its_step_and_its_row(make_run):
    run = make_run()
    run.times.loc[run.steps >= 2_500, "forward"] *= 1.4
    report = analyze(run.log())
    assert report.findings == ()
    assert [(change.step, change.row) for change in report.changes] == [(2_500, "forward")]


@pytest.mark.parametrize("seed", SEEDS)
def test_two_long_steps_in_5000_are_no_finding(make_run, seed):
    """Garbage is collected, a file system hiccups: 2 x 1.9 s of 1,615 s."""
    run = make_run(seed=seed)
    run.stall(every=2_500, milliseconds=1_900)
    report = analyze(run.log())
    assert report.findings == ()
    assert {outlier.step for outlier in report.outliers} >= {2_500, 5_000}
