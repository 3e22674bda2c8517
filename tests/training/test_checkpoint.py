import json
import os
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

    def save(self, folder, step, **more):
        path = checkpoint.checkpoint_path(folder, step)
        checkpoint.save_checkpoint(
            path,
            step=step,
            config={"SEED": 1},
            model=self.model,
            optimizer=self.optimizer,
            precision=self.precision,
            extra={"samples": 8},
            **more,
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
    expected = draw()
    assert checkpoint.restore_random_states(state["random"]) is None
    assert draw() == expected


def draw():
    return torch.rand(2).tolist(), random.random(), np.random.rand(), np.random.randn()


def ranks_that_draw(count):
    """Return the random states of ranks that have drawn, and what each of them would draw next."""
    states, following = [], []
    for rank in range(count):
        checkpoint.start_random_states(7, rank=rank)
        draw()
        states.append(checkpoint.own_random_states())
        following.append(draw())
    return states, following


def test_every_rank_gets_its_own_random_states_back(tmp_path):
    states, following = ranks_that_draw(3)
    state = checkpoint.load_checkpoint(Parts().save(tmp_path, 1, random_states=states))
    for rank in (2, 0, 1):
        assert checkpoint.restore_random_states(state["random"], rank=rank, world_size=3, seed=7) is None
        assert draw() == following[rank]


def test_a_rank_that_was_not_there_starts_from_the_seed_and_it_is_said():
    states, following = ranks_that_draw(2)
    said = checkpoint.restore_random_states(states, rank=3, world_size=4, seed=7)
    mine = draw()
    assert said == (
        "the random states of 2 processes were saved and 4 go on; those from rank 2 on start from SEED"
    )
    checkpoint.start_random_states(7, rank=3)
    assert draw() == mine
    assert "those from rank 2 on start" in checkpoint.restore_random_states(states, rank=1, world_size=4)
    assert draw() == following[1]


def test_fewer_ranks_than_were_saved_are_said():
    states, following = ranks_that_draw(2)
    assert checkpoint.restore_random_states(states, rank=0, world_size=1) == (
        "the random states of 2 processes were saved and 1 go on; those from rank 1 on are dropped"
    )
    assert draw() == following[0]


def test_ranks_draw_different_numbers_and_rank_0_those_of_the_seed():
    _, following = ranks_that_draw(4)
    for column in zip(*following, strict=True):
        assert len({str(value) for value in column}) == 4
    checkpoint.start_random_states(5)
    mine = draw()
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)
    assert draw() == mine


def test_what_a_run_does_not_have_is_not_in_its_checkpoints(tmp_path):
    parts = Parts()
    assert not {"ema", "guard"} & checkpoint.load_checkpoint(parts.save(tmp_path, 1)).keys()
    more = {"ema": {"decay": 0.5, "weights": {"weight": torch.ones(2)}}, "guard": {"skipped": 3}}
    state = checkpoint.load_checkpoint(parts.save(tmp_path, 2, **more))
    assert state["guard"] == {"skipped": 3} and state["ema"]["decay"] == 0.5
    assert torch.equal(state["ema"]["weights"]["weight"], torch.ones(2))


def test_a_checkpoint_of_the_first_version_is_read(tmp_path):
    """It had the random states of the one process instead of a list."""
    path = Parts().save(tmp_path, 1)
    state = torch.load(path, weights_only=True)
    expected = draw()
    torch.save({**state, "schema": "deblurkit-checkpoint/1", "random": state["random"][0]}, path)
    checkpoint.restore_random_states(checkpoint.load_checkpoint(path)["random"])
    assert draw() == expected


def test_a_checkpoint_of_a_later_version_is_refused_as_such(tmp_path):
    path = Parts().save(tmp_path, 1)
    torch.save({**torch.load(path, weights_only=True), "schema": "deblurkit-checkpoint/3"}, path)
    with pytest.raises(CheckpointError, match=r"written by a newer deblurkit \(deblurkit-checkpoint/3"):
        checkpoint.load_checkpoint(path)


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


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def test_a_flipped_bit_anywhere_is_found_or_alters_nothing(tmp_path):
    """Padding between the entries and their dates have no checksum, and nothing is read from them."""
    path, rng = Parts().train().save(tmp_path, 1), random.Random(3)
    whole, expected = path.read_bytes(), checkpoint.load_checkpoint(path)
    found = 0
    for at in rng.sample(range(len(whole)), 600):
        content = bytearray(whole)
        content[at] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
        try:
            state = checkpoint.load_checkpoint(path)
        except CheckpointError:
            found += 1
        else:
            assert equal(state, expected), at
    assert found > 400


@pytest.mark.parametrize("size", [512, 4096])
def test_a_sector_or_page_that_never_reached_the_disk_is_found(tmp_path, size):
    path = Parts(width=3000).train().save(tmp_path, 1)
    whole = path.read_bytes()
    for start in range(0, len(whole) - size, 7 * size):
        path.write_bytes(whole[:start] + bytes(size) + whole[start + size :])
        if whole[start : start + size] != bytes(size):
            with pytest.raises(CheckpointError):
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
    checkpoint.remove_old(tmp_path, keep=2, step=11)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_00000010.pt", "step_00000011.pt"]


