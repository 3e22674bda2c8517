import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

import deblurkit
from deblurkit.errors import DeblurkitError, LostPeer
from deblurkit.training import distributed
from deblurkit.training.distributed import ALONE, Ranks, Vote, is_loss_of_peer, ranks_of_environment

PLACE = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}


def test_a_process_that_nobody_started_with_others_is_alone(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert ranks_of_environment() == ALONE
    assert ALONE.is_main and ALONE.gather({"a": 1}) == [{"a": 1}] and ALONE.mean(3.5) == 3.5
    assert ALONE.from_main("x") == "x"
    assert [Vote(ALONE).ask(value) for value in (0, 15)] == [0, 15]
    with distributed.joined(ALONE, timeout_minutes=1):
        assert not torch.distributed.is_initialized()
    network = torch.nn.Linear(2, 2)
    assert distributed.summing(network, device=torch.device("cpu"), accumulation=1) is network
    with distributed.without_sum(network):
        pass


def test_the_place_is_what_torchrun_says(monkeypatch):
    for name, value in PLACE.items():
        monkeypatch.setenv(name, value)
    assert ranks_of_environment() == Ranks(rank=3, world_size=4, local_rank=1, local_world_size=2)
    assert not ranks_of_environment().is_main


@pytest.mark.parametrize(
    "change, said",
    [
        ({"RANK": None}, r"RANK=\(missing\), WORLD_SIZE=4"),
        ({"LOCAL_RANK": "one"}, "LOCAL_RANK=one"),
        ({"RANK": "4"}, "do not fit together"),
        ({"LOCAL_RANK": "2"}, "do not fit together"),
        ({"RANK": "-1"}, "do not fit together"),
    ],
)
def test_half_an_environment_is_refused_with_what_to_do(monkeypatch, change, said):
    for name, value in (PLACE | change).items():
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
    with pytest.raises(DeblurkitError, match=said) as caught:
        ranks_of_environment()
    assert "torchrun" in str(caught.value)


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with (
        pytest.raises(DeblurkitError, match="4 processes on this machine, and PyTorch finds 2 GPUs"),
        distributed.joined(Ranks(2, 4, 2, 4), timeout_minutes=1),
    ):
        pass


class Group:
    """Stands for PyTorch's; notes how it is met and left."""

    def __init__(self, monkeypatch, *, gpus=0):
        self.backends, self.left = [], []
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.cuda, "set_device", lambda number: self.left.append(f"device {number}"))
        monkeypatch.setattr(
            torch.distributed, "init_process_group", lambda backend, **named: self.backends.append(backend)
        )
        monkeypatch.setattr(torch.distributed, "barrier", lambda: pytest.fail("would wait by NCCL"))
        monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: self.left.append("left"))
        monkeypatch.setattr(Ranks, "gather", lambda ranks, value: self.left.append("waited"))


@pytest.mark.parametrize(
    "device, gpus, backend, seen",
    [
        ("cpu", 1, "gloo", ["waited", "left"]),
        ("cpu", 2, "gloo", ["waited", "left"]),
        ("auto", 0, "gloo", ["waited", "left"]),
        ("auto", 2, "cpu:gloo,cuda:nccl", ["device 1", "waited", "left"]),
        ("cuda", 2, "cpu:gloo,cuda:nccl", ["device 1", "waited", "left"]),
    ],
)
def test_gpus_that_are_not_trained_on_do_not_matter(monkeypatch, device, gpus, backend, seen):
    group = Group(monkeypatch, gpus=gpus)
    with distributed.joined(Ranks(1, 2, 1, 2), timeout_minutes=1, device=device):
        pass
    assert group.backends == [backend] and group.left == seen


