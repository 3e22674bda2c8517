import random

import numpy as np
import pytest
import torch
from torch import nn

from deblurkit.errors import CheckpointError
from deblurkit.training import checkpoint
from deblurkit.training.precision import Precision

CPU = torch.device("cpu")


class Parts:
    def __init__(self, width=3):
        self.model = nn.Linear(2, width)
        self.optimizer = torch.optim.AdamW(self.model.parameters())
        self.precision = Precision(CPU, None)

    def train(self):
        self.model(torch.ones(1, 2)).sum().backward()
        self.optimizer.step()
        return self

    def save(self, folder, step):
        path = checkpoint.checkpoint_path(folder, step)
        checkpoint.save_checkpoint(
            path,
            step=step,
            config={"SEED": 1},
            model=self.model,
            optimizer=self.optimizer,
            precision=self.precision,
            extra={"samples": 8},
        )
        return path

    def restore(self, state):
        checkpoint.restore_run(state, model=self.model, optimizer=self.optimizer, precision=self.precision)


def test_everything_comes_back(tmp_path):
    first, second = Parts().train(), Parts()
    state = checkpoint.load_checkpoint(first.save(tmp_path, 5))
    second.restore(state)
    assert (state["step"], state["config"], state["extra"]) == (5, {"SEED": 1}, {"samples": 8})
    assert torch.equal(first.model.weight, second.model.weight)
    moments = [parts.optimizer.state_dict()["state"][0]["exp_avg"] for parts in (first, second)]
    assert torch.equal(*moments)


def test_the_random_states_of_all_three_libraries_come_back(tmp_path):
    state = checkpoint.load_checkpoint(Parts().save(tmp_path, 1))
    draw = lambda: (torch.rand(2).tolist(), random.random(), np.random.rand(), np.random.randn())  # noqa: E731
    expected = draw()
    checkpoint.restore_random_states(state["random"])
    assert draw() == expected


def test_a_failed_write_leaves_the_checkpoint_before_whole(tmp_path, monkeypatch):
    parts = Parts()
    path = parts.save(tmp_path, 1)
    before = path.read_bytes()

    def half(state, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError):
        parts.save(tmp_path, 1)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "found none"), (b"", "damaged"), (b"not a zip", "damaged")],
)
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, content, reason):
    path = tmp_path / "x.pt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=reason):
        checkpoint.load_checkpoint(path)


def test_a_truncated_or_altered_checkpoint_is_refused(tmp_path):
    parts = Parts()
    path = parts.save(tmp_path, 1)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.load_checkpoint(path)
    at = whole.index(parts.model.weight.detach().numpy().tobytes())
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(CheckpointError, match="does not match its checksum"):
        checkpoint.load_checkpoint(path)


def test_a_file_with_code_in_it_is_not_run(tmp_path):
    ran = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (open, (str(ran), "w"))

    torch.save({"schema": checkpoint.SCHEMA, "model": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError):
        checkpoint.load_checkpoint(tmp_path / "evil.pt")
    assert not ran.exists()


def test_another_program_s_file_is_refused(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="expected a checkpoint of this program"):
        checkpoint.load_checkpoint(tmp_path / "x.pt")


def test_weights_of_another_network_are_refused_by_name(tmp_path):
    state = checkpoint.load_checkpoint(Parts(width=3).save(tmp_path, 1))
    with pytest.raises(CheckpointError, match="bias, weight"):
        Parts(width=4).restore(state)


def test_the_newest_readable_checkpoint_is_found(tmp_path):
    parts, warnings = Parts(), []
    for step in (5, 20, 100):
        parts.save(tmp_path, step)
    checkpoint.checkpoint_path(tmp_path, 100).write_bytes(b"damaged")
    state = checkpoint.load_newest(tmp_path, warn=warnings.append)
    assert state["step"] == 20
    assert len(warnings) == 1 and "step_00000100.pt" in warnings[0]


def test_no_checkpoint_is_none_and_only_damaged_ones_are_an_error(tmp_path):
    assert checkpoint.load_newest(tmp_path, warn=pytest.fail) is None
    checkpoint.checkpoint_path(tmp_path, 1).write_bytes(b"x")
    with pytest.raises(CheckpointError, match="of 1 checkpoint none can be read"):
        checkpoint.load_newest(tmp_path, warn=lambda text: None)


def test_old_ones_and_half_written_ones_go(tmp_path):
    parts = Parts()
    for step in (9, 10, 11):
        parts.save(tmp_path, step)
    (tmp_path / ".step_00000012.pt.abc.partial").write_bytes(b"half")
    checkpoint.remove_old(tmp_path, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_00000010.pt", "step_00000011.pt"]
