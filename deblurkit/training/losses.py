"""What a run minimises: a weighted sum of losses on clips in [0, 1], worked out in float32.

The convolutions of perceptual losses are PyTorch's own: on a GPU they take TF32 unless that is turned off.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from deblurkit.errors import ConfigError
from deblurkit.models.fingerprint import fingerprint
from deblurkit.training.perceptual import load_lpips, load_vgg

if TYPE_CHECKING:
    from deblurkit.config.sections.train import LossSection, LpipsSection, VggPerceptualSection


def charbonnier(restored: Tensor, sharp: Tensor, *, delta: float) -> Tensor:
    """Return the mean of sqrt(d^2 + delta^2) over every value of two tensors of one shape.

    Charbonnier et al., ICIP 1994. Half-precision inputs are widened first: delta^2 would vanish in them.
    """
    difference = restored.float() - sharp.float()
    return torch.sqrt(difference * difference + delta * delta).mean()


class Inputs(NamedTuple):
    """A batch on the device, as the network and a loss see it.

    Attributes:
        blurry: (B, T, 3, H, W) float32 in [0, 1].
        voxels: (B, T, K, h, w) float32 in [0, 1]; None where the network takes no spikes.
        sharp: as blurry.
    """

    blurry: Tensor
    voxels: Tensor | None
    sharp: Tensor


Loss = Callable[[Tensor, Inputs], Tensor]  # (restored as float32, what it was made from) -> scalar


class Objective(Protocol):
    """What a run minimises."""

    def at(self, step: int) -> Loss:
        """Return the loss of the micro-steps of ``step``, counted from 1."""
        ...

    def terms(self) -> dict[str, Tensor]:
        """Return what the summands of the loss were last, by name; empty where it has no parts to tell."""
        ...

    def rare_terms(self) -> frozenset[str]:
        """Return the names of the summands that are not in every step."""
        ...

    def fingerprints(self) -> dict[str, str]:
        """Return what tells the weights of each summand's network from others, by name of the summand."""
        ...

    def kept_tensors(self) -> list[Tensor]:
        """Return the tensors that stay on the device from step to step."""
        ...


class EveryStep:
    """The same loss in every step."""

    def __init__(self, loss: Loss) -> None:
        self._loss = loss

    def at(self, step: int) -> Loss:
        """Return the loss."""
        return self._loss

    def terms(self) -> dict[str, Tensor]:
        """Return nothing: the loss is one."""
        return {}

    def rare_terms(self) -> frozenset[str]:
        """Return nothing: every step has it."""
        return frozenset()

    def fingerprints(self) -> dict[str, str]:
        """Return nothing: the loss has no name."""
        return {}

    def kept_tensors(self) -> list[Tensor]:
        """Return the weights of a loss that is a module."""
        return _tensors_of(self._loss)


class Term(NamedTuple):
    """A summand of the loss.

    Attributes:
        name: as it is logged.
        weight: factor of the loss in the sum.
        loss: what is weighted.
        every_n_steps: it is there in steps that this divides, and not made up for in others.
    """

    name: str
    weight: float
    loss: Loss
    every_n_steps: int = 1


