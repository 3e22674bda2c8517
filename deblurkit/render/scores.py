"""Held-out scores as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table

from deblurkit.render.text import as_text
from deblurkit.training.metrics import PROTOCOL_TEXTS
from deblurkit.training.validate import Score, Validation

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
    return as_text(table) + _lpips_as_text(results) + _stamp(first)


def _lpips_as_text(results: Mapping[str, Validation]) -> str:
    """Return a line with LPIPS, nothing where it was not measured."""
    first = next(iter(results.values())).score
    if first.lpips is None:
        return ""
    parts = [f"blurry {first.lpips_blurry:.4f}"]
    parts += [f"{name} {result.score.lpips:.4f}" for name, result in results.items()]
    return f"LPIPS (less is better): {', '.join(parts)}\n"


def _stamp(result: Validation) -> str:
    """Return how the numbers were made."""
    few = ""
    if result.split_sequences is not None:
        few = f"A quick look: {len(result.sequences)} of {result.split_sequences} sequences\n"
    return f"{few}Protocol {PROTOCOL_TEXTS[result.protocol]}\n"


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
    if abs(loss) < _VISIBLE_DB:
        return f"{done} makes no difference to this network"
    course = f"falls {loss:.2f} dB behind" if loss > 0 else f"comes {-loss:.2f} dB ahead"
    return f"{by} the same network {course}"


def scores_as_dict(results: Mapping[str, Validation]) -> dict[str, Any]:
    """Return the same as plain values, a mapping for each way of restoring."""
    return {
        name: {
            "protocol": result.protocol,
            "split_sequences": result.split_sequences or len(result.sequences),
            **result.score.as_dict(),
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
    if restored is None or blurry is None:
        return "held-out PSNR: some frames are equal to their sharp ones, so it has no finite mean"
    return f"held-out PSNR {restored:.2f} dB, {restored - blurry:+.2f} dB against the blurry input"
