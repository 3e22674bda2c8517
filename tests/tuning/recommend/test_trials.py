import os
import re
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from deblurkit.config.load import load_config
from deblurkit.tuning.recommend.records import Candidate
from deblurkit.tuning.recommend.trial_request import TrialAnswer
from deblurkit.tuning.recommend.trials import run_trial

ANSWER = TrialAnswer("measured", step_seconds=(0.25, 0.5), phases={"forward": 0.1}, peak_bytes=1000)


@pytest.fixture
def trial_of():
    """Return a function that has a trial's process run some Python instead of steps."""
    config = load_config("quickstart", None, [], warn=lambda text: None)
    candidate = Candidate({"SEED": 1}, config, {})

    def run(code, **settings):
        return run_trial(candidate, program=("-c", code), **({"limit_seconds": 30.0} | settings))

    return run


def test_what_the_process_answers_is_the_trial(trial_of):
    found = trial_of(f"print('a library says hello'); print('''{ANSWER.as_json()}''')")
    assert (found.outcome, found.detail, found.key) == ("measured", "", '1 {"SEED": 1}')
    assert (found.step_seconds, found.phases, found.peak_bytes) == ((0.25, 0.5), {"forward": 0.1}, 1000)
    assert found.seconds > 0 and not found.is_cached


def test_the_process_is_told_the_configuration_and_how_many_steps(trial_of):
    code = (
        "import json, sys; asked = json.load(sys.stdin)\n"
        "names = 'steps', 'warmup', 'device_bytes', 'use_data'\n"
        "sys.exit(' '.join(map(str, [asked['config']['SEED'], *(asked[name] for name in names)])))"
    )
    found = trial_of(code, steps=5, warmup=3, device_bytes=2**30)
    assert (found.outcome, found.detail) == ("failed", f"123 5 3 {2**30} False")


def test_a_process_that_hangs_is_ended_at_its_limit(trial_of):
    began = time.monotonic()
    found = trial_of("import time; time.sleep(600)", limit_seconds=0.5)
    assert (found.outcome, found.detail) == ("timed out", "not done after 500 ms")
    assert 0.5 <= found.seconds <= time.monotonic() - began < 20


def test_one_that_does_not_heed_sigterm_is_killed(trial_of, monkeypatch):
    monkeypatch.setattr("deblurkit.tuning.recommend.trials._GRACE", 0.2)
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    assert trial_of(code, limit_seconds=1.0).outcome == "timed out"


def test_an_answer_counts_though_the_process_does_not_end(trial_of):
    code = f"import time; print('''{ANSWER.as_json()}''', flush=True); time.sleep(600)"
    assert trial_of(code, limit_seconds=1.0).outcome == "measured"


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV"])
def test_a_process_that_a_signal_kills_is_a_row_with_its_name(trial_of, name):
    found = trial_of(f"import os, signal; os.kill(os.getpid(), signal.{name})")
    assert found.outcome == "killed" and found.detail.startswith(f"by {name}")
    assert found.ran_out is None


