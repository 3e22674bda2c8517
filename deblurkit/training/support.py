"""Settings that the configuration knows and this version cannot carry out yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deblurkit.errors import DeblurkitError
from deblurkit.models.vrt.half import cpu_multiplies_bf16
from deblurkit.units import plural

if TYPE_CHECKING:
    import torch

    from deblurkit.config.schema import Config


def check_supported(config: Config) -> list[str]:
    """Return a warning for every setting that changes nothing yet.

    Raises:
        DeblurkitError: for settings that cannot be carried out together.
    """
    _check_parallel(config)
    warnings = []
    if config.model.arch == "vrt" and config.model.freeze_flow_steps and config.model.pretrained is None:
        warnings.append(
            "MODEL.FREEZE_FLOW_STEPS: without MODEL.PRETRAINED it holds an untrained optical flow still;"
            " set it to 0, or name the weights"
        )
    if not config.dataloader.persistent_workers:
        warnings.append(
            "DATALOADER.PERSISTENT_WORKERS: training runs in one stream; its workers live as long as the run"
        )
    if config.data.train_split == config.data.val_split:
        warnings.append(
            f"DATA.VAL_SPLIT: {config.data.val_split} is trained on too; its scores say nothing of new data"
        )
    return warnings


def can_be_shared(config: Config) -> bool:
    """Return whether TRAIN.PARALLEL=fsdp goes with the other settings."""
    return not _needs_whole_weights(config)


def _check_parallel(config: Config) -> None:
    """Raise a DeblurkitError if TRAIN.PARALLEL fsdp meets what only whole weights can do."""
    found = _needs_whole_weights(config)
    if config.train.parallel == "fsdp" and found:
        raise DeblurkitError(
            f"TRAIN.PARALLEL=fsdp does not go with {' and '.join(found)}; or set TRAIN.PARALLEL=ddp"
        )


def _needs_whole_weights(config: Config) -> list[str]:
    """Return the settings that only whole weights can do, and what to do about each."""
    train = config.train
    is_scaled = train.amp_enabled and train.amp_opt_level != "O0" and train.amp_dtype == "fp16"
    clashes = {
        "TRAIN.COMPILE_MODEL=true": (train.compile_model, "leave it off"),
        "TRAIN.EMA_DECAY": (train.ema_decay > 0, "set it to 0"),
        "TRAIN.OPTIM.TYPE=adamw8bit": (train.optim.type == "adamw8bit", "take adamw"),
        "TRAIN.AMP_DTYPE=fp16": (is_scaled, "take bf16, which needs no loss scaling"),
    }
    return [f"{key} ({remedy})" for key, (is_set, remedy) in clashes.items() if is_set]


def without_effect(config: Config, *, device: torch.device, total_steps: int) -> list[str]:
    """Return a warning for every setting that changes nothing, or too much, on this device or in this run."""
    if config.model.arch != "vrt":
        return []
    warnings = []
    train, frozen = config.train, config.model.freeze_flow_steps
    wants_half = train.amp_enabled and train.amp_opt_level != "O0"
    if wants_half and device.type == "cpu" and not cpu_multiplies_bf16():
        warnings.append(
            f"TRAIN.AMP_ENABLED: this CPU only imitates {train.amp_dtype} products; VRT"
            " computes in float32, which is faster here"
        )
    if frozen >= total_steps:
        warnings.append(
            f"MODEL.FREEZE_FLOW_STEPS: optical flow and alignment never learn: the run has"
            f" {plural(total_steps, 'step')}, and they are frozen for {frozen}"
        )
    return warnings
