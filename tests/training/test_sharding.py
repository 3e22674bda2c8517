"""Two processes on the CPU share a network; what they do is compared with DDP, and with one that has all."""

import contextlib
import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import deblurkit
from deblurkit.config.schema import Config
from deblurkit.data.clips import Clip
from deblurkit.models.registry import build_model
from deblurkit.timing.clock import HostClock
from deblurkit.training import distributed, sharding
from deblurkit.training.checkpoint import load_weights
from deblurkit.training.distributed import Ranks, summing
from deblurkit.training.freezing import FrozenFlow
from deblurkit.training.guard import NonFiniteGuard
from deblurkit.training.losses import EveryStep, charbonnier
from deblurkit.training.optim import build_optimizer
from deblurkit.training.precision import Precision
from deblurkit.training.step import run_steps

CPU = torch.device("cpu")
RANKS, STEPS, MICRO_STEPS, BINS = 2, 4, 2, 3
CLIPPED_TO = 0.01  # far below the gradients' norm
LIGHT = {"MODEL": {"ARCH": "baseline", "BASE_CHANNELS": 4, "NUM_BLOCKS": 1}}
VRT = {
    "MODEL": {
        "ARCH": "vrt",
        "WINDOW_SIZE": [2, 4, 4],
        "VRT_DEPTHS": [2, 2, 2, 2, 2, 2, 2, 1],
        "CHANNELS_PER_SCALE": [8, 8, 8, 8],
        "VRT": {
            "EMBED_DIMS": [8, 8],
            "NUM_HEADS": 2,
            "DEFORMABLE_GROUPS": 4,
            "USE_CHECKPOINT_ATTN": True,
            "USE_CHECKPOINT_FFN": True,
        },
    }
}


def network_of(values):
    torch.manual_seed(0)
    model = build_model(Config.model_validate(values).model, num_voxel_bins=BINS)
    if values is LIGHT:  # its last layer starts at zero, and no gradient would pass it in the first step
        nn.init.normal_(model.frames_out.weight, std=0.1)
    return model


