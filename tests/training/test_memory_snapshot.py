import pytest
import torch

from deblurkit.errors import DeblurkitError
from deblurkit.training import run
from deblurkit.training.memory_snapshot import snapshot_on_out_of_memory

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
NOW = 1_700_000_000.9


class Memory:
    """PyTorch's recorder of allocations, of which calls are noted."""

    def __init__(self, *, broken=False):
        self.calls, self.broken = [], broken

    def _record_memory_history(self, **named):
        self.calls.append(named)

    def _dump_snapshot(self, path):
        if self.broken:
            raise OSError(28, "No space left on device")
        with open(path, "w") as file:
            file.write("snapshot")


def out_of_memory():
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def attempt(folder, work, *, memory, device=GPU):
    told = []
    with snapshot_on_out_of_memory(
        folder, rank=2, device=device, tell=told.append, memory=memory, now=lambda: NOW
    ):
        work()
    return told


def test_a_snapshot_is_written_where_memory_runs_out(tmp_path):
    memory, told = Memory(), []
    with (
        pytest.raises(torch.OutOfMemoryError),
        snapshot_on_out_of_memory(
            tmp_path / "logs", rank=2, device=GPU, tell=told.append, memory=memory, now=lambda: NOW
        ),
    ):
        assert memory.calls == [{"max_entries": 100_000}]
        out_of_memory()
    path = tmp_path / "logs" / "memory_1700000000.rank2.pickle"
    assert path.read_text() == "snapshot"
    viewer = "https://docs.pytorch.org/memory_viz"
    assert told == [f"what PyTorch had allocated is in {path}; open it with {viewer}"]
    assert memory.calls[-1] == {"enabled": None}


def test_an_error_that_was_explained_already_counts_by_its_cause(tmp_path):
    def explained():
        try:
            out_of_memory()
        except torch.OutOfMemoryError as error:
            raise DeblurkitError("in the validation after step 5: memory of cuda:0 has run out") from error

    with pytest.raises(DeblurkitError):
        attempt(tmp_path, explained, memory=Memory())
    assert len(list(tmp_path.iterdir())) == 1


def test_another_error_and_none_leave_no_snapshot(tmp_path):
    memory = Memory()
    with pytest.raises(ZeroDivisionError):
        attempt(tmp_path, lambda: 1 / 0, memory=memory)
    assert attempt(tmp_path, lambda: None, memory=memory) == []
    assert list(tmp_path.iterdir()) == []
    assert memory.calls.count({"enabled": None}) == 2


def test_a_snapshot_that_cannot_be_written_does_not_hide_the_error(tmp_path):
    told = []
    with (
        pytest.raises(torch.OutOfMemoryError),
        snapshot_on_out_of_memory(
            tmp_path, rank=0, device=GPU, tell=told.append, memory=Memory(broken=True), now=lambda: 7.0
        ),
    ):
        out_of_memory()
    assert "could not be written" in told[0] and "No space left" in told[0]


def test_without_a_gpu_it_is_said_that_there_is_nothing_to_remember(tmp_path):
    memory = Memory()
    (text,) = attempt(tmp_path, lambda: None, memory=memory, device=CPU)
    assert text.startswith("LOG.MEMORY_SNAPSHOT: ") and memory.calls == []


def test_a_run_takes_the_setting(tiny_config, Watcher):
    watcher = Watcher()
    run.train(tiny_config("LOG.MEMORY_SNAPSHOT=true"), observer=watcher)
    assert [text for text in watcher.messages if text.startswith("LOG.MEMORY_SNAPSHOT: ")]
