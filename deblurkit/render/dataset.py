"""What a dataset holds, for a person to read."""

from __future__ import annotations

from deblurkit.data.unified import DatasetSummary
from deblurkit.units import format_bytes, format_share


def dataset_as_text(summary: DatasetSummary) -> str:
    """Return sequences, frames, sizes and spike rate, a line each."""
    height, width = summary.frame_shape
    spike_height, spike_width = summary.spike_shape
    lines = [
        ("dataset", summary.root),
        ("train", f"{summary.train_sequences} sequences, {summary.train_frames} frames"),
        ("test", f"{summary.test_sequences} sequences, {summary.test_frames} frames"),
        ("frames", f"{height}x{width}"),
        ("spikes", f"{spike_height}x{spike_width}, {format_share(summary.mean_spike_rate)} of bits set"),
        ("size", format_bytes(summary.total_bytes)),
    ]
    return "\n".join(f"{label:<8} {value}" for label, value in lines)
