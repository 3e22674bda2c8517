"""A spike camera and a slow shutter, simulated from sharp frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Literal, NamedTuple, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Frame: TypeAlias = NDArray[np.uint8]
Light: TypeAlias = NDArray[np.float32]

BlurVariant = Literal["blur", "blur_gamma"]

BT601 = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_GAMMA = 2.2


@dataclass(frozen=True)
class SpikeSensor:
    """What a pixel does with light: V += gain * I; fire at V >= threshold; V -= threshold.

    Attributes:
        gain: charge that light 1 adds in one spike frame; light 1 fires at min(1, gain / threshold) a frame.
        threshold: charge at which a pixel fires; what is above it stays.
        dark_current: charge added in every frame without light.
        gain_sigma: relative standard deviation of the gain from pixel to pixel.
        threshold_jitter: relative standard deviation of the threshold, drawn anew after each spike.
        false_spike_interval: mean and standard deviation, in frames, of the gap between spikes that no light
            caused (140 and 50 have been seen); None for none.
    """

    gain: float = 1.0
    threshold: float = 1.0
    dark_current: float = 0.0
    gain_sigma: float = 0.0
    threshold_jitter: float = 0.0
    false_spike_interval: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.gain <= 0 or self.threshold <= 0:
            raise ValueError(f"gain and threshold are positive, got {self.gain} and {self.threshold}")
        if min(self.dark_current, self.gain_sigma, self.threshold_jitter) < 0:
            raise ValueError(f"dark current, gain sigma and threshold jitter are not negative: {self}")
        if self.false_spike_interval is not None and self.false_spike_interval[0] < 1:
            raise ValueError(f"false spikes come at most once a frame: {self}")

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as JSON has them, for a manifest."""
        interval = self.false_spike_interval
        return {**asdict(self), "false_spike_interval": None if interval is None else list(interval)}


@dataclass(frozen=True)
class Camera:
    """A frame camera with a slow shutter and a spike sensor that see the same scene.

    Attributes:
        sensor: gain, threshold and noise of the spike sensor.
        spike_shape: its rows and columns; light is averaged over its pixels' areas.
        sharp_per_exposure: sharp frames in an exposure; odd, so that one of them is the centre.
        spikes_per_sharp: spike frames in the time of one sharp frame.
        blur_variant: how light is averaged into the blurry frame.
    """

    sensor: SpikeSensor
    spike_shape: tuple[int, int]
    sharp_per_exposure: int
    spikes_per_sharp: int = 8
    blur_variant: BlurVariant = "blur"

    def __post_init__(self) -> None:
        if self.sharp_per_exposure < 1 or self.sharp_per_exposure % 2 == 0:
            raise ValueError(f"an odd number of sharp frames has a centre; got {self.sharp_per_exposure}")

    @property
    def spikes_per_exposure(self) -> int:
        """Spike frames in one exposure."""
        return self.sharp_per_exposure * self.spikes_per_sharp


class Exposure(NamedTuple):
    """One blurry frame, the sharp frame at its centre, and the spikes of the same time."""

    blurry: Frame
    sharp: Frame
    spikes: Frame


def gray(rgb: Frame) -> Light:
    """Return the luminance of uint8 RGB, (..., 3) -> float32 (...) in [0, 1], by ITU-R BT.601."""
    return (rgb.astype(np.float32) @ BT601) / np.float32(255.0)


def simulate_spikes(
    luminance: Light, rng: np.random.Generator, sensor: SpikeSensor, *, frames_between: int = 8
) -> Frame:
    """Return the spikes that a sensor gives for sharp frames, uint8 (N * frames_between, h, w) of 0 and 1.

    Args:
        luminance: float (N, h, w) in [0, 1].
        rng: draws the charge at the start, uniform over [0, threshold), and the noise.
        sensor: gain, threshold and noise.
        frames_between: spike frames for each sharp one.
    """
    if luminance.ndim != 3 or not len(luminance):
        raise ValueError(f"luminance of shape (N, h, w) expected, got {luminance.shape}")
    return np.stack(list(spike_frames(iter(luminance), rng, sensor, frames_between=frames_between)))


def spike_frames(
    luminances: Iterable[Light], rng: np.random.Generator, sensor: SpikeSensor, *, frames_between: int = 8
) -> Iterator[Frame]:
    """Yield spike frames, uint8 (h, w), of a stream of sharp luminances (h, w), holding two at a time."""
    pixels: _Pixels | None = None
    for light in interpolate(luminances, frames_between=frames_between):
        if pixels is None:
            pixels = _Pixels(light.shape, rng, sensor)
        yield pixels.step(light)


