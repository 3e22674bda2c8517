"""Starting and ending; what the processes do together is in tests/end_to_end/test_ranks.py."""

import pytest
import torch

from deblurkit.errors import DeblurkitError
from deblurkit.training import launch
from deblurkit.training.distributed import STORE


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


def test_what_the_user_has_set_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert "OMP_NUM_THREADS" not in launch._environment(0, 2, tmp_path)


def run(monkeypatch, tmp_path, code, processes=2):
    """Launch processes that run Python code instead of deblurkit."""
    script = tmp_path / "script.py"
    script.write_text(code)
    monkeypatch.setattr(launch, "PROGRAM", (str(script),))
    launch.launch([], processes=processes, on_gpus=False)


HEAD = """
import os, sys, time, signal
from deblurkit import last_words
from deblurkit.errors import DataError, LostPeer
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
    ],
)
def test_the_first_to_fail_ends_all_and_its_reason_is_said(monkeypatch, tmp_path, code, said, exit_code):
    with pytest.raises(launch.RankFailed, match=said) as caught:
        run(monkeypatch, tmp_path, HEAD + code)
    assert caught.value.exit_code == exit_code
