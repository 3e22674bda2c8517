import json

import pytest

from deblurkit.errors import DeblurkitError
from deblurkit.memory.kernel_log import KernelLog
from deblurkit.memory.machine import Machine
from deblurkit.memory.processes import Process
from deblurkit.tuning.memory_report import past_process, past_run

PID = 2**22 + 7  # above Linux's largest: nobody's
KILL = f"[10.0] Out of memory: Killed process {PID} (python) total-vm:9kB, anon-rss:2097152kB, UID:1"


@pytest.fixture
def sources_of(tmp_path, made_sources):
    def make(*lines, pids=(), source="/dev/kmsg", unseen=""):
        return made_sources(
            Machine(tmp_path / "proc", tmp_path / "shm", tmp_path / "cgroup"),
            *(Process(pid, 1, 0, "root", "python", (), 0.0, 1) for pid in pids),
            kernel_log=lambda: KernelLog(lines, source, unseen),
            booted_at=lambda: 0.0,
        )

    return make


@pytest.fixture
def killed_run(tmp_path):
    """The folder of a run whose process is gone, below a folder of runs."""
    folder = tmp_path / "outputs" / "vrt 运行"
    folder.mkdir(parents=True)
    part = {"status": "running", "started_at": "1970-01-01T00:00:00+00:00", "hostname": "gpu01"}
    (folder / "run.json").write_text(json.dumps({"parts": [part]}))
    (folder / ".lock").write_text(f"process {PID} on gpu01\n")
    return folder


def test_a_run_that_the_kernel_has_killed(killed_run, sources_of):
    past = past_run(killed_run, sources_of(KILL))
    assert (past.folder, past.aftermath.end.status) == (killed_run, "killed")
    (cause,) = past.aftermath.causes
    assert (cause.kind, cause.certainty) == ("machine-memory", "certain")
    assert "2.00 GiB" in cause.text


def test_a_folder_without_a_run_is_refused(tmp_path, sources_of):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DeblurkitError, match=r"expected the folder of a run, with a run\.json"):
            past_run(folder, sources_of())


@pytest.mark.parametrize("text", ["{", "[]", '{"parts": []}'])
def test_a_record_that_cannot_be_read_is_no_run(tmp_path, sources_of, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(DeblurkitError, match=r"run\.json: expected the record of a run"):
        past_run(tmp_path, sources_of())


def test_a_process_that_lives_has_no_past(sources_of, tmp_path):
    assert past_process(77, sources_of(pids=(77,)), outputs=tmp_path) is None


def test_the_run_of_a_dead_process_is_found_by_its_lock(killed_run, sources_of):
    past = past_process(PID, sources_of(KILL), outputs=killed_run.parent)
    assert (past.folder, past.aftermath.end.pid) == (killed_run, PID)
    assert past.aftermath.causes[0].certainty == "certain"


def test_without_a_run_the_kernel_s_word_of_the_process_itself_counts(sources_of, tmp_path):
    other = KILL.replace(str(PID), "4242")
    past = past_process(PID, sources_of(other, KILL), outputs=tmp_path)
    assert past.folder is None
    (cause,) = past.aftermath.causes
    assert f"process {PID} (python)" in cause.text
    with pytest.raises(DeblurkitError, match=f"--pid {PID}: no such process"):
        past_process(PID, sources_of(other), outputs=tmp_path)


def test_what_the_kernel_keeps_to_itself_is_said(sources_of, tmp_path):
    sources = sources_of(source=None, unseen="the kernel log cannot be read")
    with pytest.raises(DeblurkitError, match="the kernel log cannot be read"):
        past_process(PID, sources, outputs=tmp_path)
