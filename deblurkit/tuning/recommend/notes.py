"""What the reader of a recommendation should know beside its figures, a line each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from deblurkit.config.schema import Config
from deblurkit.tuning.recommend.place import Place
from deblurkit.tuning.recommend.records import Trial
from deblurkit.tuning.run_memory import DataSize
from deblurkit.units import plural


def notes_on(
    config: Config, place: Place, *, data: DataSize, numbers: Sequence[int], trials: Sequence[Trial]
) -> Iterator[str]:
    """Yield the notes on a search.

    Args:
        config: that it started from, on one device.
        place: that it was for.
        data: what is known of the dataset.
        numbers: of devices that were asked for.
        trials: that were made.
    """
    if data.note:
        yield data.note
    clips = config.train.batch_size * config.train.gradient_accumulation_steps
    apart = [str(number) for number in numbers if clips % number]
    if apart:
        yield f"--devices: {', '.join(apart)} GPUs do not divide the {clips} clips of a step: left out"
    if not place.can_measure:
        yield f"no step was taken on {place.hardware}: speeds are from {place.prior.source}"
    kept = sum(trial.is_cached for trial in trials)
    if kept:
        yield (
            f"{kept} of {plural(len(trials), 'trial')} are from an earlier search, when the machine may have"
            " been busier, or less so: --fresh makes all anew"
        )
