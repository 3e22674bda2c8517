"""What each preset needs of memory, and what recommend-config makes of it, as a block at the end of its file.

    python benchmarks/preset_tables.py                    # print the blocks: a minute for each large preset
    python benchmarks/preset_tables.py --write            # put them into configs/
    python benchmarks/preset_tables.py low_memory --write
    python benchmarks/preset_tables.py quickstart_vrt --recommend --write    # on this CPU, and it quiet
    python benchmarks/preset_tables.py baseline --recommend --card a6000 --write    # a prediction

For memory nothing is run: a step is taken on fake tensors, of a GPU's chunks and autocast for the large
presets, of a CPU's for those that are made for one. Frames are those that the preset is for, GoPro's
720 x 1280 or the synthetic ones; the machine has 16 CPUs, or 2. With --recommend the steps from the preset to
what `deblurkit recommend-config` recommends stand there as well: measured where the preset is for a CPU,
predicted for the card that is named where it is for a GPU.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from deblurkit import __version__
from deblurkit.config.load import load_config
from deblurkit.config.presets import find_presets
from deblurkit.config.schema import Config
from deblurkit.files import write_text
from deblurkit.tuning.host_memory import HostMemory, predict_host
from deblurkit.tuning.step_memory import VALIDATION, DeviceKind, StepMemory, predict_step
from deblurkit.units import format_bytes

BEGIN = "# measured by: benchmarks/preset_tables.py"
END = "# end of what was measured"


class Surroundings(NamedTuple):
    """What a preset is run on: frames of the dataset, how many blurry ones train, and CPUs of the machine."""

    frame_shape: tuple[int, int]
    num_frames: int | None
    cpus: int


GOPRO = Surroundings((720, 1280), 2103, 16)
SYNTHETIC = Surroundings((96, 128), None, 2)


def main() -> None:
    """Print the blocks, or put them into the presets."""
    options = _options()
    presets = find_presets()
    for name in options.presets or presets:
        *lines, end = block(name)
        if options.recommend:
            lines += recommended(name, options.card)
        lines.append(end)
        print("\n".join([f"{name}:", *lines, ""]), flush=True)
        if options.write:
            put(presets[name], lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("presets", nargs="*", help="default: all")
    parser.add_argument("--write", action="store_true", help="put the blocks into configs/")
    parser.add_argument("--recommend", action="store_true", help="have recommend-config make a table as well")
    parser.add_argument("--card", help="card that this is predicted for, where the preset is for a GPU")
    options = parser.parse_args()
    if unknown := set(options.presets) - find_presets().keys():
        parser.error(f"expected some of {', '.join(find_presets())}, got {', '.join(sorted(unknown))}")
    return options


def block(name: str) -> Iterator[str]:
    """Yield the lines of a preset's block, the two markers with them."""
    config = load_config(name, warn=lambda text: None)
    is_large = not config.data.auto_synthetic
    kind: DeviceKind = "cuda" if is_large else "cpu"
    place = GOPRO if is_large else SYNTHETIC
    step = predict_step(config, device_kind=kind, frame_shape=place.frame_shape)
    host = predict_host(config, device_kind=kind, step=step, **place._asdict())
    today = datetime.datetime.now(datetime.UTC).date()
    yield f"{BEGIN}, {today}, deblurkit {__version__}, torch {torch.__version__}"
    yield from (f"# {line}" for line in _table(config, step, host, place))
    yield END


def _table(config: Config, step: StepMemory, host: HostMemory, place: Surroundings) -> Iterator[str]:
    on_gpu = step.device_kind == "cuda"
    frames = " x ".join(map(str, place.frame_shape))
    clips = " x ".join(str(step.clip_shape[at]) for at in (0, 1, 3, 4))
    above = sum(row.bytes or 0 for row in step.overheads)
    yield f"| memory of {'a GPU' if on_gpu else 'tensors on the CPU'}, predicted | most |"
    yield "|---|---:|"
    yield f"| training step, clips {clips} | {format_bytes(step.step_peak_bytes + above)} |"
    yield f"| validation, frames {frames} | {format_bytes(step.phases[VALIDATION] + above)} |"
    yield f"| RAM of the machine, {place.cpus} CPUs | {format_bytes(host.needed_bytes)} |"
    if on_gpu:
        effective = config.train.batch_size * config.train.gradient_accumulation_steps
        yield f"| samples/s, effective batch {effective} | not measured: no GPU was lent |"


def recommended(name: str, card: str | None) -> Iterator[str]:
    """Yield the steps from a preset to what is recommended for it, as the command's Markdown has them."""
    is_large = not load_config(name, warn=lambda text: None).data.auto_synthetic
    options = ["--gpu", card] if is_large and card is not None else []
    if is_large and not options:
        return
    command = ["recommend-config", "--preset", name, *options]
    with tempfile.TemporaryDirectory() as folder:
        tables = Path(folder) / "tables.md"
        run = [sys.executable, "-m", "deblurkit", *command, "--markdown", str(tables)]
        subprocess.run(run, check=True, stdout=subprocess.DEVNULL)
        lines = tables.read_text(encoding="utf-8").splitlines()
    yield f"# made by: deblurkit {' '.join(command)}"
    yield f"# {lines[2].removeprefix('- ')}"  # what it was measured on, or is predicted for
    rows = itertools.dropwhile(lambda line: not line.startswith("|"), lines)
    yield from (f"# {line}" for line in itertools.takewhile(lambda line: line.startswith("|"), rows))


def put(path: Path, lines: list[str]) -> None:
    """Write a block at the end of a preset, in the place of the one before."""
    write_text(path, with_block(path.read_text(encoding="utf-8"), lines))


def with_block(text: str, lines: list[str]) -> str:
    """Return a preset's text with a block at its end, and no other."""
    rest = text[: text.index(BEGIN)] if BEGIN in text else text
    return "\n".join([rest.rstrip("\n"), "", *lines, ""])


if __name__ == "__main__":
    main()
