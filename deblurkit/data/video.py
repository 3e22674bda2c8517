"""A dataset from sharp high-rate video: frames become blurry ones and drive a spike simulator."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from deblurkit.data.dataset_writer import DatasetWriter, check_free
from deblurkit.data.manifest import Split
from deblurkit.data.simulate import BlurVariant, Camera, Exposure, SpikeSensor, expose
from deblurkit.data.unified import UnifiedDataset, open_dataset
from deblurkit.errors import DataError

Frame: TypeAlias = NDArray[np.uint8]
Progress: TypeAlias = Callable[[int, int], None]  # frames done, frames in all

VIDEO_SENSOR = SpikeSensor(
    gain=0.7, gain_sigma=0.02, threshold_jitter=0.01, false_spike_interval=(140.0, 50.0)
)


@dataclass(frozen=True)
class VideoInfo:
    """What a video file says of itself before it is decoded; ``num_frames`` counts its packets."""

    path: Path
    height: int
    width: int
    num_frames: int
    frame_rate: float | None


@dataclass(frozen=True)
class _Cut:
    """One sequence to make: ``num_frames`` blurry frames of a file, after those of the cut before it."""

    split: Split
    name: str
    num_frames: int


def make_from_videos(
    root: Path | str,
    files: Sequence[Path | str],
    *,
    exposure_frames: int = 7,
    spikes_per_frame: int = 8,
    spike_scale: float = 0.5,
    height: int | None = None,
    max_frames: int = 100,
    test_share: float = 0.2,
    blur_variant: BlurVariant = "blur",
    seed: int = 0,
    sensor: SpikeSensor = VIDEO_SENSOR,
    progress: Progress | None = None,
) -> UnifiedDataset:
    """Return a dataset made of sharp videos, written to ``root``.

    Each run of ``exposure_frames`` frames becomes one blurry frame, whose sharp one is its centre. The test
    split is the last files where there are several, and the last part of the time where there is one.

    Args:
        root: the dataset's folder; must not exist or be empty.
        files: videos that PyAV can decode; all are cropped around their middle to the size they share.
        exposure_frames: sharp frames in an exposure; odd.
        spikes_per_frame: spike frames in the time of one sharp frame.
        spike_scale: spike pixels for each frame pixel along a side: 1, 0.5, 0.25 or 0.125.
        height: rows to resize each video to, keeping its aspect; None leaves it.
        max_frames: blurry frames in one sequence at most; longer videos become several sequences.
        test_share: share of the files, or of the time, that goes to the test split; 0 for none.
        blur_variant: how light is averaged.
        seed: of the simulated sensor.
        sensor: its gain, threshold and noise.
        progress: told the blurry frames done and the number expected.

    Raises:
        DataError: if PyAV is missing, a file is no readable video or too short, or ``root`` is taken.
    """
    root = Path(root)
    _check_settings(files, exposure_frames, spikes_per_frame, max_frames, test_share)
    check_free(root.absolute())
    videos = [probe_video(Path(file)) for file in files]
    plan = _plan(videos, exposure_frames=exposure_frames, max_frames=max_frames, test_share=test_share)
    frame_shape = _shared_shape(videos, height=height, multiple=_multiple(spike_scale))
    camera = Camera(
        sensor=sensor,
        spike_shape=(round(frame_shape[0] * spike_scale), round(frame_shape[1] * spike_scale)),
        sharp_per_exposure=exposure_frames,
        spikes_per_sharp=spikes_per_frame,
        blur_variant=blur_variant,
    )
    report = _Counter(sum(cut.num_frames for cuts in plan for cut in cuts), progress)
    with DatasetWriter(
        root,
        name=root.absolute().name,
        source=_source(videos, seed),
        blur_variant=blur_variant,
        frame_shape=frame_shape,
        spike_shape=camera.spike_shape,
        spikes_per_sharp_frame=spikes_per_frame,
        frame_rate=_blurry_rate(videos, exposure_frames),
        sensor=sensor.as_dict(),
    ) as writer:
        for index, (video, cuts) in enumerate(zip(videos, plan, strict=True)):
            frames = (_fit(frame, height, frame_shape, path=video.path) for frame in decode_video(video.path))
            rng = np.random.default_rng([seed, index])
            before = report.done
            for cut in cuts:
                _write_cut(writer, cut, expose(_of_cut(frames, cut, camera), rng, camera), camera, report)
            _check_decoded(video, found=report.done - before, expected=sum(cut.num_frames for cut in cuts))
    return open_dataset(root)


def probe_video(path: Path) -> VideoInfo:
    """Return a video's size, rate and number of frames, counted without decoding them.

    Raises:
        DataError: if PyAV is missing, or the file is missing, unreadable or without a picture.
    """
    av = _import_av()
    with _open(av, path) as container:
        stream = container.streams.video[0]
        try:
            num_frames = sum(1 for packet in container.demux(stream) if packet.size)
        except av.FFmpegError as error:
            raise DataError(f"{path}: damaged video: {error.strerror}") from error
        rate = stream.average_rate
        return VideoInfo(
            path=path,
            height=stream.codec_context.height,
            width=stream.codec_context.width,
            num_frames=num_frames,
            frame_rate=float(rate) if rate else None,
        )


def _import_av() -> ModuleType:
    try:
        import av
    except ImportError as error:
        raise DataError("reading video needs PyAV: pip install 'deblurkit[video]'") from error
    return av


def _open(av: ModuleType, path: Path) -> Any:
    """Return an open container that has a video stream."""
    if not path.is_file():
        raise DataError(f"{path}: {'is not a file' if path.exists() else 'no such video'}")
    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"{path}: cannot be read as a video: {error.strerror}") from error
    if not container.streams.video:
        container.close()
        raise DataError(f"{path}: has no video stream")
    return container


def decode_video(path: Path) -> Iterator[Frame]:
    """Yield the frames of a video, RGB uint8 (H, W, 3)."""
    av = _import_av()
    with _open(av, path) as container:
        try:
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="rgb24")
        except av.FFmpegError as error:
            raise DataError(f"{path}: damaged video: {error.strerror}") from error


def _plan(
    videos: list[VideoInfo], *, exposure_frames: int, max_frames: int, test_share: float
) -> list[list[_Cut]]:
    """Return the sequences to cut from each video, in its order of time."""
    totals = [video.num_frames // exposure_frames for video in videos]
    needed = 2 if len(videos) == 1 and test_share else 1
    for video, total in zip(videos, totals, strict=True):
        if total < needed:
            raise DataError(
                f"{video.path}: {video.num_frames} frames are too few: "
                f"{needed} exposures of {exposure_frames} need {needed * exposure_frames}"
            )
    names = _names(videos)
    if len(videos) == 1:
        num_test = _test_count(totals[0], test_share)
        parts: list[tuple[Split, int]] = [("train", totals[0] - num_test), ("test", num_test)]
        return [list(_cuts(names[0], parts, max_frames))]
    first_test = len(videos) - _test_count(len(videos), test_share)
    return [
        list(_cuts(name, [("train" if index < first_test else "test", total)], max_frames))
        for index, (name, total) in enumerate(zip(names, totals, strict=True))
    ]


def _test_count(total: int, share: float) -> int:
    """Return how many of ``total`` go to the test split: none for a share of 0, else neither none nor all."""
    return min(max(round(total * share), 1), total - 1) if share else 0


def _cuts(name: str, parts: list[tuple[Split, int]], max_frames: int) -> Iterator[_Cut]:
    for split, total in parts:
        starts = range(0, total, max_frames)
        for index, start in enumerate(starts):
            suffix = f"_{index:03d}" if len(starts) > 1 else ""
            yield _Cut(split=split, name=f"{name}{suffix}", num_frames=min(max_frames, total - start))


def _names(videos: list[VideoInfo]) -> list[str]:
    """Return a plain folder name for each video, numbered where two would be the same."""
    names: list[str] = []
    for video in videos:
        kept = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in video.path.stem)
        name = kept.lstrip("-") or "video"
        numbered = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
        names.append(next(free for free in numbered if free not in names))
    return names


def _multiple(spike_scale: float) -> int:
    """Return what the frames' sides must be a multiple of for spike rows of whole bytes."""
    if spike_scale not in (1, 0.5, 0.25, 0.125):
        raise ValueError(f"spike_scale is 1, 0.5, 0.25 or 0.125, not {spike_scale}")
    return round(8 / spike_scale)


