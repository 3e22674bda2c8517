import pytest
import torch

from deblurkit.errors import CheckpointError
from deblurkit.training import checkpoint, parts
from deblurkit.training.ema import Ema
from deblurkit.training.saving import Saving


@pytest.fixture
def made(tiny_config):
    def assembled(*more):
        config = tiny_config(*more)
        (config.log.save_dir / "checkpoints").mkdir(parents=True, exist_ok=True)
        return parts.assemble(config, message=lambda text: None, warn=pytest.fail)

    return assembled


def test_what_is_saved_is_taken_up_again(made):
    first = made()
    ema = Ema(first.model, decay=0.5)
    saving = Saving(first, ema=ema, guard=None)
    with torch.no_grad():
        next(first.model.parameters()).add_(1)
    assert not saving.has(3)
    saving.save(3, seconds=1.5, samples=12)
    assert saving.has(3) and saving.path(3).name == "step_00000003.pt"
    state = checkpoint.load_checkpoint(saving.path(3))
    assert state["extra"] | {"clips": 0} == {
        "seconds": 1.5,
        "samples": 12,
        "clips": 0,
        "total_steps": first.total_steps,
        "world_size": 1,
    }
    second = made()
    averaged = Ema(second.model, decay=0.5)
    assert list(Saving(second, ema=averaged, guard=None).restore(state)) == []
    for name, value in first.model.state_dict().items():
        assert torch.equal(second.model.state_dict()[name], value)
        assert torch.equal(averaged.state_dict()[name], ema.state_dict()[name])


def test_what_is_otherwise_than_it_was_is_said(made):
    saving = Saving(made(), ema=None, guard=None)
    saving.save(1, seconds=0.0, samples=2)
    state = checkpoint.load_checkpoint(saving.path(1))
    state["extra"] |= {"world_size": 4, "clips": 99}
    later = made("TRAIN.OPTIM.LR=0.5")
    said = list(Saving(later, ema=Ema(later.model, decay=0.5), guard=None).restore(state))
    assert any("TRAIN.OPTIM.LR was" in text and "0.5 now" in text for text in said)
    assert any("had 99 clips" in text for text in said)
    assert any("4 processes trained together, and 1 do now" in text for text in said)
    assert any("no running mean" in text for text in said)


def test_the_best_is_the_highest_score_so_far(made):
    saving = Saving(made(), ema=None, guard=None)
    assert saving.is_best(20.0) and saving.scored_until() == 0
    for step, score in ((1, 20.0), (2, 19.0), (3, 21.0)):
        saving.save(step, seconds=0.0, samples=step)
        assert saving.is_best(score) is (score != 19.0)
        saving.keep_if_best(step, score)
    assert saving.scored_until() == 3
    assert checkpoint.load_checkpoint(saving.folder / "best.pt")["step"] == 3


def test_a_best_of_another_protocol_or_tile_is_told_and_begins_anew(made):
    saving = Saving(made(), ema=None, guard=None)
    saving.save(1, seconds=0.0, samples=1)
    saving.keep_if_best(1, 30.0)
    assert saving.other_scores() is None
    other = Saving(made("TEST.PROTOCOL=y", "TEST.TILE=[40,40]"), ema=None, guard=None)
    assert other.other_scores() == (
        "best.pt was chosen by scores of protocol vrt, whole frames, split test; they do not compare with"
        " those of protocol y, tiles of 40 x 40 overlapping by 2 x 20 x 20, split test, of which the next one"
        " begins anew"
    )
    assert other.is_best(20.0) and other.scored_until() == 0
    other.save(2, seconds=0.0, samples=2)
    other.keep_if_best(2, 20.0)
    assert other.other_scores() is None and not other.is_best(19.0)
    assert checkpoint.load_checkpoint(other.folder / "best.pt")["step"] == 2


def test_a_teacher_with_other_weights_is_told(made):
    first = made()
    saving = Saving(first, ema=None, guard=None, networks={"distillation": "a1", "lpips": "b2"})
    saving.save(1, seconds=0.0, samples=1)
    state = checkpoint.load_checkpoint(saving.path(1))
    same = {"distillation": "a1", "lpips": "b2"}
    assert list(Saving(first, ema=None, guard=None, networks=same).restore(state)) == []
    other = Saving(first, ema=None, guard=None, networks={"distillation": "a2", "lpips": "b2"})
    (said,) = other.restore(state)
    assert said.startswith("the network of the loss's term distillation had other weights in the checkpoint")
    assert list(Saving(first, ema=None, guard=None).restore(state)) == []  # a key that is gone says so itself


def test_a_full_disk_is_one_line_and_the_others_stay(made, monkeypatch):
    saving = Saving(made(), ema=None, guard=None)
    saving.save(1, seconds=0.0, samples=2)

    def full(*arguments, **named):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_checkpoint", full)
    with pytest.raises(CheckpointError, match="step_00000002.pt: could not be written .*1 checkpoint before"):
        saving.save(2, seconds=0.0, samples=4)
    assert checkpoint.load_checkpoint(saving.path(1))["step"] == 1


def test_ctrl_c_while_a_checkpoint_is_written_is_no_full_disk(made, monkeypatch):
    saving = Saving(made(), ema=None, guard=None)
    saving.save(1, seconds=0.0, samples=2)

    class Interrupted:
        """A file whose second piece Ctrl-C comes into: torch says that its length is not as expected."""

        def __init__(self, file):
            self.file, self.pieces, self.flush = file, 0, file.flush

        def write(self, piece):
            self.pieces += 1
            if self.pieces == 2:
                raise KeyboardInterrupt
            return self.file.write(piece)

    save = torch.save
    monkeypatch.setattr(torch, "save", lambda state, file: save(state, Interrupted(file)))
    with pytest.raises(KeyboardInterrupt):
        saving.save(2, seconds=0.0, samples=4)
    monkeypatch.undo()
    assert [path.name for path in saving.folder.iterdir()] == ["step_00000001.pt"]
    assert checkpoint.load_checkpoint(saving.path(1))["step"] == 1
