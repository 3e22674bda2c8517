import pytest
import torch
from torch import nn

from deblurkit.data.clips import Clip
from deblurkit.timing.clock import HostClock
from deblurkit.training.losses import EveryStep
from deblurkit.training.precision import Precision
from deblurkit.training.step import PHASES, run_steps, takes_spikes, to_device

CPU = torch.device("cpu")


class Scale(nn.Module):
    """restored = w * blurry: a network whose gradient can be worked out by hand."""

    num_voxel_bins = 0

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(1.0))

    def forward(self, blurry, spikes):
        assert spikes is None
        return self.w * blurry


def clip(value, batch=1):
    frames = torch.full((batch, 2, 3, 4, 4), value, dtype=torch.uint8)
    return Clip(frames, torch.zeros(batch, 2, 4, 2, 2), torch.zeros_like(frames))


def steps(model, batches, **options):
    chosen = {
        "objective": EveryStep(lambda restored, inputs: restored.mean()),
        "optimizer": torch.optim.SGD(model.parameters(), lr=1.0),
        "learning_rate": lambda step: 0.1 * step,
        "precision": Precision(CPU, None),
        "clock": HostClock(),
        "steps": range(1, 3),
    }
    return run_steps(model, iter(batches), **(chosen | options))


def test_the_weights_follow_the_hand_worked_gradient():
    model = Scale()
    first, second = steps(model, [clip(255), clip(51)])
    # d(mean(w * x))/dw is the mean of x: 1, then 0.2; rates 0.1 and 0.2.
    assert model.w.item() == pytest.approx(1 - 0.1 * 1 - 0.2 * 0.2)
    assert first.loss.item() == pytest.approx(1.0)
    assert second.loss.item() == pytest.approx(0.9 * 0.2)
    assert [(r.step, r.learning_rate, r.samples) for r in (first, second)] == [(1, 0.1, 1), (2, 0.2, 1)]


def test_accumulated_micro_steps_equal_one_large_batch():
    large, small = Scale(), Scale()
    list(
        steps(
            large, [Clip(*(torch.cat(t) for t in zip(clip(255), clip(51), strict=True)))], steps=range(1, 2)
        )
    )
    (record,) = steps(small, [clip(255), clip(51)], steps=range(1, 2), accumulation=2)
    assert small.w.item() == pytest.approx(large.w.item())
    assert record.samples == 2 and record.loss.item() == pytest.approx(0.6)


def test_each_group_has_its_share_of_the_rate():
    """By hand: the mean of x is 1, and two weights that start at 1 see each other's value as gradient."""

    class Product(Scale):
        def __init__(self):
            super().__init__()
            self.v = nn.Parameter(torch.tensor(1.0))

        def forward(self, blurry, spikes):
            return self.v * super().forward(blurry, spikes)

    model = Product()
    optimizer = torch.optim.SGD([{"params": [model.w], "lr_factor": 0.25}, {"params": [model.v]}], lr=9.0)
    first, second = steps(model, [clip(255), clip(255)], optimizer=optimizer)
    w, v = 1 - 0.25 * 0.1, 1 - 0.1
    w, v = w - 0.25 * 0.2 * v, v - 0.2 * w
    assert (model.w.item(), model.v.item()) == (pytest.approx(w), pytest.approx(v))
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.05, 0.2])
    assert [first.learning_rate, second.learning_rate] == [0.1, 0.2]  # the rate of a factor of 1


def test_a_step_calls_the_module_that_it_is_given():
    """By hand: what is called doubles the result and with it the gradient, from step 2 on."""
    model, asked = Scale(), []

    class Doubled(nn.Module):
        def forward(self, blurry, spikes):
            return 2 * model(blurry, spikes)

    def module_at(step):
        asked.append(step)
        return model if step == 1 else Doubled()

    batches = [clip(255), clip(255), clip(51), clip(51)]
    first, second = steps(model, batches, accumulation=2, module_at=module_at)
    assert asked == [1, 2]
    assert model.w.item() == pytest.approx(1 - 0.1 * 1 - 0.2 * 2 * 0.2)
    assert second.loss.item() == pytest.approx(2 * 0.9 * 0.2)


def test_the_network_and_not_what_wraps_it_says_whether_spikes_are_taken():
    model, seen = Scale(), []
    model.num_voxel_bins = 4

    class Wrapped(nn.Module):
        def forward(self, blurry, spikes):
            seen.append(spikes.shape)
            return model(blurry, None)

    list(steps(model, [clip(1)], steps=range(1, 2), module_at=lambda step: Wrapped()))
    assert seen == [(1, 2, 4, 2, 2)]


def test_gradients_are_clipped():
    model = Scale()
    list(steps(model, [clip(255)], steps=range(1, 2), max_grad_norm=0.5))
    assert model.w.item() == pytest.approx(1 - 0.1 * 0.5, rel=1e-4)


def test_phases_follow_one_another_without_a_gap():
    (record,) = steps(Scale(), [clip(1), clip(2)], steps=range(1, 2), accumulation=2)
    names = [span.name for span in record.spans]
    assert names == ["data", "transfer", "forward", "loss", "backward"] * 2 + ["optimizer"]
    assert set(names) == set(PHASES)
    assert all(a.end == b.start for a, b in zip(record.spans, record.spans[1:], strict=False))


def test_a_batch_arrives_as_float_in_zero_to_one():
    batch = clip(255)._replace(spikes=torch.ones(1, 2, 4, 2, 2))
    blurry, spikes, sharp = to_device(batch, CPU, spikes=True)
    assert blurry.dtype == torch.float32 and blurry.max() == 1 and sharp.max() == 0
    assert torch.equal(spikes, batch.spikes)
    assert to_device(batch, CPU, spikes=False)[1] is None


def test_a_network_says_whether_it_takes_spikes():
    model = Scale()
    assert not takes_spikes(model)
    model.num_voxel_bins = 4
    assert takes_spikes(model)


def test_autocast_is_on_in_the_forward_pass_only():
    seen = {}

    class Probe(Scale):
        def forward(self, blurry, spikes):
            seen["forward"] = torch.is_autocast_enabled("cpu")
            return super().forward(blurry, spikes)

    def loss(restored, inputs):
        seen["loss"] = torch.is_autocast_enabled("cpu")
        return restored.mean()

    list(
        steps(
            Probe(),
            [clip(1)],
            steps=range(1, 2),
            objective=EveryStep(loss),
            precision=Precision(CPU, torch.bfloat16),
        )
    )
    assert seen == {"forward": True, "loss": False}
