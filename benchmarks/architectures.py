"""Architecture by mixed precision: seconds of an epoch and memory of a step, measured and predicted.

    python benchmarks/architectures.py                                # small, on a CPU: minutes
    python benchmarks/architectures.py --large --device cuda          # the sizes of the preset baseline
    python benchmarks/architectures.py --write docs/architectures.md  # put the table into the document
    python benchmarks/architectures.py --networks baseline convnext --rounds 1 --json

Every case is tried in a process of its own, in turns, so that what else the machine does falls on all of
them alike; one that runs out of memory, hangs or crashes is a row that says so. Clips are random: loading is
not in it. An epoch is the clips of the synthetic data that the presets draw or, with --large, of GoPro.
"""

from __future__ import annotations

import argparse
import datetime
import inspect
import itertools
import json
import statistics
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from deblurkit import __version__
from deblurkit.config.load import load_config
from deblurkit.config.schema import Config
from deblurkit.data.synthetic import make_synthetic
from deblurkit.files import write_text
from deblurkit.models.vrt.half import cpu_multiplies_bf16
from deblurkit.tuning.recommend.hardware import describe_hardware
from deblurkit.tuning.recommend.records import Candidate, Trial
from deblurkit.tuning.recommend.trials import run_trial
from deblurkit.tuning.step_memory import DeviceKind, predict_step
from deblurkit.units import format_bytes, format_duration, format_ms, format_rate, plural

NETWORKS = ("baseline", "convnext", "vrt")
PRECISIONS = {"float32": "false", "AMP (bf16)": "true"}
BEGIN, END = "<!-- benchmarks/architectures.py -->", "<!-- end -->"
GOPRO_SEQUENCES, GOPRO_FRAMES = 22, 2103  # of the training split
LIMIT = 900.0  # seconds that a trial may take


@dataclass(frozen=True)
class Row:
    """A network at a precision.

    Attributes:
        step_seconds: median of the rounds' medians; None where none was measured.
        epoch_seconds: at that rate.
        peak_bytes: most bytes of tensors in a step, as they were counted.
        predicted_bytes: likewise, told before.
        remark: why there is no figure, or what it is of.
    """

    network: str
    precision: str
    samples_per_step: int
    step_seconds: float | None
    epoch_seconds: float | None
    peak_bytes: int | None
    predicted_bytes: int
    remark: str


def main() -> None:
    """Print the table, put it into a file, or print JSON."""
    options = _options()
    configs = {
        (network, precision): _config(network, precision, large=options.large, device=options.device)
        for network, precision in itertools.product(options.networks, PRECISIONS)
    }
    trials = measured(configs, rounds=options.rounds)
    rows = [_row(case, configs[case], trials[case], large=options.large) for case in configs]
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return
    lines = [*_head(configs, options), "", *table(rows)]
    print("\n".join(lines))
    if options.write is not None:
        put(options.write, lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=3, help="trials of each case; the median counts")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--large", action="store_true", help="the sizes of the preset baseline, for a GPU")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table between its markers there")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _config(network: str, precision: str, *, large: bool, device: str) -> Config:
    light = [] if large else ["MODEL.BASE_CHANNELS=24", "MODEL.NUM_BLOCKS=1"]  # as in the preset quickstart
    settings = [
        f"MODEL.ARCH={network}",
        f"TRAIN.AMP_ENABLED={PRECISIONS[precision]}",
        f"TRAIN.DEVICE={device}",
        *light,
    ]
    return load_config("baseline" if large else "quickstart_vrt", None, settings, warn=lambda text: None)


def measured(configs: dict[tuple[str, str], Config], *, rounds: int) -> dict[tuple[str, str], list[Trial]]:
    """Return the trials of each case, taken round by round through all of them; memory in the first one."""
    trials: dict[tuple[str, str], list[Trial]] = {case: [] for case in configs}
    for turn, (case, config) in itertools.product(range(rounds), configs.items()):
        candidate = Candidate({}, config, {"network": case[0], "precision": case[1]})
        trials[case].append(run_trial(candidate, limit_seconds=LIMIT, follow_memory=turn == 0))
        print(f"round {turn + 1} of {rounds}, {' '.join(case)}: {trials[case][-1].outcome}", file=sys.stderr)
    return trials


