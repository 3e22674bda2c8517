"""Held-out scores as tables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table

from deblurkit.render.text import as_text
from deblurkit.training.evaluate import SHUFFLED, ZEROED, Evaluation
from deblurkit.training.metrics import PROTOCOL_TEXTS
from deblurkit.training.validate import Score, Validation
from deblurkit.units import plural

_VISIBLE_DB = 0.005  # less than this is shown as 0.00


def scores_as_text(results: Mapping[str, Validation]) -> str:
    """Return PSNR and SSIM, blurry against restored, of every sequence and of their mean.

    Args:
        results: validations of the same frames, by what the restored column was made with.
    """
    table = Table(box=box.SIMPLE, title="Held-out sequences", title_justify="left")
    table.add_column("sequence")
    for name in ("blurry", *results):
        table.add_column(f"{name}\nPSNR dB", justify="right")
        table.add_column("\nSSIM", justify="right")
    table.add_column("gain\ndB", justify="right")
    first = next(iter(results.values()))
    mean = "mean of all frames" if first.protocol == "pooled" else "mean"
    for name in first.sequences:
        table.add_row(name, *_cells([result.sequences[name] for result in results.values()]))
    table.add_section()
    table.add_row(mean, *_cells([result.score for result in results.values()]))
    return as_text(table) + _lpips_as_text(results) + _not_finite(results) + _stamp(first)


def _lpips_as_text(results: Mapping[str, Validation]) -> str:
    """Return a line with LPIPS, nothing where it was not measured."""
    first = next(iter(results.values()))
    if first.score.lpips is None:
        return ""
    parts = [f"blurry {first.score.lpips_blurry:.4f}"]
    parts += [f"{name} {result.score.lpips:.4f}" for name, result in results.items()]
    return f"LPIPS {first.lpips_net} (less is better): {', '.join(parts)}\n"


def _stamp(result: Validation) -> str:
    """Return how the numbers were made."""
    few = ""
    if result.split_sequences is not None:
        few = f"A quick look: {len(result.sequences)} of {result.split_sequences} sequences\n"
    tiles = ""
    if result.tile is not None:
        sizes, shared = (" x ".join(map(str, part or ())) for part in (result.tile, result.tile_overlap))
        tiles = f"Tiles of {sizes}, overlapping by {shared}; whole frames score a little otherwise\n"
    return f"{few}{tiles}Protocol {PROTOCOL_TEXTS[result.protocol]}\n"


def _not_finite(results: Mapping[str, Validation]) -> str:
    """Return a line for each way of restoring whose scores are no numbers, nothing where all are."""
    found = {name: result.frames_not_finite for name, result in results.items() if result.frames_not_finite}
    return "".join(
        f"{name}: {plural(frames, 'frame')} came out NaN or infinite, so the mean is no number\n"
        for name, frames in found.items()
    )


def evaluation_as_text(evaluation: Evaluation) -> str:
    """Return what was scored, its scores, and what the spikes are worth where that was measured."""
    results = evaluation.results
    head = f"Step {evaluation.step} on split {evaluation.split} of {evaluation.data}\n"
    text = head + scores_as_text(results)
    if ZEROED not in results:
        return text
    return text + spike_effect_as_text(results["restored"], results[ZEROED], results.get(SHUFFLED))


def evaluation_as_dict(evaluation: Evaluation) -> dict[str, Any]:
    """Return the same as plain values, a mapping for each way of restoring."""
    origin = {
        "checkpoint": str(evaluation.checkpoint),
        "step": evaluation.step,
        "data": str(evaluation.data),
        "split": evaluation.split,
    }
    return {name: origin | values for name, values in scores_as_dict(evaluation.results).items()}


def spike_effect_as_text(real: Validation, zeroed: Validation, shuffled: Validation | None = None) -> str:
    """Return what the spikes are worth to the network, and what their being of the very moment is."""
    text = f"Spikes: {_effect(real, zeroed, done='zeroing them all', by='without them (all zero)')}\n"
    if shuffled is None:
        return text
    by = "with those of another moment of the clip (shuffled)"
    return f"{text}Spikes: {_effect(real, shuffled, done='shuffling them in time', by=by)}\n"


def _effect(real: Validation, other: Validation, *, done: str, by: str) -> str:
    a, b = real.score.psnr_db, other.score.psnr_db
    loss = 0.0 if a == b else a - b  # both are infinite where every frame is perfect
    if math.isnan(loss):
        return f"{done}: what it changes cannot be told, as the mean of a PSNR is no number"
    if abs(loss) < _VISIBLE_DB:
        return f"{done} makes no difference to this network"
    course = f"falls {loss:.2f} dB behind" if loss > 0 else f"comes {-loss:.2f} dB ahead"
    return f"{by} the same network {course}"


def scores_as_dict(results: Mapping[str, Validation]) -> dict[str, Any]:
    """Return the same as plain values, a mapping for each way of restoring."""
    return {
        name: {
            **result.as_dict(),
            "split_sequences": result.split_sequences or len(result.sequences),
            "sequences": {sequence: score.as_dict() for sequence, score in result.sequences.items()},
        }
        for name, result in results.items()
    }


def _cells(scores: list[Score]) -> list[str]:
    blurry = [f"{scores[0].psnr_db_blurry:.2f}", f"{scores[0].ssim_blurry:.4f}"]
    restored = [text for score in scores for text in (f"{score.psnr_db:.2f}", f"{score.ssim:.4f}")]
    return [*blurry, *restored, f"{scores[0].gain_db:+.2f}"]


def held_out_as_text(validation: Mapping[str, Any]) -> str:
    """Return a summary's held-out PSNR and its gain over the blurry input, in a few words."""
    restored, blurry = validation["psnr_db"], validation["psnr_db_blurry"]
    bad = validation.get("frames_not_finite", 0)
    if bad:
        return f"held-out PSNR: {plural(bad, 'frame')} came out NaN or infinite, so it is no number"
    if restored is None or blurry is None:
        return "held-out PSNR: some frames are equal to their sharp ones, so it has no finite mean"
    way = f"protocol {validation['protocol']}"
    if "tile" in validation:
        way += f", tiles of {' x '.join(map(str, validation['tile']))}"
    return f"held-out PSNR {restored:.2f} dB, {restored - blurry:+.2f} dB against the blurry input ({way})"
