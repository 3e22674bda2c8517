"""The symptoms, cases and checks of the older scripts' guide to performance, in the lines that they print."""

import pytest

from deblurkit.analysis.formats.timing_text import read_text_log
from deblurkit.analysis.formats.training_log import read_training_log
from deblurkit.analysis.report import analyze


def training_log(*, steps=200, loss="0.05000", rate=1.5, between=(), end=()):
    """Lines of the older training scripts, every tenth step, with others between them."""
    lines = []
    for number in range(1, steps + 1):
        lines.append(f"step {10 * number}/8880 | loss={loss} | {rate} samples/s | data_time=0.1ms")
        lines += between
    return analyze(read_training_log([line.encode() for line in (*lines, *end)], source="train.log"))


def timing_log(*, data=0.1, forward=280.0, backward=500.0, steps=30):
    rows = f"前向传播总耗时 : {forward:.2f}ms\n反向传播 : {backward:.2f}ms\n数据加载 : {data:.2f}ms\n"
    blocks = "".join(
        f"{'=' * 80}\nStep {step}\n{'=' * 80}\n{rows}Total : {forward + backward + data:.2f}ms\n"
        for step in range(1, steps + 1)
    )
    return analyze(read_text_log(blocks.encode().split(b"\n"), source="timing.log"))


def found(report):
    return [(finding.id, finding.severity) for finding in report.findings]


def test_a_run_that_is_well():
    assert found(training_log()) == []
    assert found(timing_log()) == []


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB", "TRAIN.AUTO_HALVE_BATCH"),
        ("RuntimeError: DataLoader worker (pid 4711) is killed by signal: Killed.", "DATA.CACHE_SIZE_GB"),
    ],
)
def test_case_1_memory_runs_out(line, key):
    report = training_log(end=[line])
    assert found(report) == [("oom", "critical")]
    assert report.findings[0].keys[0] == key


def test_case_2_the_gpu_waits_for_data():
    report = timing_log(data=300.0)
    assert found(report) == [("data-bound", "critical")]
    assert "DATALOADER.TRAIN_PREFETCH_FACTOR=8" in report.findings[0].settings


def test_case_3_slow_although_the_gpu_is_busy():
    report = timing_log(forward=1_805.0, backward=3_600.0)
    assert found(report) == [("compute-bound", "warning")]
    assert report.findings[0].settings[0] == "TRAIN.AMP_ENABLED=true"


def test_case_4_the_cache_is_hit_too_rarely():
    report = training_log(between=["Cache hit rate: 45.2% (4520 hits / 5480 misses)"])
    assert found(report) == [("cache-too-small", "critical")]
    assert found(training_log(between=["Cache hit rate: 80.0% (8000 hits / 2000 misses)"])) == []


def test_case_5_mixed_precision_is_unstable():
    lost = [
        f"step {number}/8880 | loss=nan | 1.5 samples/s | data_time=0.1ms"
        for number in range(2_010, 2_100, 10)
    ]
    report = training_log(end=lost)
    assert found(report) == [("divergence", "critical")]
    assert report.findings[0].steps == (2_010,)
    assert report.findings[0].settings[0] == "TRAIN.AMP_DTYPE=bf16"


def test_less_than_a_sample_a_second_without_phases_is_told_but_not_explained():
    report = training_log(rate=0.5)
    assert found(report) == []
    assert any("0.50 samples a second is slow" in note for note in report.notes)
