"""What a run minimises: its losses, and the teacher that it learns from."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from deblurkit.config.schema import Config
from deblurkit.errors import DeblurkitError
from deblurkit.training.distillation import distillation_terms
from deblurkit.training.distributed import Ranks
from deblurkit.training.losses import WeightedSum, build_objective
from deblurkit.training.perceptual import LPIPS_NETS, VGG19, load_lpips
from deblurkit.training.precision import Precision
from deblurkit.training.validate import Lpips


def objective_of(
    config: Config, *, model: nn.Module, precision: Precision, warn: Callable[[str], None]
) -> WeightedSum:
    """Return what LOSS and TRAIN.DISTILL describe, with its networks on the device of the run.

    Args:
        config: of the run.
        model: what is trained, not wrapped.
        precision: of the run.
        warn: told of damaged checkpoints of the teacher that were passed over.

    Raises:
        DeblurkitError: where a network of a loss, or the teacher, cannot be read or does not fit the clips.
    """
    _check_crops(config)
    teacher = distillation_terms(
        config.train.distill,
        data=config.data,
        student=model,
        delta=config.loss.charbonnier.delta,
        precision=precision,
        warn=warn,
    )
    return build_objective(config.loss, device=precision.device, more=teacher)


def lpips_of(
    config: Config,
    *,
    frame_shape: tuple[int, int],
    device: torch.device,
    ranks: Ranks,
    warn: Callable[[str], None],
) -> Lpips | None:
    """Return what measures LPIPS where LOG.METRICS_EVERY_EPOCHS asks for it and all ranks can measure it.

    A metric is no reason not to train: without the weights, or on frames too small, there is a warning.
    """
    if not config.log.metrics_every_epochs:
        return None
    found, trouble = None, None
    try:
        found = _loaded_lpips(config, frame_shape, device)
    except DeblurkitError as error:
        trouble = str(error)
    told = [text for text in ranks.gather(trouble) if text is not None]
    if told:
        warn(f"LOG.METRICS_EVERY_EPOCHS: LPIPS is not measured: {told[0]}")
        return None
    return found


def _loaded_lpips(config: Config, frame_shape: tuple[int, int], device: torch.device) -> Lpips:
    section = config.loss.lpips
    least = LPIPS_NETS[section.net].least_side
    if min(frame_shape) < least:
        raise DeblurkitError(f"{section.net} needs frames of at least {least} px, got {min(frame_shape)}")
    return Lpips(section.net, load_lpips(section.net, section.weights, device))


def _check_crops(config: Config) -> None:
    """Raise a DeblurkitError if a training crop is too small for the network of a loss.

    Now: a term that is there in every few steps would find out hours later.
    """
    losses, crop = config.loss, config.data.train_crop
    networks = {
        "LOSS.VGG_PERCEPTUAL": (losses.vgg_perceptual.weight, VGG19),
        "LOSS.LPIPS": (losses.lpips.weight, LPIPS_NETS[losses.lpips.net]),
    }
    for key, (weight, network) in networks.items():
        if weight > 0 and crop < network.least_side:
            raise DeblurkitError(
                f"{key}: {network.name} needs crops of at least {network.least_side} px, got {crop}"
                " (DATA.CROP_SIZE, DATA.TRAIN_CROP_SIZE); train on larger crops, or take another network"
            )
