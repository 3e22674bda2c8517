import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import deblurkit
from deblurkit.data.clips import Clip
from deblurkit.timing.clock import HostClock
from deblurkit.training.freezing import FrozenFlow, unwrapped
from deblurkit.training.losses import EveryStep
from deblurkit.training.precision import Precision
from deblurkit.training.step import run_steps

STEPS, FROZEN = 5, 2
FLOW = ("spynet.weight", "spynet.bias", "stage.pa_deform.weight", "stage.pa_deform.bias")


class Network(nn.Module):
    """A network with parts of the names of VRT's, that works along the rows of frames 4 pixels wide."""

    num_voxel_bins = 0

    def __init__(self):
        super().__init__()
        self.spynet = nn.Linear(4, 4)
        self.stage = nn.ModuleDict({"pa_deform": nn.Linear(4, 4), "mlp": nn.Linear(4, 4)})
        self.rest = nn.Linear(4, 4)

    def forward(self, blurry, spikes):
        features = torch.tanh(self.stage["pa_deform"](torch.tanh(self.spynet(blurry))))
        return self.rest(torch.tanh(self.stage["mlp"](blurry + features)))


def network():
    torch.manual_seed(0)
    return Network()


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=1.0)


def clip(number):
    generator = torch.Generator().manual_seed(number)
    blurry, sharp = torch.randint(0, 256, (2, 1, 2, 3, 4, 4), generator=generator, dtype=torch.uint8)
    return Clip(blurry, torch.zeros(1, 2, 1, 2, 2), sharp)


def weights_after_each_step(
    model, frozen, *, optimizer, batches=None, steps=range(1, STEPS + 1), accumulation=1
):
    """Train and return the weights at the start and after every step."""
    records = run_steps(
        model,
        iter(batches or [clip(step) for step in steps]),
        objective=EveryStep(lambda restored, inputs: (restored - inputs.sharp).square().mean()),
        optimizer=optimizer,
        learning_rate=lambda step: 0.3,
        precision=Precision(torch.device("cpu"), None),
        clock=HostClock(),
        steps=steps,
        accumulation=accumulation,
        module_at=frozen.module_at,
    )
    history = [{name: value.clone() for name, value in model.state_dict().items()}]
    for _ in records:
        history.append({name: value.clone() for name, value in model.state_dict().items()})
    return history


def moved(history):
    """Return, for every step, the names of the parameters that it changed."""
    return [
        {name for name in before if not torch.equal(before[name], after[name])}
        for before, after in zip(history, history[1:], strict=False)
    ]


@pytest.mark.parametrize("frozen_steps", [0, 1, FROZEN, STEPS, 99])
def test_the_flow_stands_still_for_so_many_steps_and_moves_after(frozen_steps):
    """With AdamW, whose weight decay would move a parameter even where its gradient is zero."""
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0, weight_decay=0.1)
    history = weights_after_each_step(model, FrozenFlow(model, steps=frozen_steps), optimizer=optimizer)
    everything = set(history[0])
    others = everything - set(FLOW)
    assert len(others) == 4
    still = min(frozen_steps, STEPS)
    assert moved(history) == [others] * still + [everything] * (STEPS - still)


def test_what_is_not_flow_moves_as_if_nothing_were_frozen_in_the_first_step():
    """The run without freezing; a step of SGD changes each parameter by its own gradient alone."""
    frozen, free = network(), network()
    options = {"steps": range(1, 2)}
    held = weights_after_each_step(frozen, FrozenFlow(frozen, steps=1), optimizer=sgd(frozen), **options)[-1]
    loose = weights_after_each_step(free, FrozenFlow(free, steps=0), optimizer=sgd(free), **options)[-1]
    assert {name for name in held if not torch.equal(held[name], loose[name])} == set(FLOW)


class Wraps:
    """Notes whether the flow was frozen at every wrapping."""

    def __init__(self):
        self.frozen = []

    def __call__(self, model):
        self.frozen.append([name for name, p in model.named_parameters() if not p.requires_grad])
        return nn.Sequential(model)


