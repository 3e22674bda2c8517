import torch
from torch import nn

from deblurkit.config.sections.train import OptimSection
from deblurkit.training.optim import build_optimizer, parameter_groups
from deblurkit.tuning.optimizer_states import EightBitAdam


def held_by(optimizer):
    """Return the bytes of the storages of an optimiser's state, each once."""
    tensors = [v for state in optimizer.state.values() for v in state.values() if isinstance(v, torch.Tensor)]
    return sum({t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors}.values())


def test_the_states_are_as_large_as_those_of_bitsandbytes():
    section = OptimSection.model_validate({"TYPE": "adamw8bit"})
    found = []
    for make in (
        lambda model: build_optimizer(section, model, device=torch.device("cpu"), warn=print),
        lambda model: EightBitAdam(parameter_groups(section, model), lr=section.lr),
    ):
        # 4095 and 4096 elements lie on both sides of what is kept in 32 bits; 77 * 91 fills no whole block.
        model = nn.ParameterList(
            [nn.Parameter(torch.ones(*shape)) for shape in ((63, 65), (64, 64), (77, 91))]
        )
        model.append(nn.Parameter(torch.ones(10_000)))  # never gets a gradient
        for weights in list(model)[:3]:
            weights.grad = torch.ones_like(weights)
        optimizer = make(model)
        optimizer.step()
        optimizer.step()
        found.append(held_by(optimizer))
    small, even, uneven = 2 * 4 * 4095, 2 * (4096 + 4 * 16), 2 * (7007 + 4 * 28)
    tables = 2 * 4 * 256
    assert found == [small + even + uneven + tables] * 2
