"""Starting and ending; what the processes do together is in tests/end_to_end/test_ranks.py."""

import os
import signal

import pytest
import torch

from deblurkit.errors import DeblurkitError
from deblurkit.training import launch
from deblurkit.training.distributed import STORE
from deblurkit.training.interrupt import LAUNCHER


def test_more_processes_than_gpus_are_refused_before_any_is_started(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(launch, "start_processes", lambda **named: pytest.fail("started"))
    with pytest.raises(DeblurkitError, match="--gpus 2: PyTorch finds 1 on this machine"):
        launch.launch(["train"], processes=2)


def test_the_environment_is_that_of_torchrun_with_a_file_instead_of_a_port(tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "available_cpus", lambda: 9)
    for name in ("OMP_NUM_THREADS", "GLOO_SOCKET_IFNAME", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    made = launch._environment(1, 4, tmp_path)
    place = {name: made[name] for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")}
    assert place == {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4"}
    assert made[STORE] == str(tmp_path / "store")
    assert made["OMP_NUM_THREADS"] == "2" and made["GLOO_SOCKET_IFNAME"] == "lo"
    assert "MASTER_PORT" not in made
    assert made[LAUNCHER] == str(os.getpid())


def test_what_the_user_has_set_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert "OMP_NUM_THREADS" not in launch._environment(0, 2, tmp_path)


def run(monkeypatch, tmp_path, code, processes=2):
    """Launch processes that run Python code instead of deblurkit."""
    monkeypatch.setattr(launch, "_GRACE", 1.5)
    script = tmp_path / "script.py"
    script.write_text(code)
    monkeypatch.setattr(launch, "PROGRAM", (str(script),))
    launch.launch([], processes=processes, on_gpus=False)


HEAD = """
import os, sys, time, signal
from deblurkit import last_words
from deblurkit.errors import DataError, LostPeer
if "InterruptedRun" in open(__file__).read().split("rank = ", 1)[1]:
    from deblurkit.training.interrupt import InterruptedRun
rank = int(os.environ["RANK"])
"""


def test_processes_that_all_end_well_are_all_that_is_wanted(monkeypatch, tmp_path):
    code = HEAD + f"open({str(tmp_path)!r} + f'/{{rank}}', 'w').close()"
    run(monkeypatch, tmp_path, code, processes=3)
    assert all((tmp_path / str(rank)).exists() for rank in range(3))


@pytest.mark.parametrize(
    "code, said, exit_code",
    [
        (
            "last_words.leave(DataError('same')); sys.exit(1) if rank else (time.sleep(0.3), sys.exit(1))",
            "^same$",
            1,
        ),
        (
            "error = DataError('the reason') if rank else LostPeer('gone')\n"
            "last_words.leave(error); sys.exit(1)",
            "^rank 1: the reason$",
            1,
        ),
        (
            "os.kill(os.getpid(), signal.SIGKILL) if rank else time.sleep(60)",
            "rank 1 was killed by SIGKILL",
            1,
        ),
        ("sys.exit(7) if rank else time.sleep(60)", "rank 1 ended with exit code 7", 7),
        # Both have only lost each other, as where a switch fails: what they say is all there is.
        (
            "last_words.leave(LostPeer(f'rank {rank}: another rank does not answer (Connection reset)'))\n"
            "sys.exit(1)",
            r"^rank 0: another rank does not answer \(Connection reset\)$",
            1,
        ),
        # Rank 1 hangs, heeds no SIGTERM, and is ended by SIGTERM or says that it was stopped.
        (
            "if rank: signal.signal(signal.SIGTERM, signal.SIG_DFL); time.sleep(60)\n"
            "last_words.leave(LostPeer('rank 0: another rank does not answer (Timed out)')); sys.exit(1)",
            r"^rank 0: .*\(Timed out\); 1 rank of 2 did not end with it and had to be ended$",
            1,
        ),
        (
            "stopped = InterruptedRun('stopped after step 7', signal.SIGTERM)\n"
            "leave = lambda *_: (last_words.leave(stopped), os._exit(stopped.exit_code))\n"
            "if rank: signal.signal(signal.SIGTERM, leave); time.sleep(60)\n"
            "last_words.leave(LostPeer('rank 0: gone')); sys.exit(1)",
            r"^rank 0: gone; 1 rank of 2 did not end with it and had to be ended$",
            1,
        ),
        # Rank 1 has an error of its own, and takes longer to end than rank 0 to notice.
        (
            "if rank: time.sleep(0.4)\n"
            "last_words.leave(DataError('the reason') if rank else LostPeer('rank 0: gone')); sys.exit(1)",
            "^rank 1: the reason$",
            1,
        ),
    ],
)
def test_the_first_to_fail_ends_all_and_its_reason_is_said(monkeypatch, tmp_path, code, said, exit_code):
    with pytest.raises(launch.RankFailed, match=said) as caught:
        run(monkeypatch, tmp_path, HEAD + code)
    assert caught.value.exit_code == exit_code


@pytest.mark.parametrize("is_ignored", [False, True])
def test_a_hangup_is_handed_on_unless_nohup_ignores_it(monkeypatch, tmp_path, is_ignored):
    """The processes have sessions of their own: no terminal's hangup reaches them by itself."""
    code = (
        HEAD
        + f"""
signal.signal(signal.SIGHUP, lambda *_: sys.exit(0))
signal.signal(signal.SIGUSR1, lambda *_: os._exit(0))
open({str(tmp_path)!r} + f'/ready{{rank}}', 'w').close()
time.sleep(60)
"""
    )

    def look(context):
        if all((tmp_path / f"ready{rank}").exists() for rank in range(2)) and not sent:
            sent.append(signal.getsignal(signal.SIGHUP))
            os.kill(os.getpid(), signal.SIGHUP)
            if is_ignored:
                os.kill(os.getpid(), signal.SIGUSR1)
        return looked(context)

    sent, looked = [], launch._ended
    monkeypatch.setattr(launch, "_ended", look)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if is_ignored else signal.SIG_DFL)
    try:
        run(monkeypatch, tmp_path, code)
        assert signal.getsignal(signal.SIGHUP) is (signal.SIG_IGN if is_ignored else signal.SIG_DFL)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert (sent[0] is signal.SIG_IGN) == is_ignored