def score_all(folder, scores):
    """Save a checkpoint for each of (step, score), keep the best one, and return what was kept."""
    kept = []
    for step, score in scores:
        path = Parts().train().save(folder, step)
        kept.append(checkpoint.keep_best(folder, path, score))
        checkpoint.remove_old(folder, keep=1, step=step)
    return kept


def test_the_best_checkpoint_survives_the_rotation(tmp_path):
    kept = score_all(tmp_path, [(10, 30.0), (20, 31.5), (30, 31.5), (40, float("nan")), (50, 29.0)])
    assert kept == [True, True, False, False, False]
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["best.json", "best.pt", "step_00000050.pt"]
    assert checkpoint.load_checkpoint(tmp_path / "best.pt")["step"] == 20
    assert checkpoint.best_of(tmp_path)[:3] == (20, 31.5, 50)


def test_scores_of_another_way_do_not_compare(tmp_path):
    """PSNR in tiles, or pooled, is of another scale: the first of a way is its best."""
    ways = [
        ("vrt", 30.0),
        ("vrt", 29.0),
        ("y", 20.0),
        ("y", 21.0),
        ("y", float("nan")),
        ("vrt", 25.0),
        ("", 24.0),
    ]
    kept = []
    for number, (way, score) in enumerate(ways, start=1):
        path = Parts().train().save(tmp_path, 10 * number)
        kept.append(checkpoint.keep_best(tmp_path, path, score, scored_by=way))
    assert kept == [True, False, True, True, False, True, False]
    best = checkpoint.best_of(tmp_path)
    assert (best.step, best.psnr_db, best.scored_until, best.scored_by) == (60, 25.0, 70, "vrt")
    assert json.loads((tmp_path / "best.json").read_text())["scored_by"] == "vrt"


def test_a_record_of_an_earlier_version_compares_with_any(tmp_path):
    score_all(tmp_path, [(10, 30.0)])
    record = json.loads((tmp_path / "best.json").read_text())
    del record["scored_by"]
    (tmp_path / "best.json").write_text(json.dumps(record))
    assert not checkpoint.keep_best(tmp_path, Parts().train().save(tmp_path, 20), 29.0, scored_by="vrt")


def test_a_first_score_that_is_no_number_keeps_nothing(tmp_path):
    assert score_all(tmp_path, [(10, float("nan"))]) == [False]
    assert checkpoint.best_of(tmp_path) is None and not (tmp_path / "best.pt").exists()


def test_an_infinite_score_is_kept_in_a_record_that_is_json(tmp_path):
    assert score_all(tmp_path, [(10, float("inf")), (20, 50.0)]) == [True, False]
    json.loads((tmp_path / "best.json").read_text(), parse_constant=pytest.fail)
    assert checkpoint.best_of(tmp_path).psnr_db == float("inf")


@pytest.mark.parametrize("next_call", ["save", "score"])
def test_a_kill_between_the_record_and_the_file_is_mended(tmp_path, monkeypatch, next_call):
    score_all(tmp_path, [(10, 30.0)])
    path = Parts().train().save(tmp_path, 20)

    class Killed(BaseException):
        pass

    def kill(source, path):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(checkpoint, "give_second_name", kill)
        checkpoint.keep_best(tmp_path, path, 31.0)
    assert checkpoint.load_checkpoint(tmp_path / "best.pt")["step"] == 10
    if next_call == "save":
        checkpoint.remove_old(tmp_path, keep=1, step=20)
    else:
        assert not checkpoint.keep_best(tmp_path, Parts().save(tmp_path, 30), 30.5)
    assert checkpoint.load_checkpoint(tmp_path / "best.pt")["step"] == 20


def test_a_checkpoint_that_was_written_anew_is_not_taken_for_the_one_that_was_scored(tmp_path):
    """Its step is the same, its weights and so its score are not."""
    score_all(tmp_path, [(10, 30.0)])
    (tmp_path / "best.pt").unlink()
    path = Parts().train().train().save(tmp_path, 10)
    checkpoint.remove_old(tmp_path, keep=1, step=10)
    assert not (tmp_path / "best.pt").exists()
    assert checkpoint.keep_best(tmp_path, path, 20.0)
    assert checkpoint.best_of(tmp_path).psnr_db == 20.0