@pytest.mark.parametrize(
    "frozen_steps, asked, frozen_at_wraps, new_at",
    [
        (2, [1, 2, 3, 4, 5], [True, False], [1, 3]),
        (0, [1, 2, 3], [False], [1]),
        (9, [1, 2, 3], [True], [1]),
        (2, [2, 3], [True, False], [2, 3]),  # a run that goes on while the flow is frozen
        (2, [3, 4], [False], [3]),  # and one that goes on after that
    ],
)
def test_the_network_is_wrapped_once_and_anew_where_the_flow_thaws(
    frozen_steps, asked, frozen_at_wraps, new_at
):
    model, wrap = network(), Wraps()
    frozen = FrozenFlow(model, steps=frozen_steps, wrap=wrap)
    modules = [frozen.module_at(step) for step in asked]
    assert wrap.frozen == [list(FLOW) if is_frozen else [] for is_frozen in frozen_at_wraps]
    changes = [
        step
        for before, module, step in zip([None, *modules], modules, asked, strict=False)
        if module is not before
    ]
    assert changes == new_at
    assert all(module[0] is model for module in modules)


def test_the_module_is_asked_for_once_a_step_however_many_batches_it_takes():
    model, asked = network(), []

    class Asked(FrozenFlow):
        def module_at(self, step):
            asked.append(step)
            return super().module_at(step)

    frozen = Asked(model, steps=FROZEN)
    batches = [clip(n) for n in range(2 * STEPS)]
    history = weights_after_each_step(model, frozen, optimizer=sgd(model), batches=batches, accumulation=2)
    assert asked == [1, 2, 3, 4, 5]
    assert [set(FLOW) <= names for names in moved(history)] == [False, False, True, True, True]


def test_without_a_wrap_the_network_itself_is_called():
    model = network()
    assert unwrapped(model) is model
    assert FrozenFlow(model, steps=FROZEN).module_at(1) is model


def test_gradients_from_before_are_not_taken_into_the_first_step_of_the_flow():
    model = network()
    frozen = FrozenFlow(model, steps=1)
    model(torch.ones(1, 4), None).sum().backward()  # as a measurement before the run might leave them
    frozen.module_at(1)
    assert [name for name, p in model.named_parameters() if p.grad is None] == list(FLOW)


@pytest.mark.parametrize("pause", [1, FROZEN, 3])
def test_a_run_in_two_parts_equals_one_in_a_piece(pause):
    """The run in one piece; SGD has no state that would have to be saved."""
    whole, parted = network(), network()
    expected = weights_after_each_step(whole, FrozenFlow(whole, steps=FROZEN), optimizer=sgd(whole))[-1]
    for steps in (range(1, pause + 1), range(pause + 1, STEPS + 1)):
        frozen = FrozenFlow(parted, steps=FROZEN)
        actual = weights_after_each_step(parted, frozen, optimizer=sgd(parted), steps=steps)[-1]
    assert all(torch.equal(actual[name], expected[name]) for name in expected)


def train_one_rank(rank, folder):
    """Train on every second clip as one of two processes, and leave the weights of all steps in a file."""
    folder = Path(folder)
    init = f"file://{folder / 'rendezvous'}"
    torch.distributed.init_process_group("gloo", init_method=init, rank=rank, world_size=2)
    model = network()
    frozen = FrozenFlow(model, steps=FROZEN, wrap=DistributedDataParallel)
    batches = [clip(2 * step + rank) for step in range(STEPS)]
    torch.save(
        weights_after_each_step(model, frozen, optimizer=sgd(model), batches=batches),
        folder / f"rank{rank}.pt",
    )
    torch.distributed.destroy_process_group()


def run_two_ranks(folder):
    code = "import runpy, sys; runpy.run_path(sys.argv[1])['train_one_rank'](int(sys.argv[2]), sys.argv[3])"
    environment = os.environ | {
        "PYTHONPATH": str(Path(deblurkit.__file__).parents[1]),
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
    }
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", code, __file__, str(rank), str(folder)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [rank.communicate(timeout=100)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(said)
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(2)]


@pytest.mark.skipif(sys.platform != "linux", reason="gloo is told the name of Linux's loopback")
def test_two_processes_stay_alike_across_the_step_at_which_the_flow_thaws(tmp_path):
    """One process that takes the clips of both in one batch."""
    first, second = run_two_ranks(tmp_path)
    for one, other in zip(first, second, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert [set(FLOW) & names for names in moved(first)] == [set()] * FROZEN + [set(FLOW)] * (STEPS - FROZEN)
    model = network()
    both = [
        Clip(*(torch.cat(parts) for parts in zip(clip(2 * step), clip(2 * step + 1), strict=True)))
        for step in range(STEPS)
    ]
    alone = weights_after_each_step(
        model, FrozenFlow(model, steps=FROZEN), optimizer=sgd(model), batches=both
    )
    for of_two, of_one in zip(first, alone, strict=True):
        for name, expected in of_one.items():
            assert torch.allclose(of_two[name], expected, atol=1e-6, rtol=1e-5), name
