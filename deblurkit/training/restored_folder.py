"""The folder that restored frames lie in: what it says it is of, and the video made of them."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

from deblurkit.data.inputs import Input
from deblurkit.data.layouts.listing import described
from deblurkit.data.layouts.source import read_image
from deblurkit.errors import DataError, DeblurkitError
from deblurkit.files import replaced_file, write_text

RECORD = "restore.json"  # what a folder of frames is of; the same command goes on where it stopped
VIDEO = "restored.mp4"
_UNFINISHED = re.compile(r"\.(restore\.json|restored\.mp4|.+\.png)\.\w{8}\.partial")  # `files.replaced_file`


def record_of(output: Path, asked: dict[str, Any]) -> dict[str, Any] | None:
    """Return what a folder says it is of, None where it is free.

    What a kill has left of files that were being written does not count.

    Raises:
        DeblurkitError: if it holds anything but a part of the same work.
    """
    if output.exists() and not output.is_dir():
        raise DeblurkitError(f"--output {output}: is a file, a folder expected")
    if not output.exists() or not [path for path in output.iterdir() if not _is_unfinished(path)]:
        return None
    try:
        record: dict[str, Any] = json.loads((output / RECORD).read_text(encoding="utf-8"))
        others = [key for key, value in asked.items() if record[key] != _as_stored(value)]
    except (OSError, ValueError, KeyError, TypeError):
        raise DeblurkitError(
            f"--output {output}: is not empty ({described(output)}); choose another folder, nothing is"
            " overwritten"
        ) from None
    if others:
        before, now = (json.dumps(values[others[0]]) for values in (record, asked))
        raise DeblurkitError(
            f"--output {output}: holds frames of other work ({others[0]}: {before} then, {now} now);"
            " choose another folder, nothing is overwritten"
        )
    return record


def _is_unfinished(path: Path) -> bool:
    return _UNFINISHED.fullmatch(path.name) is not None


def _as_stored(value: Any) -> Any:
    return json.loads(json.dumps(value))


def begin(output: Path, record: dict[str, Any]) -> None:
    """Write down what the frames of a folder are of, unless that is there; remove what a kill has left."""
    for path in output.glob(".*.partial"):
        if _is_unfinished(path):
            path.unlink(missing_ok=True)
    if not (output / RECORD).is_file():
        write_text(output / RECORD, json.dumps(record, indent=2) + "\n")


def pyav() -> ModuleType:
    """Return PyAV.

    Raises:
        DataError: if it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise DataError("--video needs PyAV: pip install 'deblurkit[video]'") from error
    return av


def write_video(output: Path, frames: Input) -> Path:
    """Write the restored frames as H.264 and return the file; it appears when it is whole."""
    av = pyav()
    path = output / VIDEO
    height, width = frames.shape
    with replaced_file(path) as file, av.open(file, "w", format="mp4") as container:
        rate = Fraction(frames.frame_rate or 30).limit_denominator(1001)
        stream = container.add_stream("libx264", rate=rate, options={"crf": "15"})
        stream.height, stream.width = height, width
        stream.pix_fmt = "yuv420p" if height % 2 == width % 2 == 0 else "yuv444p"
        for name in frames.names:
            picture = read_image(output / f"{name}.png")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path
