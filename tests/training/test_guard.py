import pytest
import torch
from torch import nn

from deblurkit.config.sections.train import TrainSection
from deblurkit.errors import DeblurkitError
from deblurkit.training.guard import GradientNorms, NonFiniteGuard
from deblurkit.training.precision import Precision

CPU = torch.device("cpu")
NAN, INF = float("nan"), float("inf")


class Net(nn.Module):
    """Three matrices, one of them deep."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(2, 2, bias=False)
        self.stage3 = nn.ModuleDict({"attn": nn.Linear(2, 2, bias=False), "mlp": nn.Linear(2, 2)})

    def give_gradients(self, **special):
        """Ones everywhere, but for the parameters (dots as __) that are named."""
        for name, weights in self.named_parameters():
            weights.grad = torch.full_like(weights, special.get(name.replace(".", "__"), 1.0))


def guard_of(model, *, most=10, **options):
    told = []
    return NonFiniteGuard(model, max_in_a_row=most, warn=told.append, **options), told


def watch(guard, model, step, **special):
    model.give_gradients(**special)
    guard.watch(step, GradientNorms.of(guard.named_parameters))


def test_the_norms_are_those_that_torch_clips_by():
    model = Net()
    torch.manual_seed(1)
    for weights in model.parameters():
        weights.grad = torch.randn_like(weights)
    norms = GradientNorms.of(list(model.named_parameters()))
    assert norms.names == ("first.weight", "stage3.attn.weight", "stage3.mlp.weight", "stage3.mlp.bias")
    expected = [weights.grad.square().sum().sqrt().item() for weights in model.parameters()]
    assert norms.each.tolist() == pytest.approx(expected)
    assert norms.total == torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)


def test_parameters_without_a_gradient_are_left_out():
    model = Net()
    assert GradientNorms.of(list(model.named_parameters())).names == ()
    model.first.weight.grad = torch.ones(2, 2)
    assert GradientNorms.of(list(model.named_parameters())).names == ("first.weight",)


def test_a_bad_step_is_told_with_its_number_and_the_first_module():
    model = Net()
    guard, told = guard_of(model)
    watch(guard, model, 122)
    watch(guard, model, 123, stage3__attn__weight=NAN, stage3__mlp__bias=INF)
    assert told == [
        "step 123: gradient of stage3.attn is not finite (first of 2 parameters: stage3.attn.weight);"
        " step skipped (1 so far)"
    ]
    assert (guard.skipped, guard.in_a_row, guard.last_skipped_step) == (1, 1, 123)


def test_a_good_step_ends_the_row_and_keeps_the_count():
    model = Net()
    guard, _ = guard_of(model, most=2)
    for step in range(1, 10):
        watch(guard, model, step, first__weight=INF if step % 3 else 1.0)  # two bad, one good
    assert (guard.skipped, guard.in_a_row, guard.last_skipped_step) == (6, 0, 8)


def test_one_more_than_allowed_in_a_row_ends_the_run_with_advice():
    model = Net()
    guard, told = guard_of(model, most=2)
    watch(guard, model, 1, first__weight=NAN)
    watch(guard, model, 2, first__weight=NAN)
    with pytest.raises(
        DeblurkitError, match=r"step 3: gradient of first .* 3 steps in a row .*TRAIN.OPTIM.LR"
    ):
        watch(guard, model, 3, first__weight=NAN)
    assert len(told) == 2


def test_weights_that_are_not_finite_end_the_run_at_once():
    model = Net()
    guard, _ = guard_of(model)
    with torch.no_grad():
        model.stage3["mlp"].weight[0, 0] = NAN
    with pytest.raises(
        DeblurkitError, match=r"weights of stage3.mlp are not finite \(first of 1 parameter\)"
    ):
        watch(guard, model, 5, first__weight=NAN)


def test_a_total_that_overflows_is_bad_though_each_norm_is_finite():
    model = Net()
    guard, told = guard_of(model)
    norms = GradientNorms(["first.weight"] * 2, torch.tensor([3e38, 3e38]), torch.tensor(INF))
    guard.watch(4, norms)
    assert told == ["step 4: the total norm of the gradients overflows; step skipped (1 so far)"]


class Event:
    """In place of CUDA's: notes that it was waited for."""

    def __init__(self, waited):
        self.waited = waited

    def synchronize(self):
        self.waited.append(self)