def interpolate(frames: Iterable[Light], *, frames_between: int) -> Iterator[Light]:
    """Yield ``frames_between`` frames for each one given, by linear interpolation in time.

    Output j lies at sharp position (j + 1/2) / frames_between - 1/2, held at the first and the last frame:
    each sharp frame stands in the middle of its own group, so an exposure and its spikes share one centre.
    """
    if frames_between < 1:
        raise ValueError(f"at least one spike frame for each sharp one expected, got {frames_between}")
    lead = frames_between // 2
    offset = (lead + 0.5) / frames_between - 0.5  # of the first output at or after a sharp frame
    last: Light | None = None
    for frame in frames:
        if last is None:
            yield from (frame for _ in range(lead))
        else:
            for index in range(frames_between):
                share = np.float32(offset + index / frames_between)
                yield last + share * (frame - last)
        last = frame
    if last is not None:
        for _ in range(frames_between - lead):
            yield last


def blur(frames: Frame, *, variant: BlurVariant = "blur") -> Frame:
    """Return the blurry frame that an exposure over sharp ones gives: uint8 (n, H, W, 3) -> uint8 (H, W, 3).

    ``blur`` is the plain mean; ``blur_gamma`` is (mean of I^2.2)^(1/2.2), light averaged before the camera's
    curve. They are the two variants of the GoPro data (arXiv:1612.02177).
    """
    if variant == "blur":
        mean = frames.mean(axis=0, dtype=np.float32)
    elif variant == "blur_gamma":
        linear = (np.arange(256, dtype=np.float32) / 255) ** np.float32(_GAMMA)
        mean = 255 * linear[frames].mean(axis=0, dtype=np.float32) ** np.float32(1 / _GAMMA)
    else:
        raise ValueError(f"variant is blur or blur_gamma, not {variant!r}")
    rounded: Frame = np.rint(mean).clip(0, 255).astype(np.uint8)
    return rounded


def expose(frames: Iterable[Frame], rng: np.random.Generator, camera: Camera) -> Iterator[Exposure]:
    """Yield one exposure for each ``camera.sharp_per_exposure`` sharp frames; no gap lies between two.

    The stream is read as it is needed: one exposure is held at a time. Frames left over at the end, too few
    for an exposure, are dropped.

    Args:
        frames: uint8 (H, W, 3) RGB at a high rate.
        rng: draws the sensor's start and noise.
        camera: the exposure, the spike sensor and how they share time.
    """
    held: deque[Frame] = deque()

    def luminances() -> Iterator[Light]:
        for frame in frames:
            held.append(frame)
            yield _to_sensor(frame, camera.spike_shape)

    stream = spike_frames(luminances(), rng, camera.sensor, frames_between=camera.spikes_per_sharp)
    while len(spikes := list(islice(stream, camera.spikes_per_exposure))) == camera.spikes_per_exposure:
        group = np.stack([held.popleft() for _ in range(camera.sharp_per_exposure)])  # (n, H, W, 3)
        yield Exposure(
            blurry=blur(group, variant=camera.blur_variant),
            sharp=group[camera.sharp_per_exposure // 2],
            spikes=np.stack(spikes),
        )


def _to_sensor(frame: Frame, spike_shape: tuple[int, int]) -> Light:
    height, width = spike_shape
    resized = cv2.resize(gray(frame), (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(resized, dtype=np.float32)


class _Pixels:
    """The charge of every pixel, (h, w), from one spike frame to the next."""

    def __init__(self, shape: tuple[int, ...], rng: np.random.Generator, sensor: SpikeSensor) -> None:
        self._rng = rng
        self._sensor = sensor
        self._charge = rng.uniform(0.0, sensor.threshold, size=shape)
        self._gain = sensor.gain * np.maximum(1 + sensor.gain_sigma * rng.standard_normal(shape), 0.0)
        self._threshold = np.full(shape, sensor.threshold)
        if sensor.false_spike_interval is not None:
            self._until_false = rng.uniform(0.0, sensor.false_spike_interval[0], size=shape)

    def step(self, light: Light) -> Frame:
        """Return which pixels fire in a frame of this light, uint8 (h, w)."""
        # A pixel cannot fire twice in a frame: charge beyond a threshold would pile up and outlast the light.
        arriving = np.minimum(self._gain * light + self._sensor.dark_current, self._sensor.threshold)
        self._charge += arriving
        fired = self._charge >= self._threshold
        self._charge -= self._threshold * fired
        if self._sensor.threshold_jitter:
            self._redraw_thresholds(fired)
        if self._sensor.false_spike_interval is not None:
            fired |= self._false_spikes(*self._sensor.false_spike_interval)
        return fired.astype(np.uint8)

    def _redraw_thresholds(self, fired: NDArray[np.bool_]) -> None:
        factors = 1 + self._sensor.threshold_jitter * self._rng.standard_normal(int(fired.sum()))
        self._threshold[fired] = self._sensor.threshold * np.maximum(factors, 0.1)

    def _false_spikes(self, mean: float, deviation: float) -> NDArray[np.bool_]:
        """Return where a renewal process of normal gaps fires in this frame."""
        self._until_false -= 1
        due = self._until_false < 0
        self._until_false[due] += np.maximum(self._rng.normal(mean, deviation, size=int(due.sum())), 1.0)
        return np.asarray(due)
