"""Settings that the configuration knows and this version cannot carry out yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deblurkit.errors import ConfigError

if TYPE_CHECKING:
    from deblurkit.config.schema import Config


def check_supported(config: Config) -> list[str]:
    """Return a warning for every setting that changes nothing yet.

    Raises:
        ConfigError: for every setting that would make another run of it than was asked for.
    """
    if config.loss.vgg_perceptual.weight > 0:
        raise ConfigError(
            [
                "LOSS.VGG_PERCEPTUAL.WEIGHT: the perceptual loss is not built in this version;"
                " set --set LOSS.VGG_PERCEPTUAL.WEIGHT=0"
            ]
        )
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