def _shared_shape(videos: list[VideoInfo], *, height: int | None, multiple: int) -> tuple[int, int]:
    """Return the largest frame that fits into every resized video, its sides multiples of ``multiple``."""
    shapes = [_resized(video.height, video.width, height) for video in videos]
    rows, columns = (min(lengths) // multiple * multiple for lengths in zip(*shapes, strict=True))
    if not rows or not columns:
        smallest = videos[min(range(len(shapes)), key=lambda index: min(shapes[index]))]
        raise DataError(
            f"{smallest.path}: {smallest.height}x{smallest.width} pixels, {multiple} a side needed"
        )
    return rows, columns


def _resized(rows: int, columns: int, height: int | None) -> tuple[int, int]:
    return (rows, columns) if height is None else (height, round(columns * height / rows))


def _fit(frame: Frame, height: int | None, shape: tuple[int, int], *, path: Path) -> Frame:
    """Return a frame resized to ``height`` and cropped around its middle, uint8 (H, W, 3)."""
    rows, columns = _resized(frame.shape[0], frame.shape[1], height)
    if (rows, columns) != frame.shape[:2]:
        shrinking = rows < frame.shape[0]
        interpolation = cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC
        frame = np.asarray(cv2.resize(frame, (columns, rows), interpolation=interpolation), dtype=np.uint8)
    top, left = (rows - shape[0]) // 2, (columns - shape[1]) // 2
    if top < 0 or left < 0:
        raise DataError(f"{path}: its frames become smaller on the way, {rows}x{columns} pixels")
    return np.ascontiguousarray(frame[top : top + shape[0], left : left + shape[1]])


class _Counter:
    """Blurry frames done, passed on to whoever watches."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.done = 0
        self._total = total
        self._progress = progress

    def add(self) -> None:
        self.done += 1
        if self._progress is not None:
            self._progress(self.done, self._total)


def _of_cut(frames: Iterator[Frame], cut: _Cut, camera: Camera) -> Iterator[Frame]:
    return itertools.islice(frames, cut.num_frames * camera.sharp_per_exposure)


def _write_cut(
    writer: DatasetWriter, cut: _Cut, exposures: Iterator[Exposure], camera: Camera, report: _Counter
) -> None:
    """Write the exposures of one sequence; none at all where the video has ended before it."""
    first = next(exposures, None)
    if first is None:
        return
    with writer.sequence(
        cut.split,
        cut.name,
        spike_frames_per_exposure=camera.spikes_per_exposure,
        sharp_frames_per_exposure=camera.sharp_per_exposure,
    ) as sequence:
        for exposure in itertools.chain([first], exposures):
            sequence.add(**exposure._asdict())
            report.add()


def _check_decoded(video: VideoInfo, *, found: int, expected: int) -> None:
    """Refuse a video that ends long before its packets do; a few may be frames never shown."""
    if found < 0.9 * expected:
        raise DataError(f"{video.path}: damaged: decodes to {found} exposures where {expected} were expected")


def _source(videos: list[VideoInfo], seed: int) -> dict[str, JsonValue]:
    names: list[JsonValue] = [video.path.name for video in videos]
    return {"made_by": "deblurkit prepare-data video", "files": names, "seed": seed}


def _blurry_rate(videos: list[VideoInfo], exposure_frames: int) -> float | None:
    """Return the blurry frames a second that all videos share, None where they do not."""
    rates = {video.frame_rate for video in videos}
    rate = rates.pop()
    return rate / exposure_frames if rate is not None and not rates else None


def _check_settings(
    files: Sequence[Path | str],
    exposure_frames: int,
    spikes_per_frame: int,
    max_frames: int,
    test_share: float,
) -> None:
    if not files:
        raise DataError("no video given")
    if exposure_frames < 1 or exposure_frames % 2 == 0:
        raise DataError(f"an exposure has an odd number of frames, one its centre; got {exposure_frames}")
    if spikes_per_frame < 1 or max_frames < 1:
        raise DataError(
            f"at least one spike frame and one blurry frame expected, got {spikes_per_frame} and {max_frames}"
        )
    if not 0 <= test_share < 1:
        raise DataError(f"a test share from 0 up to but not including 1 expected, got {test_share}")