def _row(case: tuple[str, str], config: Config, trials: Sequence[Trial], *, large: bool) -> Row:
    steps = [statistics.median(trial.step_seconds) for trial in trials if trial.outcome == "measured"]
    step = statistics.median(steps) if steps else None
    samples = config.train.batch_size * config.train.gradient_accumulation_steps
    kind: DeviceKind = "cuda" if config.train.device == "cuda" else "cpu"
    return Row(
        network=case[0],
        precision=case[1],
        samples_per_step=samples,
        step_seconds=step,
        epoch_seconds=None if step is None else clips_of_epoch(config, large=large) / samples * step,
        peak_bytes=next((trial.peak_bytes for trial in trials if trial.peak_bytes), None),
        predicted_bytes=predict_step(config, device_kind=kind).step_peak_bytes,
        remark=_remark(config, trials),
    )


def clips_of_epoch(config: Config, *, large: bool) -> int:
    """Return the runs of CLIP_LEN frames in the training split: one less for each frame of a clip but one."""
    if large:
        return GOPRO_FRAMES - GOPRO_SEQUENCES * (config.data.clip_len - 1)
    drawn = inspect.signature(make_synthetic).parameters
    sequences, frames = drawn["num_train"].default, drawn["frames_per_sequence"].default
    return int(sequences * (frames - config.data.clip_len + 1))


def _remark(config: Config, trials: Sequence[Trial]) -> str:
    missing = next((trial for trial in trials if trial.outcome != "measured"), None)
    if missing is not None:
        return f"{missing.outcome}: {missing.detail}" if missing.detail else missing.outcome
    is_imitated = config.train.amp_enabled and config.train.device == "cpu" and not cpu_multiplies_bf16()
    if not is_imitated:
        return ""
    if config.model.arch == "vrt":
        return "computes in float32: this CPU has no 16-bit products"
    return "this CPU imitates 16-bit products"


def _head(configs: dict[tuple[str, str], Config], options: argparse.Namespace) -> Iterator[str]:
    config = next(iter(configs.values()))
    data, train = config.data, config.train
    clip = f"{data.train_clip} x {data.train_crop} x {data.train_crop}"
    command = "python benchmarks/architectures.py" + (" --large" if options.large else "")
    yield f"Measured on {describe_hardware(options.device)}, {datetime.datetime.now(datetime.UTC).date()}, by"
    yield f"`{command} --device {options.device} --rounds {options.rounds}`,"
    yield f"deblurkit {__version__}, torch {torch.__version__}: clips {clip},"
    micro_steps = plural(train.gradient_accumulation_steps, "micro-step")
    yield f"{micro_steps} of {plural(train.batch_size, 'clip')} to a step,"
    yield f"{clips_of_epoch(config, large=options.large):,} clips to an epoch."


def table(rows: Sequence[Row]) -> Iterable[str]:
    """Yield the lines of a Markdown table."""
    fastest = {row.network: row.step_seconds for row in rows if row.precision == "float32"}
    yield "| network | precision | step | samples/s | against float32 | epoch | memory | predicted | |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|---|"
    for row in rows:
        cells = [
            row.network,
            row.precision,
            *_times(row, fastest.get(row.network)),
            *_memory(row),
            row.remark,
        ]
        yield f"| {' | '.join(cells)} |"


def _times(row: Row, float32: float | None) -> list[str]:
    if row.step_seconds is None or row.epoch_seconds is None:
        return ["-"] * 4
    gain = "-" if float32 is None else f"{float32 / row.step_seconds:.2f} x"
    rate = format_rate(row.samples_per_step / row.step_seconds)
    return [format_ms(1000 * row.step_seconds), rate, gain, format_duration(row.epoch_seconds)]


def _memory(row: Row) -> list[str]:
    predicted = format_bytes(row.predicted_bytes)
    if row.peak_bytes is None:
        return ["-", predicted]
    return [format_bytes(row.peak_bytes), f"{predicted} ({row.predicted_bytes / row.peak_bytes - 1:+.1%})"]


def put(path: Path, lines: Sequence[str]) -> None:
    """Write the table between the markers of a document, in the place of the one before."""
    text = path.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    write_text(path, "\n".join([f"{before}{BEGIN}", "", *lines, "", f"{END}{after}"]))


if __name__ == "__main__":
    main()
