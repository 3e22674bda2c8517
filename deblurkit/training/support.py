"""Settings that the configuration knows and this version cannot carry out yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deblurkit.models.vrt.half import cpu_multiplies_bf16
from deblurkit.units import plural

if TYPE_CHECKING:
    import torch

    from deblurkit.config.schema import Config


def check_supported(config: Config) -> list[str]:
    """Return a warning for every setting that changes nothing yet."""
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
