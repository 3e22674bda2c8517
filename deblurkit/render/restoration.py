"""What a restoration has done, in a few lines."""

from __future__ import annotations

from deblurkit.training.restore import Restoration
from deblurkit.units import format_bytes, format_duration, plural

_SPIKES = {"recorded": "with spikes", "zeroed": "with spikes all zero", "none": "without spikes"}


def restoration_as_text(result: Restoration) -> str:
    """Return where the frames are, and what restoring them took."""
    there = result.frames - result.restored
    head = (
        f"{plural(result.restored, 'frame')} of {result.height} x {result.width} px {_SPIKES[result.spikes]}"
    )
    if there:
        head += f" ({there} more were there)"
    tiles = f"{plural(result.tiles, 'tile')} of at most {' x '.join(map(str, result.tile))}"
    lines = [
        f"{head} -> {result.output}",
        f"{format_duration(result.seconds)} on {result.device}, {tiles}"
        f" (frames x rows x columns), peak memory {format_bytes(result.peak_bytes)}",
    ]
    return "\n".join(lines if result.video is None else [*lines, f"Video: {result.video}"])