def test_where_the_kernel_has_counted_a_kill_it_is_said(trial_of, monkeypatch):
    from pathlib import Path

    from deblurkit.memory.pressure import OomCount

    counts = iter([[OomCount(Path("/a"), False, 3, None)], [OomCount(Path("/a"), False, 4, None)]])
    monkeypatch.setattr("deblurkit.tuning.recommend.trials.oom_counts", lambda: next(counts))
    found = trial_of("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert (found.outcome, found.detail) == ("killed", "by SIGKILL, by the kernel: out of memory")
    assert found.ran_out == "host"


def test_a_process_that_fails_is_a_row_with_the_last_line_that_it_has_said(trial_of):
    found = trial_of("raise RuntimeError('no kernel for this')")
    assert (found.outcome, found.detail) == ("failed", "RuntimeError: no kernel for this")


@pytest.mark.parametrize("code, number", [("import sys; sys.exit(3)", 3), ("pass", 0)])
def test_one_that_says_nothing_has_failed_too(trial_of, code, number):
    found = trial_of(code)
    assert (found.outcome, found.detail) == ("failed", f"ended with exit code {number} and said nothing")


def test_an_interpreter_that_cannot_be_started_is_a_row(trial_of):
    found = trial_of("pass", python="/nowhere/python")
    assert found.outcome == "failed" and "no process could be started" in found.detail


def test_more_memory_than_there_is_ends_it(trial_of):
    code = "import time; held = b'x' * 2**28; time.sleep(600)"
    found = trial_of(code, host_bytes=2**27)
    assert found.outcome == "out of memory" and "128.0 MiB are there" in found.detail
    assert found.ran_out == "host"
    assert found.host_bytes > 2**27


def test_which_memory_ran_out_is_the_processs_to_say(trial_of):
    answer = TrialAnswer("out of memory", "CUDA out of memory", ran_out="device")
    found = trial_of(f"print('''{answer.as_json()}''')")
    assert (found.outcome, found.ran_out) == ("out of memory", "device")


def test_what_it_held_is_seen(trial_of):
    found = trial_of(f"import time; held = b'x' * 2**28; time.sleep(1); print('''{ANSWER.as_json()}''')")
    assert found.outcome == "measured" and 2**28 < found.host_bytes < 2**28 + 2**26


def test_processes_that_it_has_started_go_with_it(trial_of, tmp_path):
    told = tmp_path / "pid"
    worker = "import os, time; os.setpgid(0, 0); time.sleep(600)"  # as a loader's worker does
    code = (
        f"import subprocess, sys, time; own = subprocess.Popen([sys.executable, '-c', {worker!r}])\n"
        f"open({str(told)!r}, 'w').write(str(own.pid)); time.sleep(600)"
    )
    assert trial_of(code, limit_seconds=1.5).outcome == "timed out"
    assert _is_gone(int(told.read_text()))


def test_an_interrupt_ends_the_process_and_goes_on_to_whoever_called(trial_of, tmp_path):
    told = tmp_path / "pid"
    code = f"import os, time; open({str(told)!r}, 'w').write(str(os.getpid())); time.sleep(600)"

    def interrupt():
        while not told.exists() or not told.read_text():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        trial_of(code)
    thread.join()
    assert _is_gone(int(told.read_text()))


def test_ctrl_c_at_a_terminal_does_not_reach_the_process(trial_of):
    """A terminal signals the processes of its own session."""
    assert trial_of("import os, sys; sys.exit(str(os.getsid(0) == os.getpid()))").detail == "True"


def test_several_devices_are_never_tried(trial_of):
    config = load_config("quickstart", None, [], warn=lambda text: None)
    with pytest.raises(AssertionError):
        run_trial(Candidate({}, config, {}, devices=2))


SEARCH = """
from deblurkit.config.schema import Config
from deblurkit.tuning.recommend.records import Candidate
from deblurkit.tuning.recommend.trials import run_trial

run_trial(Candidate({{}}, Config(), {{}}), program=("-c", {code!r}))
"""
WAITING = """
import os, time
from deblurkit.training.interrupt import stop_with_launcher

stop_with_launcher()  # as the real program does before all else
with open({told!r}, "w") as file:
    file.write(str(os.getpid()))
time.sleep(600)
"""


def test_a_trials_process_does_not_outlive_the_search_that_was_killed(tmp_path):
    told = tmp_path / "pid"
    code = SEARCH.format(code=WAITING.format(told=str(told)))
    with subprocess.Popen([sys.executable, "-c", code]) as search:
        until = time.monotonic() + 60
        while not (told.exists() and told.read_text()) and time.monotonic() < until:
            time.sleep(0.05)
        search.kill()
    assert _is_gone(int(told.read_text()))


def _is_gone(pid, *, patience=10.0):
    until = time.monotonic() + patience
    while time.monotonic() < until:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


def test_steps_of_a_candidate_are_timed_and_followed(tiny_config):
    """End to end: two steps of the small network, in a process of its own."""
    config = tiny_config("DATA.CROP_SIZE=16", "DATA.CLIP_LEN=1")
    found = run_trial(
        Candidate({}, config, {}), steps=2, warmup=1, least_seconds=0.0, follow_memory=True, limit_seconds=240
    )
    assert (found.outcome, found.detail) == ("measured", "")
    assert len(found.step_seconds) == 2 and all(seconds > 0 for seconds in found.step_seconds)
    names = {"data", "transfer", "forward", "loss", "backward", "optimizer"}
    assert set(found.phases) == names
    assert sum(found.phases.values()) <= max(found.step_seconds)
    assert re.fullmatch(r"\d+", str(found.peak_bytes)) and found.peak_bytes < found.host_bytes
