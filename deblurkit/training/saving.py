"""The checkpoints of a run: written by one process, with what every process needs to go on exactly."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from deblurkit.config.schema import Config, as_values
from deblurkit.errors import CheckpointError
from deblurkit.training import checkpoint
from deblurkit.training.ema import Ema
from deblurkit.training.guard import NonFiniteGuard
from deblurkit.training.parts import RunParts
from deblurkit.training.resume import changes
from deblurkit.training.sharding import cut, gathered
from deblurkit.units import plural


class Saving:
    """Writes and takes up the checkpoints of a run in ``LOG.SAVE_DIR/checkpoints``.

    Args:
        parts: of the run.
        ema: running mean of the weights, if there is one.
        guard: against bad steps, if there is one.
        networks: fingerprints of the networks in the loss, by its terms.
    """

    def __init__(
        self,
        parts: RunParts,
        *,
        ema: Ema | None,
        guard: NonFiniteGuard | None,
        networks: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = parts.config.log.save_dir / "checkpoints"
        self._parts, self._ema, self._guard = parts, ema, guard
        self._networks = dict(networks or {})
        self._scored_by = scored_by(parts.config)

    def path(self, step: int) -> Path:
        """Return where the checkpoint of a step is, or would be."""
        return checkpoint.checkpoint_path(self.folder, step)

    def has(self, step: int) -> bool:
        """Return whether the checkpoint of a step is there."""
        return self.path(step).exists()

    def in_memory(self) -> dict[str, Any]:
        """Return what a checkpoint of this moment would hold of the training itself; inside of `whole`."""
        parts = self._parts
        state: dict[str, Any] = {
            "model": parts.model.state_dict(),
            "optimizer": parts.optimizer.state_dict(),
            "scaler": parts.precision.state_dict(),
        }
        if self._ema is not None:
            state["ema"] = self._ema.state_dict()
        if self._guard is not None:
            state["guard"] = self._guard.state_dict()
        return state

    def save(self, step: int, *, seconds: float, samples: int) -> None:
        """Write the checkpoint of a step; every rank has to call this, and all leave it together.

        Args:
            step: that was done last.
            seconds: of all steps of the run.
            samples: that all ranks have taken in them.

        Raises:
            CheckpointError: if it cannot be written; those before it are whole.
        """
        ranks = self._parts.ranks
        states = ranks.gather(checkpoint.own_random_states())
        with self.whole():
            if ranks.is_main:
                extra = {"seconds": seconds, "samples": samples, **self._lengths()}
                self._write(step, states, extra | self._extra_networks())
        ranks.wait()

    def whole(self) -> contextlib.AbstractContextManager[None]:
        """Return the block in which rank 0 can ask for `in_memory`; every rank has to enter it."""
        parts = self._parts
        return gathered(parts.model, parts.optimizer, is_main=parts.ranks.is_main)

    def keep_if_best(self, step: int, psnr_db: float) -> None:
        """Give the checkpoint of a step the name ``best.pt`` if no step before it was better."""
        path = self.path(step)
        with self._full_disk_explained(path):
            checkpoint.keep_best(self.folder, path, psnr_db, scored_by=self._scored_by)

    def is_best(self, psnr_db: float) -> bool:
        """Return whether a score is above that of ``best.pt``, or there is none yet that compares with it."""
        best = self._best()
        return best is None or psnr_db > best.psnr_db

    def scored_until(self) -> int:
        """Return the last step that was compared with the best; 0 before the first."""
        best = self._best()
        return 0 if best is None else best.scored_until

    def other_scores(self) -> str | None:
        """Return that ``best.pt`` was chosen by scores of another way, where it was, and what follows."""
        best = checkpoint.best_of(self.folder)
        if best is None or checkpoint.compares(best, self._scored_by):
            return None
        return (
            f"best.pt was chosen by scores of {best.scored_by}; they do not compare with those of"
            f" {self._scored_by}, of which the next one begins anew"
        )

    def _best(self) -> checkpoint.Best | None:
        best = checkpoint.best_of(self.folder)
        return best if checkpoint.compares(best, self._scored_by) else None

    def restore(self, state: dict[str, Any]) -> Iterator[str]:
        """Take a loaded checkpoint up, but for the random states; yield what is not as it was then."""
        parts = self._parts
        for key, before, now in changes(state["config"], as_values(parts.config)):
            yield f"{key} was {before} in the checkpoint and is {now} now"
        yield from self._other_lengths(state["extra"])
        yield from self._other_networks(state["extra"])
        state = cut(state, network=parts.model, optimizer=parts.optimizer)
        checkpoint.restore_run(state, model=parts.model, optimizer=parts.optimizer, precision=parts.precision)
        if self._guard is not None and "guard" in state:
            self._guard.load_state_dict(state["guard"])
        if self._ema is not None and "ema" in state:
            self._ema.load_state_dict(state["ema"])
        elif self._ema is not None:
            self._ema.restart(parts.model)
            yield "TRAIN.EMA_DECAY: the checkpoint has no running mean; it starts from its weights"

    def _extra_networks(self) -> dict[str, Any]:
        return {"loss_networks": self._networks} if self._networks else {}

    def _lengths(self) -> dict[str, int]:
        parts = self._parts
        return {
            "clips": len(parts.clips),
            "total_steps": parts.total_steps,
            "world_size": parts.ranks.world_size,
        }

    def _other_lengths(self, extra: dict[str, Any]) -> Iterator[str]:
        """Yield what the data, the schedule and the ranks were in a checkpoint, if they are otherwise now."""
        now = self._lengths()
        if extra["clips"] != now["clips"]:
            yield f"the training split had {extra['clips']} clips and has {now['clips']} now"
        if extra["total_steps"] != now["total_steps"] and self._parts.config.train.sched.type == "cosine":
            yield f"the schedule was {extra['total_steps']} steps long and is {now['total_steps']} now"
        if extra.get("world_size", 1) != now["world_size"]:
            yield f"{extra.get('world_size', 1)} processes trained together, and {now['world_size']} do now"

    def _other_networks(self, extra: dict[str, Any]) -> Iterator[str]:
        """Yield the terms of the loss whose network had other weights in a checkpoint."""
        for name, before in extra.get("loss_networks", {}).items():
            if self._networks.get(name, before) != before:
                yield (
                    f"the network of the loss's term {name} had other weights in the checkpoint"
                    " (TRAIN.DISTILL.TEACHER as a run's folder is its newest checkpoint; name a file)"
                )

    def _write(self, step: int, random_states: list[dict[str, Any]], extra: dict[str, Any]) -> None:
        path, parts = self.path(step), self._parts
        with self._full_disk_explained(path):
            checkpoint.save_checkpoint(
                path,
                step=step,
                config=as_values(parts.config),
                model=parts.model,
                optimizer=parts.optimizer,
                precision=parts.precision,
                extra=extra,
                random_states=random_states,
                ema=dict(self._ema.state_dict()) if self._ema is not None else None,
                guard=self._guard.state_dict() if self._guard is not None else None,
            )
            checkpoint.remove_old(self.folder, keep=parts.config.log.keep_checkpoints, step=step)

    @contextlib.contextmanager
    def _full_disk_explained(self, path: Path) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError) as error:
            stopped = _interrupt_behind(error)
            if stopped is not None:
                raise stopped from None
            if isinstance(error, RuntimeError) and "inline_container" not in str(error):
                raise  # torch turns a full disk into a RuntimeError of its archive writer; others are others'
            others = plural(len(checkpoint.checkpoints_in(self.folder)), "checkpoint")
            raise CheckpointError(
                f"{path}: could not be written ({str(error).splitlines()[0]}); free some space."
                f" {others} before it can be read"
            ) from error


def _interrupt_behind(error: BaseException) -> KeyboardInterrupt | None:
    """Return the Ctrl-C that an error came of: torch's archive writer, interrupted, complains of a length."""
    behind: BaseException | None = error
    while behind is not None and not isinstance(behind, KeyboardInterrupt):
        behind = behind.__cause__ or behind.__context__
    return behind


def scored_by(config: Config) -> str:
    """Return how a run's validations are made, as far as settings that a resumed run may change decide it."""
    test = config.test
    tiles = "whole frames"
    if test.tile is not None:
        sizes = (" x ".join(map(str, values)) for values in (test.tile, test.tile_overlap))
        tiles = "tiles of {} overlapping by {}".format(*sizes)
    return f"protocol {test.protocol}, {tiles}, split {config.data.val_split}"
