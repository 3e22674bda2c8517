import pytest

from deblurkit.analysis.diagnosis import find
from deblurkit.analysis.tables import Event

LENGTHS = {"steps": 500, "total": 100.0}
OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB"


def only(evidence):
    [finding] = find(evidence)
    return finding


def test_out_of_memory_that_ended_the_run(evidence):
    finding = only(evidence(**LENGTHS, events=[Event("oom", OOM, 500)]))
    assert (finding.id, finding.severity, finding.steps) == ("oom", "critical", (500,))
    assert finding.keys[0] == "TRAIN.AUTO_HALVE_BATCH"
    assert f'after step 500: "{OOM}"' in finding.evidence


def test_out_of_memory_that_the_run_survived(evidence):
    finding = only(evidence(**LENGTHS, events=[Event("oom", OOM, 20)]))
    assert finding.severity == "warning"
    assert finding.evidence.endswith("The run went on.")


@pytest.mark.parametrize("between", [[], [Event("nonfinite", "loss is NaN", 500)]])
def test_out_of_memory_at_the_first_validation(evidence, between):
    events = [Event("validation", "Validation of 11 sequences", 500), *between, Event("oom", OOM, 500)]
    finding = only(evidence(**LENGTHS, events=events))
    assert finding.keys[0] == "TEST.TILE"
    assert "while it validated or right after" in finding.evidence


def test_a_validation_long_before_is_not_the_cause(evidence):
    events = [Event("validation", "Validation", 100), Event("oom", OOM, 500)]
    assert only(evidence(**LENGTHS, events=events)).keys[0] == "TRAIN.AUTO_HALVE_BATCH"


def test_a_process_that_the_kernel_ended(evidence):
    text = "DataLoader worker (pid 4711) is killed by signal: Killed."
    finding = only(evidence(**LENGTHS, events=[Event("killed", text, 499)]))
    assert (finding.id, finding.severity, finding.keys[0]) == ("oom", "critical", "DATA.CACHE_SIZE_GB")


@pytest.mark.parametrize(("share", "severity"), [(0.89, None), (0.93, "warning"), (0.98, "critical")])
def test_a_machine_that_is_nearly_full(evidence, share, severity):
    found = find(evidence(**LENGTHS, scalars={"host_memory_share": [share] * 50}))
    assert [(finding.id, finding.severity) for finding in found] == ([("oom", severity)] if severity else [])


def test_a_warning_of_the_program_itself_counts_where_nothing_else_is_known(evidence):
    finding = only(
        evidence(**LENGTHS, events=[Event("memory-warning", "memory usage is critically high", 7)])
    )
    assert (finding.id, finding.severity, finding.steps) == ("oom", "warning", (7,))


def test_a_time_out_while_rank_0_validates_alone(evidence):
    events = [
        Event("validation", "Validation", 500, seconds=2_460.0),
        Event("watchdog", "Watchdog caught collective operation timeout: ran for 1800000 ms", 500),
    ]
    finding = only(evidence(**LENGTHS, events=events))
    assert (finding.id, finding.severity) == ("watchdog-timeout", "critical")
    assert "It was validating, which took 41 min 00 s." in finding.evidence
    assert "validates alone" in finding.cause


def test_a_time_out_of_a_rank_that_hangs(evidence):
    finding = only(evidence(**LENGTHS, events=[Event("watchdog", "timed out", 500)]))
    assert finding.cause.startswith("A rank waited for the others")


def test_long_and_broken_lines_are_quoted_in_short(evidence):
    finding = only(evidence(**LENGTHS, events=[Event("oom", "CUDA  out of\tmemory " + "x" * 400, None)]))
    assert '"CUDA out of memory xxx' in finding.evidence
    assert len(finding.evidence) < 200
    assert finding.steps == ()
