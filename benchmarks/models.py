"""Size, work and speed of the networks, side by side, as a Markdown table.

    python benchmarks/models.py [--rounds 5] [--models baseline,vrt] [--json]

The MODEL section is that of the preset `baseline`; only the architecture, and whether it takes spikes,
differ. Work is counted from shapes alone, so that the large size costs no memory. Time is measured on this
CPU, round by round through all networks, so that what else the machine does falls on all of them alike. The
preset has VRT recompute attention and MLPs in the backward pass; with `--keep` it keeps them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from deblurkit.config.load import load_config
from deblurkit.config.sections.model import ModelSection
from deblurkit.models.flops import model_flops, tmac
from deblurkit.models.registry import build_model

MODELS = {
    "baseline": {"arch": "baseline", "use_spike": True},
    "convnext": {"arch": "convnext", "use_spike": True},
    "vrt": {"arch": "vrt", "use_spike": False},
    "vrt + spikes": {"arch": "vrt", "use_spike": True},
}
SIZES = {"5x64x64": (1, 5, 3, 64, 64), "5x256x256": (1, 5, 3, 256, 256)}
TIMED = "5x64x64"
Row = dict[str, Any]


def main() -> None:
    """Print the table, or one JSON object a network."""
    options = _options()
    config = load_config("baseline", warn=lambda line: print(line, file=sys.stderr))
    bins = config.data.num_voxel_bins
    sections = {name: _section(config.model, name, keep=options.keep) for name in options.models}
    rows = {name: counted(section, bins) for name, section in sections.items()}
    steps = {name: steps_of(section, bins) for name, section in sections.items()}
    for name, times in measured(steps, rounds=options.rounds).items():
        rows[name] |= times
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        print("\n".join(table(rows)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="times are medians of this many (0: no times)")
    parser.add_argument(
        "--models", default=",".join(MODELS), help="some of the networks, with commas between"
    )
    parser.add_argument("--keep", action="store_true", help="recompute nothing in the backward pass")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    options.models = options.models.split(",")
    if unknown := set(options.models) - MODELS.keys():
        parser.error(f"expected some of {', '.join(MODELS)}, got {', '.join(sorted(unknown))}")
    return options


def _section(section: ModelSection, name: str, *, keep: bool) -> ModelSection:
    changes: dict[str, Any] = dict(MODELS[name])
    if keep:
        flags = {"use_checkpoint_attn": False, "use_checkpoint_ffn": False}
        changes["vrt"] = section.vrt.model_copy(update=flags)
    return section.model_copy(update=changes)


def spikes_shape(section: ModelSection, clip: tuple[int, ...], bins: int) -> tuple[int, ...] | None:
    """Return the shape of the voxels of a camera with half the frame's sides, as GoPro's simulated one."""
    return (*clip[:2], bins, clip[3] // 2, clip[4] // 2) if section.use_spike else None


def counted(section: ModelSection, bins: int) -> Row:
    """Return the parameters [M] and the work of a forward pass at each size [GMAC]."""

    def build() -> nn.Module:
        return build_model(section, num_voxel_bins=bins)

    with torch.device("meta"):
        row: Row = {"parameters_m": sum(p.numel() for p in build().parameters()) / 1e6}
    for size, clip in SIZES.items():
        flops = model_flops(build, clip, spikes_shape=spikes_shape(section, clip, bins))
        row[f"gmac_{size}"] = 1000 * tmac(flops)
    return row


def steps_of(section: ModelSection, bins: int) -> dict[str, Callable[[], object]]:
    """Return what is timed: a forward pass that keeps nothing, and one with the backward pass after it."""
    torch.manual_seed(0)
    model = build_model(section, num_voxel_bins=bins)
    shape = spikes_shape(section, SIZES[TIMED], bins)
    inputs = [torch.rand(SIZES[TIMED]), *([torch.rand(shape)] if shape else [])]

    def forward() -> None:
        with torch.inference_mode():
            model.eval()(*inputs)

    def forward_backward() -> None:
        model.train().zero_grad()
        model(*inputs).square().mean().backward()

    return {"forward_ms": forward, "forward_backward_ms": forward_backward}


def measured(steps: dict[str, dict[str, Callable[[], object]]], *, rounds: int) -> dict[str, Row]:
    """Return the median time of every step of every network [ms]; an extra first round warms them up."""
    taken = {name: {step: list[float]() for step in its} for name, its in steps.items()}
    for turn in range(rounds + 1 if rounds else 0):
        for name, its in steps.items():
            for step, run in its.items():
                began = time.perf_counter()
                run()
                if turn:
                    taken[name][step].append(1000 * (time.perf_counter() - began))
    return {
        name: {step: statistics.median(values) for step, values in its.items() if values}
        for name, its in taken.items()
    }


def table(rows: dict[str, Row]) -> Iterable[str]:
    """Yield the lines of a Markdown table."""
    heads = {
        "parameters_m": "parameters [M]",
        **{f"gmac_{size}": f"forward {size} [GMAC]" for size in SIZES},
        "forward_ms": f"forward {TIMED} [ms]",
        "forward_backward_ms": f"forward + backward {TIMED} [ms]",
    }
    yield f"| network | {' | '.join(heads.values())} |"
    yield "|---|" + "---:|" * len(heads)
    for name, row in rows.items():
        yield f"| {name} | {' | '.join(_shown(row.get(key)) for key in heads)} |"


def _shown(value: float | None) -> str:
    """Return a figure with three digits that count."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    main()