def test_an_error_is_told_of_even_where_leaving_never_ends(monkeypatch):
    """As NCCL may, which waits for a rank that is lost."""
    Group(monkeypatch)
    hung = threading.Event()
    monkeypatch.setattr(torch.distributed, "destroy_process_group", hung.wait)
    monkeypatch.setattr(distributed, "_FAREWELL", 0.05)
    try:
        with (
            pytest.raises(DeblurkitError, match="the reason"),
            distributed.joined(Ranks(0, 2, 0, 2), timeout_minutes=1),
        ):
            raise DeblurkitError("the reason")
    finally:
        hung.set()


def test_the_loss_of_another_rank_comes_out_as_such_where_there_is_one():
    lost = RuntimeError("gloo: Connection closed by peer\nmore of it")
    with pytest.raises(LostPeer) as caught, distributed.told_of_lost_peers(Ranks(1, 2, 1, 2)):
        raise lost
    assert str(caught.value) == (
        "rank 1: another rank has ended or does not answer (gloo: Connection closed by peer)"
    )
    with pytest.raises(RuntimeError) as caught, distributed.told_of_lost_peers(ALONE):
        raise lost
    assert caught.value is lost
    with pytest.raises(RuntimeError, match="shapes"), distributed.told_of_lost_peers(Ranks(1, 2, 1, 2)):
        raise RuntimeError("shapes cannot be multiplied")


@pytest.mark.parametrize(
    "error, expected",
    [
        (RuntimeError("[../gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:44"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 2x2)"), False),
        (ValueError("Connection closed by peer"), False),
        (torch.distributed.DistBackendError("NCCL error: remote process exited"), True),
        (torch.distributed.DistBackendError("NCCL error: Cuda failure 2 'out of memory'"), False),
    ],
)
def test_the_loss_of_another_rank_is_told_from_an_error_of_our_own(error, expected):
    assert is_loss_of_peer(error) is expected


def play(rank, folder):
    """Be one of three ranks, and leave what was seen in a file."""
    ranks = Ranks(rank, 3, rank, 3)
    os.environ[distributed.STORE] = f"{folder}/store"
    with distributed.joined(ranks, timeout_minutes=1):
        seen = {
            "gathered": ranks.gather({"rank": rank, "name": "秩" * rank, "values": torch.arange(rank)}),
            "from_main": ranks.from_main([rank]),
            "mean": ranks.mean(float(rank)),
        }
        vote = Vote(ranks)
        # Rank 1 is asked to stop in its second step; all hear of it in their third, and again in the fourth.
        seen["votes"] = [vote.ask(15 if rank == 1 and step == 2 else 0) for step in range(1, 5)]
        vote.close()
        path = Path(folder) / "written"
        with ranks.main_first():
            if ranks.is_main:
                threading.Event().wait(0.2)
                path.write_text("by rank 0")
            seen["found"] = path.read_text()
    torch.save(seen, f"{folder}/seen{rank}.pt")


@pytest.mark.skipif(sys.platform != "linux", reason="gloo is told the name of Linux's loopback")
def test_three_ranks_hear_of_each_other(tmp_path):
    code = "import runpy, sys; runpy.run_path(sys.argv[1])['play'](int(sys.argv[2]), sys.argv[3])"
    environment = os.environ | {
        "PYTHONPATH": str(Path(deblurkit.__file__).parents[1]),
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
    }
    processes = [
        subprocess.Popen([sys.executable, "-c", code, __file__, str(rank), str(tmp_path)], env=environment)
        for rank in range(3)
    ]
    try:
        assert [process.wait(timeout=100) for process in processes] == [0, 0, 0]
    finally:
        for process in processes:
            process.kill()
    for rank in range(3):
        seen = torch.load(tmp_path / f"seen{rank}.pt", weights_only=True)
        assert [part["name"] for part in seen["gathered"]] == ["", "秩", "秩秩"]
        assert [part["values"].tolist() for part in seen["gathered"]] == [[], [0], [0, 1]]
        assert seen["from_main"] == [0] and seen["mean"] == 1.0
        assert seen["votes"] == [0, 0, 15, 0]
        assert seen["found"] == "by rank 0"
