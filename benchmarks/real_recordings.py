"""Decodes the real recordings that the `spikezoo` package ships, and shows that wrong decodings are refused.

    pip install --no-deps --target /tmp/spikezoo spikezoo
    python benchmarks/real_recordings.py /tmp/spikezoo/spikezoo

Prints the correlation of each recording's image (TFP over 33 frames at the centre) with its ground truth, and
what is said of a wrong frame size, a wrong row length, a wrong bit order, a wrong row order and a cut file;
then what `deblurkit check-data` says of the folder (its train/gt/203_part4 has no recording in the package).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np

from deblurkit.data.checks.dataset import check_dataset
from deblurkit.data.decoding_checks import check_decoding, require_plausible
from deblurkit.data.reconstruct import tfp
from deblurkit.data.spikes import SpikeGeometry, open_spikes
from deblurkit.errors import DataError
from deblurkit.render.check_data import check_as_text

GEOMETRY = SpikeGeometry(250, 400)
WINDOW = 33
WRONG = {
    "125x400": SpikeGeometry(125, 400),
    "500x200": SpikeGeometry(500, 200),
    "125x800": SpikeGeometry(125, 800),
    "625x160": SpikeGeometry(625, 160),
    "wrong bit order": SpikeGeometry(250, 400, bit_order="msb"),
    "wrong row order": SpikeGeometry(250, 400, bottom_up=False),
}


def main() -> None:
    """Print one block a recording and end with 1 if anything is not as it should be."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("spikezoo", type=Path, help="folder of the installed spikezoo package")
    root = parser.parse_args().spikezoo / "data" / "base"
    recordings = sorted(root.glob("*/spike/*.dat"))
    if not recordings:
        parser.error("no data/base/*/spike/*.dat in that folder")
    failures = sum([_report(recording) for recording in recordings])
    report = check_dataset(root)
    print(check_as_text(report), end="")
    failures += sum(problem.path in recordings for problem in report.problems)
    raise SystemExit(failures > 0)


def _report(recording: Path) -> int:
    """Print what one recording shows and return how many checks went wrong."""
    truth_path = recording.parent.parent / "gt" / f"{recording.stem}.png"
    truth = cv2.cvtColor(cv2.imread(str(truth_path)), cv2.COLOR_BGR2RGB)
    correlation = _correlation(recording, truth)
    needed = 0.97 if recording.parts[-3] == "test" else 0.93
    complaints = check_decoding(recording, GEOMETRY, reference=truth)
    print(
        f"{recording.parts[-3]}/{recording.name}: r = {correlation:.4f}; {complaints or 'accepted as it is'}"
    )
    failures = int(correlation < needed) + len(complaints)
    for name, geometry in WRONG.items():
        failures += _show_refusal(name, recording, geometry, truth)
    with tempfile.TemporaryDirectory() as folder:
        cut = Path(folder) / recording.name
        cut.write_bytes(recording.read_bytes()[:-4321])
        failures += _show_refusal("cut file", cut, GEOMETRY, truth)
    return failures


def _correlation(recording: Path, truth: np.ndarray) -> float:
    stream = open_spikes(recording, GEOMETRY)
    frames = stream.shape[0]
    image = tfp(stream.read(0, frames), frames // 2, WINDOW)
    gray = cv2.cvtColor(truth, cv2.COLOR_RGB2GRAY)
    return float(np.corrcoef(image.ravel(), gray.ravel())[0, 1])


def _show_refusal(name: str, recording: Path, geometry: SpikeGeometry, truth: np.ndarray) -> int:
    try:
        require_plausible(recording, geometry, reference=truth)
    except DataError as error:
        print(f"  {name}: refused: {str(error).removeprefix(f'{recording}: ')}")
        return 0
    print(f"  {name}: NOT REFUSED")
    return 1


if __name__ == "__main__":
    main()