def test_a_best_checkpoint_that_was_damaged_with_its_step_is_whole_once_the_step_is_taken_again(tmp_path):
    path = Parts().train().save(tmp_path, 10)
    assert checkpoint.keep_best(tmp_path, path, 30.0)
    whole = path.read_bytes()
    with path.open("r+b") as file:  # both names are of one file
        file.seek(len(whole) // 2)
        file.write(bytes([whole[len(whole) // 2] ^ 1]))
    with pytest.raises(CheckpointError):
        checkpoint.load_checkpoint(tmp_path / "best.pt")
    assert score_all(tmp_path, [(10, 30.0)]) == [True]
    assert checkpoint.load_checkpoint(tmp_path / "best.pt")["step"] == 10


def test_where_files_have_but_one_name_the_best_is_a_copy(tmp_path, monkeypatch):
    def no_links(*arguments, **named):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    assert score_all(tmp_path, [(10, 30.0), (20, 29.0)]) == [True, False]
    assert checkpoint.load_checkpoint(tmp_path / "best.pt")["step"] == 10


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"step": "x"}'])
def test_a_damaged_record_of_the_best_is_none(tmp_path, content):
    (tmp_path / "best.json").write_text(content)
    assert checkpoint.best_of(tmp_path) is None
    assert score_all(tmp_path, [(10, 1.0)]) == [True]


def test_the_best_is_none_of_the_steps(tmp_path):
    score_all(tmp_path, [(10, 30.0)])
    assert [path.name for path in checkpoint.checkpoints_in(tmp_path)] == ["step_00000010.pt"]


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("keep", [1, 2])
def test_damaged_files_of_later_steps_do_not_push_out_whole_ones(tmp_path, keep):
    """A run whose files of steps 4 and 5 are damaged goes on from 2, and is stopped at 3."""
    for step in (1, 2, 4, 5):
        path = Parts().save(tmp_path, step)
        if step >= 4:
            damage(path)
    assert checkpoint.load_newest(tmp_path, warn=lambda text: None)["step"] == 2
    Parts().save(tmp_path, 3)
    checkpoint.remove_old(tmp_path, keep=keep, step=3)
    kept = [f"step_{step:08d}.pt" for step in range(4 - keep, 4)]
    aside = [f"step_{step:08d}.pt.unreadable" for step in (4, 5)]
    assert sorted(path.name for path in tmp_path.iterdir()) == [*kept, *aside]
    assert checkpoint.load_newest(tmp_path, warn=pytest.fail)["step"] == 3


def test_where_no_step_can_be_read_the_best_one_is_taken(tmp_path, monkeypatch):
    """Links are what a file system may not have; then its bytes are its own."""
    monkeypatch.setattr(os, "link", lambda *names: (_ for _ in ()).throw(PermissionError(1, "no links")))
    warnings = []
    assert not checkpoint.holds_any(tmp_path)
    score_all(tmp_path, [(10, 30.0), (20, 29.0)])
    damage(checkpoint.checkpoint_path(tmp_path, 20))
    found = checkpoint.find_newest(tmp_path, warn=warnings.append)
    assert (found.path, found.state["step"]) == (tmp_path / "best.pt", 10)
    assert len(warnings) == 1 and "step_00000020.pt" in warnings[0]
    checkpoint.checkpoint_path(tmp_path, 20).unlink()
    assert checkpoint.holds_any(tmp_path)
    assert checkpoint.load_newest(tmp_path, warn=pytest.fail)["step"] == 10
    damage(tmp_path / "best.pt")
    with pytest.raises(CheckpointError, match="of 1 checkpoint none can be read"):
        checkpoint.load_newest(tmp_path, warn=warnings.append)


def test_the_best_one_has_its_place_among_the_steps(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", lambda *names: (_ for _ in ()).throw(PermissionError(1, "no links")))
    for step, score in ((10, 20.0), (20, 30.0), (30, 25.0)):
        checkpoint.keep_best(tmp_path, Parts().train().save(tmp_path, step), score)
    order = ["step_00000010.pt", "best.pt", "step_00000020.pt", "step_00000030.pt"]
    assert [path.name for path in checkpoint._oldest_first(tmp_path)] == order
    (tmp_path / "best.json").unlink()  # of which step it is, is not known then
    assert checkpoint._oldest_first(tmp_path)[0].name == "best.pt"


class In8Bits(Parts):
    """Parts whose optimiser is bitsandbytes', with a weight that is large enough for 8 bits."""

    def __init__(self):
        from bitsandbytes.optim import AdamW8bit

        super().__init__(width=3000)
        self.optimizer = AdamW8bit(self.model.parameters())


class Plain(Parts):
    def __init__(self):
        super().__init__(width=3000)


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (Plain, In8Bits, r"states of adamw, .* is adamw8bit; go on with --set TRAIN.OPTIM.TYPE=adamw,"),
        (In8Bits, Plain, r"TRAIN.OPTIM.TYPE=adamw8bit; it needs bitsandbytes, which has to be installed"),
    ],
)
def test_the_states_of_another_optimiser_are_refused_before_anything_is_changed(tmp_path, before, now, said):
    state = checkpoint.load_checkpoint(before().train().save(tmp_path, 1))
    parts = now()
    weight = parts.model.weight.clone()
    with pytest.raises(CheckpointError, match=said) as caught:
        parts.restore(state)
    assert str(caught.value).startswith("TRAIN.OPTIM.TYPE: ")
    assert torch.equal(parts.model.weight, weight)
    again = before()
    again.restore(state)
    again.train()  # its own states serve
