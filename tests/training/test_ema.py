import io

import pytest
import torch
from torch import nn

from deblurkit.errors import CheckpointError
from deblurkit.training.ema import Ema


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def drift(model, step):
    """Change the weights and the statistics, the same for the same step."""
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(torch.randn(weights.shape, generator=generator))
        model[1].running_mean.fill_(step)
        model[1].num_batches_tracked.fill_(step)


def values(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_mean_is_the_recursion_written_out():
    model = network()
    ema = Ema(model, decay=0.5)
    expected = model[0].weight.detach().double().clone()
    for step in range(1, 12):
        drift(model, step)
        ema.update(model, step)
        decay = min(0.5, (1 + step) / (10 + step))  # 2/11 at first, 0.5 from step 8
        expected = decay * expected + (1 - decay) * model[0].weight.detach().double()
    torch.testing.assert_close(ema.state_dict()["0.weight"].double(), expected, rtol=1e-6, atol=1e-6)


def test_the_decay_rises_over_the_first_steps_to_its_value():
    ema = Ema(network(), decay=0.9)
    assert [ema.decay_at(step) for step in (1, 8, 80, 81, 10_000)] == [2 / 11, 0.5, 0.9, 0.9, 0.9]


def test_statistics_and_whole_numbers_are_the_last_ones():
    model = network()
    ema = Ema(model, decay=0.9)
    drift(model, 7)
    ema.update(model, 7)
    mean = ema.state_dict()
    assert mean["1.running_mean"].tolist() == [7.0] * 4
    assert mean["1.num_batches_tracked"].item() == 7


def test_it_starts_as_a_copy_that_training_does_not_move():
    model = network()
    ema = Ema(model, decay=0.9)
    before = values(model)
    drift(model, 1)
    assert same(ema.state_dict(), before)
    ema.restart(model)
    assert same(ema.state_dict(), model.state_dict())


def test_inside_the_block_the_network_is_the_mean_and_afterwards_itself_again():
    model = network()
    ema = Ema(model, decay=0.9)
    mean = values(model)
    drift(model, 1)
    trained, objects = values(model), [id(weights) for weights in model.parameters()]
    with ema.swapped(model):
        assert same(model.state_dict(), mean)
    assert same(model.state_dict(), trained)
    assert same(ema.state_dict(), mean)
    assert [id(weights) for weights in model.parameters()] == objects


def test_an_error_in_the_block_leaves_the_network_as_it_was():
    model = network()
    ema = Ema(model, decay=0.9)
    drift(model, 1)
    trained = values(model)
    with pytest.raises(KeyboardInterrupt), ema.swapped(model):
        model[0].weight.detach().zero_()
        raise KeyboardInterrupt
    assert same(model.state_dict(), trained)


def test_a_resumed_mean_goes_on_bit_for_bit():
    model = network()
    whole = Ema(model, decay=0.99)
    for step in range(1, 6):
        drift(model, step)
        whole.update(model, step)
    file = io.BytesIO()
    torch.save({"ema": whole.state_dict(), "model": model.state_dict()}, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    other = network()
    other.load_state_dict(state["model"])
    resumed = Ema(other, decay=0.99)
    resumed.load_state_dict(state["ema"])
    for step in range(6, 9):
        for ema, net in ((whole, model), (resumed, other)):
            drift(net, step)
            ema.update(net, step)
    assert same(resumed.state_dict(), whole.state_dict())
    assert not same(whole.state_dict(), model.state_dict())


def test_the_network_takes_the_mean_as_its_weights():
    model, other = network(), network()
    ema = Ema(model, decay=0.9)
    drift(model, 1)
    ema.update(model, 1)
    other.load_state_dict(ema.state_dict())
    assert same(other.state_dict(), ema.state_dict())


def test_another_networks_mean_is_refused_and_nothing_is_changed():
    ema = Ema(network(), decay=0.9)
    before = {name: value.clone() for name, value in ema.state_dict().items()}
    wider = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 2))
    for other in (wider, nn.Linear(3, 4)):
        with pytest.raises(CheckpointError, match="EMA_DECAY"):
            ema.load_state_dict(other.state_dict())
    assert same(ema.state_dict(), before)


def test_a_decay_of_one_would_never_move():
    with pytest.raises(ValueError, match="below 1"):
        Ema(network(), decay=1.0)


def test_weights_that_two_layers_share_have_one_mean():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    ema = Ema(model, decay=0.5)
    before = model[0].weight.detach().clone()
    with torch.no_grad():
        model[0].weight.add_(11)
    ema.update(model, 1)  # decay 2/11: 9/11 of the way
    for name in ("0.weight", "1.weight"):
        torch.testing.assert_close(ema.state_dict()[name], before + 9)