def clip(number, side):
    generator = torch.Generator().manual_seed(number)
    frames = torch.randint(0, 256, (2, 1, 2, 3, side, side), generator=generator, dtype=torch.uint8)
    return Clip(frames[0], torch.rand(1, 2, BINS, side // 2, side // 2, generator=generator), frames[1])


def batches(ranks, steps, *, side):
    """Return what a rank trains on, each batch a clip of its own."""
    first, last = (steps.start - 1) * MICRO_STEPS, (steps.stop - 1) * MICRO_STEPS
    return [clip(number * RANKS + ranks.rank, side) for number in range(first, last)]


class Training:
    """A network on its way, as a run has it."""

    def __init__(self, values, ranks, *, parallel, frozen=0, guarded=True, side=16):
        self.ranks, self.side, self.told = ranks, side, []
        self.model = network_of(values)
        if parallel == "fsdp":
            sharding.shard(self.model, device=CPU, ranks=ranks)
        self.optimizer = build_optimizer(Config().train.optim, self.model, device=CPU, warn=pytest.fail)
        self.guard = NonFiniteGuard(self.model, max_in_a_row=3, warn=self.told.append) if guarded else None
        self.flow = FrozenFlow(
            self.model,
            steps=frozen,
            wrap=lambda module: summing(module, device=CPU, accumulation=MICRO_STEPS),
        )

    def take(self, steps, own_batches=None):
        torch.manual_seed(100 * steps.start + self.ranks.rank)  # DropPath draws
        records = run_steps(
            self.model,
            iter(own_batches or batches(self.ranks, steps, side=self.side)),
            objective=EveryStep(lambda restored, inputs: charbonnier(restored, inputs.sharp, delta=0.1)),
            optimizer=self.optimizer,
            learning_rate=lambda step: 1e-3,
            precision=Precision(CPU, None),
            clock=HostClock(),
            steps=steps,
            accumulation=MICRO_STEPS,
            max_grad_norm=CLIPPED_TO,
            guard=self.guard,
            module_at=self.flow.module_at,
        )
        return [record.loss.item() for record in records]

    def state(self):
        """Return the whole of it, on rank 0."""
        with sharding.gathered(self.model, self.optimizer, is_main=self.ranks.is_main):
            if not self.ranks.is_main:
                return None
            return {
                "model": {name: value.clone() for name, value in self.model.state_dict().items()},
                "optimizer": self.optimizer.state_dict(),
            }

    def load(self, state):
        own = copy.deepcopy(state)  # an optimiser goes on in the very tensors that it is given
        state = sharding.cut(own, network=self.model, optimizer=self.optimizer)
        load_weights(state, self.model)
        self.optimizer.load_state_dict(state["optimizer"])


def both_ways(values, ranks, *, steps=STEPS, **options):
    trainings = {kind: Training(values, ranks, parallel=kind, **options) for kind in ("ddp", "fsdp")}
    return {
        kind: {
            "losses": training.take(range(1, steps + 1)),
            "held": sharding.held_bytes(training.model, training.optimizer),
            "state": training.state(),
        }
        for kind, training in trainings.items()
    }


def resumed(ranks, state):
    """Return the states after two further steps: of the run itself, and of new ones that load its file."""
    there = ranks.from_main(state)
    on = {kind: Training(LIGHT, ranks, parallel=kind) for kind in ("ddp", "fsdp")}
    for training in on.values():
        training.load(there)
        training.take(range(STEPS + 1, STEPS + 3))
    return {kind: training.state() for kind, training in on.items()}


def bad_step(ranks):
    """Return what a step leaves whose loss is NaN on rank 1 alone, and the one after it."""
    training = Training(LIGHT, ranks, parallel="fsdp")
    training.take(range(1, 2))
    before = training.state()
    good = batches(ranks, range(2, 3), side=16)
    bad = [Clip(part.blurry, part.spikes * float("nan"), part.sharp) for part in good]
    training.take(range(2, 3), bad if ranks.rank == 1 else good)
    after, told = training.state(), list(training.told)
    training.take(range(3, 4))
    return {
        "before": before,
        "after": after,
        "told": told,
        "skipped": training.guard.skipped,
        "next": training.state(),
    }


def lonely_forwards(ranks):
    """Return what rank 0 restores while rank 1 does nothing, before and after a step."""
    training = Training(LIGHT, ranks, parallel="fsdp")
    given = clip(7, 24)
    seen = []
    for step in (1, 2):
        state = training.state()
        with sharding.unsharded(training.model), torch.no_grad():
            if ranks.is_main:
                outputs = [training.model(given.blurry.float() / 255, given.spikes) for _ in range(3)]
                undivided = network_of(LIGHT)
                undivided.load_state_dict(state["model"])
                expected = undivided(given.blurry.float() / 255, given.spikes)
                seen.append({"expected": expected, "outputs": outputs})
        assert all(hasattr(weights, "full_tensor") for weights in training.model.parameters())
        training.take(range(step, step + 1))
    return seen


def play(rank, folder):
    """Be one of two ranks, and leave what was seen in a file."""
    ranks = Ranks(rank, RANKS, rank, RANKS)
    os.environ[distributed.STORE] = f"{folder}/store"
    torch.set_num_threads(1)
    usual = sharding.LEAST_SHARE
    with distributed.joined(ranks, timeout_minutes=1):
        seen = {"light": both_ways(LIGHT, ranks)}
        seen["unguarded"] = both_ways(LIGHT, ranks, guarded=False)
        sharding.LEAST_SHARE = 1e-4  # in so small a VRT flow is nearly all; its stages are to be blocks too
        seen["vrt"] = both_ways(VRT, ranks, steps=2, frozen=1, side=40)
        sharding.LEAST_SHARE = usual
        longer = Training(LIGHT, ranks, parallel="fsdp")
        longer.take(range(1, STEPS + 1))
        longer.take(range(STEPS + 1, STEPS + 3))
        seen["longer"] = longer.state()
        seen["resumed"] = resumed(ranks, seen["light"]["fsdp"]["state"])
        seen["from_ddp"] = resumed(ranks, seen["light"]["ddp"]["state"])
        seen["bad"] = bad_step(ranks)
        seen["lonely"] = lonely_forwards(ranks)
        seen["reduced"] = reduced(ranks)
        seen["finite"] = finite(ranks)
    torch.save(seen, f"{folder}/seen{rank}.pt")


def reduced(ranks):
    """Return how many parameters have their piece of the gradient after a first and a last micro-step."""
    model = Training(LIGHT, ranks, parallel="fsdp").model
    given, counts = clip(ranks.rank, 16), []
    for waiting in (distributed.without_sum(model), contextlib.nullcontext()):
        with waiting:
            model(given.blurry.float() / 255, given.spikes).mean().backward()
        counts.append(sum(weights.grad is not None for weights in model.parameters()))
    return counts


def finite(ranks):
    """Return whether weights are finite: as they are, and with a NaN in what rank 1 keeps."""
    model = Training(LIGHT, ranks, parallel="fsdp").model
    before = sharding.are_finite(model)
    if ranks.rank == 1:
        with torch.no_grad():
            next(model.parameters()).to_local()[0] = float("nan")
    return [before, sharding.are_finite(model)]


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What both ranks saw."""
    if sys.platform != "linux":
        pytest.skip("gloo is told the name of Linux's loopback")
    folder = tmp_path_factory.mktemp("sharding")
    code = "import runpy, sys; runpy.run_path(sys.argv[1])['play'](int(sys.argv[2]), sys.argv[3])"
    environment = os.environ | {
        "PYTHONPATH": str(Path(deblurkit.__file__).parents[1]),
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", code, __file__, str(rank), str(folder)], env=environment
        )
        for rank in range(RANKS)
    ]
    try:
        assert [process.wait(timeout=300) for process in processes] == [0] * RANKS
    finally:
        for process in processes:
            process.kill()
    return [torch.load(folder / f"seen{rank}.pt", weights_only=True) for rank in range(RANKS)]


def tensors(state):
    """Yield the names and tensors of weights and optimiser states."""
    yield from state["model"].items()
    for number, values in state["optimizer"]["state"].items():
        yield from ((f"{number}.{key}", value) for key, value in values.items())


def assert_equal(one, other):
    one, other = dict(tensors(one)), dict(tensors(other))
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def assert_close(one, other):
    one, other = dict(tensors(one)), dict(tensors(other))
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.allclose(value, other[name], rtol=1e-3, atol=2e-6), name


@pytest.mark.parametrize("which", ["light", "unguarded", "vrt"])
def test_the_pieces_train_as_copies_do(seen, which):
    """DDP is the independent source: AdamW, two micro-steps, clipping; VRT whose flow thaws on its way."""
    ddp, fsdp = seen[0][which]["ddp"], seen[0][which]["fsdp"]
    assert_close(fsdp["state"], ddp["state"])
    for rank in seen:  # each rank's own loss
        assert rank[which]["fsdp"]["losses"] == pytest.approx(rank[which]["ddp"]["losses"], rel=1e-5)
    start = network_of(VRT if which == "vrt" else LIGHT).state_dict()
    moved = [not torch.equal(start[name], fsdp["state"]["model"][name]) for name in dict(start)]
    assert sum(moved) > len(moved) / 2


def test_the_pieces_train_as_one_process_does(seen):
    """By hand: the mean gradient of all clips of a step, clipped by torch, in torch's AdamW."""
    model = network_of(LIGHT)
    optimizer = build_optimizer(Config().train.optim, model, device=CPU, warn=pytest.fail)
    for group in optimizer.param_groups:
        group["lr"] = 1e-3
    each = RANKS * MICRO_STEPS
    for step in range(STEPS):
        for number in range(step * each, (step + 1) * each):
            given = clip(number, 16)
            restored = model(given.blurry.float() / 255, given.spikes)
            (charbonnier(restored, given.sharp.float() / 255, delta=0.1) / each).backward()
        assert nn.utils.clip_grad_norm_(model.parameters(), CLIPPED_TO) > 2 * CLIPPED_TO
        optimizer.step()
        optimizer.zero_grad()
    expected = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    assert_close(seen[0]["light"]["fsdp"]["state"], expected)


def test_a_file_of_pieces_is_one_that_torch_itself_would_write(seen):
    state = seen[0]["light"]["fsdp"]["state"]
    model = network_of(LIGHT)
    model.load_state_dict(state["model"])
    optimizer = build_optimizer(Config().train.optim, model, device=CPU, warn=pytest.fail)
    optimizer.load_state_dict(state["optimizer"])
    ddp = seen[0]["light"]["ddp"]["state"]["optimizer"]
    assert state["optimizer"]["param_groups"] == ddp["param_groups"]
    parameters = [weights for group in optimizer.param_groups for weights in group["params"]]
    assert all(optimizer.state[weights]["exp_avg"].shape == weights.shape for weights in parameters)
    assert seen[1]["light"]["fsdp"]["state"] is None


@pytest.mark.parametrize("which", ["light", "vrt"])
def test_a_rank_keeps_about_half(seen, which):
    """Three float32 for each value: its weight and AdamW's two means; and a step count for each parameter."""
    model = network_of(VRT if which == "vrt" else LIGHT)
    values = sum(weights.numel() for weights in model.parameters())
    counts = 4 * len(list(model.parameters()))
    ddp = [rank[which]["ddp"]["held"] for rank in seen]
    fsdp = [rank[which]["fsdp"]["held"] for rank in seen]
    assert ddp == [12 * values + counts] * RANKS
    assert sum(fsdp) == 12 * values + RANKS * counts  # nothing is kept twice
    assert all(held < 0.6 * 12 * values for held in fsdp)


def test_pieces_that_are_loaded_go_on_bit_by_bit(seen):
    assert_equal(seen[0]["resumed"]["fsdp"], seen[0]["longer"])


def test_copies_go_on_from_pieces_and_pieces_from_copies(seen):
    assert_close(seen[0]["resumed"]["ddp"], seen[0]["longer"])
    assert_close(seen[0]["from_ddp"]["fsdp"], seen[0]["from_ddp"]["ddp"])


def test_a_step_that_is_bad_on_one_rank_is_skipped_on_both(seen):
    for rank in seen:
        assert rank["bad"]["skipped"] == 1
        (told,) = rank["bad"]["told"]
        all_of_them = len(list(network_of(LIGHT).parameters()))
        assert told.startswith(f"step 2: gradient of frames_in is not finite (first of {all_of_them} param")
    assert seen[0]["bad"]["told"] == seen[1]["bad"]["told"]
    bad = seen[0]["bad"]
    assert_equal(bad["before"], bad["after"])
    after, later = (bad[when]["model"]["frames_in.weight"] for when in ("after", "next"))
    assert not torch.equal(after, later)


def test_a_rank_restores_alone_what_the_whole_network_restores(seen):
    assert len(seen[0]["lonely"]) == 2
    for look in seen[0]["lonely"]:
        assert len(look["outputs"]) == 3
        assert all(torch.equal(output, look["expected"]) for output in look["outputs"])


def test_gradients_are_sent_once_a_step(seen):
    assert [rank["reduced"] for rank in seen] == [[0, len(list(network_of(LIGHT).parameters()))]] * RANKS


def test_a_nan_on_one_rank_is_known_to_both(seen):
    assert [rank["finite"] for rank in seen] == [[True, False]] * RANKS


@pytest.mark.parametrize("values", [LIGHT, {"MODEL": {"ARCH": "vrt"}}], ids=["light", "vrt"])
def test_most_of_a_network_is_in_blocks_and_none_of_them_is_most_of_it(values):
    with torch.device("meta"):
        model = build_model(Config.model_validate(values).model, num_voxel_bins=BINS)
    total = sum(weights.numel() for weights in model.parameters())
    sizes = [sum(weights.numel() for weights in block.parameters()) for block in sharding.blocks_of(model)]
    assert sum(sizes) > 0.85 * total
    assert len(sizes) > 5 and max(sizes) < total / 2
    inside = [weights for block in sharding.blocks_of(model) for weights in block.parameters()]
    assert len({id(weights) for weights in inside}) == len(inside)  # no block lies in another


def test_blocks_are_children_and_what_lists_hold():
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.levels = nn.ModuleList([nn.Linear(10, 10, bias=False), nn.Linear(1, 1, bias=False)])
            self.row = nn.Sequential(nn.ReLU(), nn.Linear(10, 5, bias=False))
            self.stage = nn.ModuleDict({"inside": nn.Linear(10, 10, bias=False)})

    model = Network()  # 100 + 1 + 50 + 100 values: a fiftieth is 5
    assert sharding.blocks_of(model) == [model.levels[0], model.row[1], model.stage]


def test_a_network_that_is_not_sharded_stays_as_it_is():
    model = network_of(LIGHT)
    optimizer = build_optimizer(Config().train.optim, model, device=CPU, warn=pytest.fail)
    state = {"model": {"a": torch.ones(1)}}
    assert not sharding.is_sharded(model)
    assert sharding.cut(state, network=model, optimizer=optimizer) is state
    assert sharding.whole(state["model"]["a"]) is state["model"]["a"]
    assert sharding.are_finite(model)
    weights = {name: value.data_ptr() for name, value in model.state_dict().items()}
    with sharding.gathered(model, optimizer, is_main=False), sharding.unsharded(model):
        assert {name: value.data_ptr() for name, value in model.state_dict().items()} == weights
    assert sharding.held_values(model) == sum(value.numel() for value in model.parameters())