def test_behind_a_gpu_a_step_is_judged_when_the_next_one_comes():
    model, waited = Net(), []
    guard, told = guard_of(model, arrival=lambda device: Event(waited))
    watch(guard, model, 1, first__weight=NAN)
    assert (guard.skipped, waited) == (0, [])
    watch(guard, model, 2)
    assert (guard.skipped, guard.last_skipped_step, len(waited)) == (1, 1, 1)
    assert told[0].startswith("step 1: gradient of first is not finite")
    watch(guard, model, 3, first__weight=NAN)
    assert (guard.in_a_row, len(waited)) == (0, 2)
    guard.settle()
    assert (guard.skipped, guard.last_skipped_step, len(waited)) == (2, 3, 3)
    guard.settle()
    assert len(waited) == 3


def test_the_counts_are_saved_with_the_step_on_its_way_and_come_back():
    model = Net()
    guard, _ = guard_of(model, arrival=lambda device: Event([]))
    watch(guard, model, 1, first__weight=NAN)
    watch(guard, model, 2, first__weight=NAN)
    state = guard.state_dict()
    assert state == {"skipped": 2, "in_a_row": 2, "last_skipped_step": 2}
    resumed, _ = guard_of(model, most=2)
    resumed.load_state_dict(state)
    with pytest.raises(DeblurkitError, match="3 steps in a row"):
        watch(resumed, model, 3, first__weight=NAN)


def test_a_checkpoint_without_counts_leaves_them_at_zero():
    guard, _ = guard_of(Net())
    guard.load_state_dict({})
    assert guard.state_dict() == {"skipped": 0, "in_a_row": 0, "last_skipped_step": None}


@pytest.mark.parametrize(
    ("keys", "allowed"),
    [
        ({}, 10),
        ({"MAX_SKIPPED_STEPS": 0}, 0),
        ({"AMP_ENABLED": True, "AMP_DTYPE": "fp16", "MAX_SKIPPED_STEPS": 2}, 18),  # 65536 is 2 ** 16
        ({"AMP_ENABLED": True, "AMP_DTYPE": "fp16", "AMP_OPT_LEVEL": "O0", "MAX_SKIPPED_STEPS": 2}, 2),
    ],
)
def test_the_section_says_how_many_in_a_row_are_allowed(keys, allowed):
    model = Net()
    guard = NonFiniteGuard.from_section(TrainSection.model_validate(keys), model, warn=lambda text: None)
    for step in range(1, allowed + 1):
        watch(guard, model, step, first__weight=NAN)
    with pytest.raises(DeblurkitError):
        watch(guard, model, allowed + 1, first__weight=NAN)


def test_switched_off_there_is_none():
    section = TrainSection.model_validate({"NONFINITE_GUARD": False})
    assert NonFiniteGuard.from_section(section, Net(), warn=pytest.fail) is None


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16])
def test_on_a_gpu_a_bad_step_changes_nothing_and_nothing_waits(dtype):
    device = torch.device("cuda")
    model = Net().to(device)
    guard, told = guard_of(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    precision = Precision(device, dtype)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step, value in ((1, 1.0), (2, NAN), (3, 1.0)):
            before = [weights.detach().clone() for weights in model.parameters()]
            precision.backward(sum(weights.sum() for weights in model.parameters()) * value)
            precision.step(optimizer, model, max_grad_norm=1.0, guard=guard, step=step)
            after = [weights.detach().clone() for weights in model.parameters()]
            if step == 2:
                bad = before, after
    finally:
        torch.cuda.set_sync_debug_mode("default")
    guard.settle()
    assert all(torch.equal(a, b) for a, b in zip(*bad, strict=True))
    assert len(told) == 1
    assert told[0].startswith("step 2: gradient of first is not finite")