class WeightedSum:
    """A sum of terms, not all of which are there in every step.

    Raises:
        ConfigError: if there would be steps without any loss.
    """

    def __init__(self, terms: Sequence[Term]) -> None:
        self._terms = tuple(term for term in terms if term.weight > 0)
        if not any(term.every_n_steps == 1 for term in self._terms):
            what = "only in every few steps" if self._terms else "not at all"
            raise ConfigError(
                [
                    f"LOSS: expected a term in every step, got terms {what}; set"
                    " LOSS.CHARBONNIER.WEIGHT above 0, or EVERY_N_STEPS of another term with a WEIGHT to 1"
                ]
            )
        self._values: dict[str, list[Tensor]] = {}

    def at(self, step: int) -> Loss:
        """Return the sum of the terms that ``step`` has."""
        present = [term for term in self._terms if step % term.every_n_steps == 0]
        values: dict[str, list[Tensor]] = {term.name: [] for term in present}
        self._values.update(values)

        def loss(restored: Tensor, inputs: Inputs) -> Tensor:
            total = torch.zeros((), device=restored.device)
            for term in present:
                part = term.weight * term.loss(restored, inputs)
                values[term.name].append(part.detach())
                total = total + part
            return total

        return loss

    def terms(self) -> dict[str, Tensor]:
        """Return each term as it last was in the sum: with its weight, as the mean over the micro-steps.

        Scalars on the device: reading them waits for it. A term that no step has had yet is left out; those
        of a step that has all terms add up to its loss.
        """
        return {name: torch.stack(values).mean() for name, values in self._values.items() if values}

    def rare_terms(self) -> frozenset[str]:
        """Return the names of the terms with ``every_n_steps`` above 1."""
        return frozenset(term.name for term in self._terms if term.every_n_steps > 1)

    def fingerprints(self) -> dict[str, str]:
        """Return the fingerprints of the networks in the terms, by name of the term."""
        return {name: fingerprint(network) for name, network in self.networks().items()}

    def networks(self) -> dict[str, nn.Module]:
        """Return the network of each term that has one, by name of the term."""
        return {term.name: term.loss for term in self._terms if isinstance(term.loss, nn.Module)}

    def kept_tensors(self) -> list[Tensor]:
        """Return the weights of the networks in the terms."""
        return [tensor for term in self._terms for tensor in _tensors_of(term.loss)]


class OnFrames(nn.Module):
    """The mean over all frames of a clip of a distance between two images.

    Args:
        distance: 2 x (N, 3, H, W) -> (N,).
    """

    def __init__(self, distance: nn.Module) -> None:
        super().__init__()
        self.distance = distance

    def forward(self, restored: Tensor, inputs: Inputs) -> Tensor:
        """Return the loss of a restored clip, (B, T, 3, H, W), as a scalar."""
        return self.distance(restored.flatten(0, 1), inputs.sharp.flatten(0, 1)).mean()


def trained_vgg(section: VggPerceptualSection, device: torch.device) -> nn.Module:
    """Return the distance that LOSS.VGG_PERCEPTUAL asks for, with its weights."""
    return load_vgg(section.layers, section.weights, device)


def trained_lpips(section: LpipsSection, device: torch.device) -> nn.Module:
    """Return the distance that LOSS.LPIPS asks for, with its weights."""
    return load_lpips(section.net, section.weights, device)


def build_objective(
    section: LossSection,
    *,
    device: torch.device | None = None,
    more: Sequence[Term] = (),
    make_vgg: Callable[[VggPerceptualSection, torch.device], nn.Module] = trained_vgg,
    make_lpips: Callable[[LpipsSection, torch.device], nn.Module] = trained_lpips,
) -> WeightedSum:
    """Return what the LOSS section describes.

    Args:
        section: terms of weight 0 are left out, and their networks not read.
        device: where the networks of perceptual losses are kept; the CPU by default.
        more: terms that are no part of the section, such as `distillation.distillation_terms`.
        make_vgg: returns the network of LOSS.VGG_PERCEPTUAL on a device.
        make_lpips: likewise of LOSS.LPIPS.

    Raises:
        ConfigError: if there would be steps without any loss.
        CheckpointError: if weights that a term needs are missing or others.
    """
    where = device or torch.device("cpu")
    pixel, vgg, lpips = section.charbonnier, section.vgg_perceptual, section.lpips

    def pixel_loss(restored: Tensor, inputs: Inputs) -> Tensor:
        return charbonnier(restored, inputs.sharp, delta=pixel.delta)

    terms = [Term("charbonnier", pixel.weight, pixel_loss, pixel.every_n_steps)]
    if vgg.weight > 0:
        terms.append(Term("vgg_perceptual", vgg.weight, OnFrames(make_vgg(vgg, where)), vgg.every_n_steps))
    if lpips.weight > 0:
        terms.append(Term("lpips", lpips.weight, OnFrames(make_lpips(lpips, where)), lpips.every_n_steps))
    return WeightedSum([*terms, *more])


def _tensors_of(loss: Loss) -> list[Tensor]:
    return list(loss.state_dict().values()) if isinstance(loss, nn.Module) else []
