"""Procedural scenes: textured layers with crisp edges that move as real things do, drawn at any time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Frame: TypeAlias = NDArray[np.uint8]
Texture: TypeAlias = NDArray[np.float32]  # (h, w, 4): premultiplied RGB and opacity, all in [0, 1]

_SUPERSAMPLING = 4


@dataclass(frozen=True)
class Motion:
    """Where a layer is at a time: position, angle and size, each with its rate of change.

    Lengths are in pixels, angles in radians, times in sharp frames; rates are per frame.
    """

    position: tuple[float, float]
    velocity: tuple[float, float] = (0.0, 0.0)
    acceleration: tuple[float, float] = (0.0, 0.0)
    angle: float = 0.0
    spin: float = 0.0
    zoom_rate: float = 0.0

    def at(self, time: float) -> tuple[float, float, float, float]:
        """Return x, y, angle and scale at ``time``."""
        x, y = (
            start + speed * time + 0.5 * change * time * time
            for start, speed, change in zip(self.position, self.velocity, self.acceleration, strict=True)
        )
        return x, y, self.angle + self.spin * time, float(np.exp(self.zoom_rate * time))


@dataclass(frozen=True)
class Shake:
    """A hand-held camera: a sum of sine waves in x and y, in pixels."""

    amplitudes: NDArray[np.float64]  # (2, waves)
    frequencies: NDArray[np.float64]  # (2, waves), radians a frame
    phases: NDArray[np.float64]  # (2, waves)

    def at(self, time: float) -> tuple[float, float]:
        """Return the shift of the picture at ``time``."""
        x, y = (self.amplitudes * np.sin(self.frequencies * time + self.phases)).sum(axis=1)
        return float(x), float(y)


@dataclass(frozen=True)
class Layer:
    """A texture, how it moves, and how much of the camera's shake it shows (1 near, less far away)."""

    texture: Texture
    motion: Motion
    nearness: float
    fills_frame: bool = False


@dataclass(frozen=True)
class Scene:
    """Layers from back to front."""

    size: tuple[int, int]
    layers: tuple[Layer, ...]
    shake: Shake

    def render(self, time: float) -> Frame:
        """Return the scene at ``time``, in sharp frames: RGB, uint8 (H, W, 3)."""
        canvas = np.zeros((*self.size, 3), dtype=np.float32)
        shake_x, shake_y = self.shake.at(time)
        for layer in self.layers:
            x, y, angle, scale = layer.motion.at(time)
            centre = (x + layer.nearness * shake_x, y + layer.nearness * shake_y)
            drawn = _place(layer, self.size, centre=centre, angle=angle, scale=scale)
            canvas *= 1 - drawn[..., 3:]
            canvas += drawn[..., :3]
        rendered: Frame = np.rint(255 * canvas.clip(0, 1)).astype(np.uint8)
        return rendered


def draw_scene(
    rng: np.random.Generator, *, size: tuple[int, int], duration: float, speed: float = 1.0
) -> Scene:
    """Return a scene with a drifting background, three to six things that cross it, and a shaking camera.

    Args:
        rng: decides everything; the same state gives the same scene.
        size: rows and columns of the rendered frames.
        duration: sharp frames it will be watched for; things are in sight around the middle of it.
        speed: factor on all motion.
    """
    unit = min(size) / 96  # motion and size grow with the frame
    layers = [_background(rng, size=size, duration=duration, speed=speed * unit)]
    for index in range(int(rng.integers(3, 7))):
        layers.append(_thing(rng, index, size=size, duration=duration, speed=speed * unit))
    waves = 3
    shake = Shake(
        amplitudes=rng.uniform(0.2, 1.0, (2, waves)) * unit * speed * np.array([2.5, 1.2, 0.5]),
        frequencies=rng.uniform(0.7, 1.3, (2, waves)) * np.array([0.12, 0.3, 0.7]),
        phases=rng.uniform(0, 2 * np.pi, (2, waves)),
    )
    return Scene(size=size, layers=tuple(layers), shake=shake)


def octave_noise(
    rng: np.random.Generator, shape: tuple[int, int], *, octaves: int = 5, persistence: float = 0.6
) -> NDArray[np.float32]:
    """Return noise with detail at several scales, float32 (h, w), stretched to [0, 1].

    Octave k is white noise on a grid of cells half as wide as those of octave k - 1, enlarged smoothly and
    weighted by persistence^k.
    """
    height, width = shape
    total = np.zeros(shape, dtype=np.float32)
    for octave in range(octaves):
        cells = 3 * 2**octave
        grid = rng.standard_normal((cells, max(round(cells * width / height), 1))).astype(np.float32)
        total += persistence**octave * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    low, high = float(total.min()), float(total.max())
    return (total - low) / np.float32(max(high - low, 1e-6))


def _place(
    layer: Layer, size: tuple[int, int], *, centre: tuple[float, float], angle: float, scale: float
) -> Texture:
    """Return the layer turned, scaled and moved into a frame, (H, W, 4)."""
    height, width = layer.texture.shape[:2]
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    turn = np.array([[cosine, -sine], [sine, cosine]])
    matrix = np.column_stack([turn, np.array(centre) - turn @ middle])
    # A layer that fills the frame goes on beyond its edges, mirrored: no hole opens however it drifts.
    border = cv2.BORDER_REFLECT if layer.fills_frame else cv2.BORDER_CONSTANT
    drawn = cv2.warpAffine(
        layer.texture, matrix, (size[1], size[0]), flags=cv2.INTER_LINEAR, borderMode=border, borderValue=0
    )
    return np.asarray(drawn, dtype=np.float32)


def _background(rng: np.random.Generator, *, size: tuple[int, int], duration: float, speed: float) -> Layer:
    """Return a texture larger than the frame: noise in two colours, with a pattern over a part of it."""
    shape = (2 * size[0], 2 * size[1])
    noise = octave_noise(rng, shape, octaves=6, persistence=0.75)[..., None]
    colours = _colours(rng)
    colour = colours[0] * noise + colours[1] * (1 - noise)  # (h, w, 3)
    pattern = PATTERNS[int(rng.integers(len(PATTERNS)))](rng, shape)[..., None]
    where = octave_noise(rng, shape, octaves=3)[..., None] > 0.5
    colour = np.where(where, colour * (0.45 + 0.75 * pattern), colour)
    texture = np.concatenate([colour.clip(0, 1), np.ones((*shape, 1))], axis=2).astype(np.float32)
    velocity = _direction(rng) * rng.uniform(0.35, 0.8) * speed
    motion = _through(
        (size[1] / 2, size[0] / 2), velocity, rng, duration=duration, spin=0.003, zoom=0.002, speed=speed
    )
    return Layer(texture=texture, motion=motion, nearness=0.6, fills_frame=True)


def _thing(
    rng: np.random.Generator, index: int, *, size: tuple[int, int], duration: float, speed: float
) -> Layer:
    """Return something with a crisp outline that crosses the frame; later ones are nearer and quicker."""
    extent = int(min(size) * rng.uniform(0.25, 0.55))
    shape = (extent, int(extent * rng.uniform(0.7, 1.4)))
    colours = _colours(rng)
    pattern = PATTERNS[int(rng.integers(len(PATTERNS)))](rng, shape)[..., None]
    shading = 0.7 + 0.3 * octave_noise(rng, shape, octaves=4)[..., None]
    colour = (colours[0] * pattern + colours[1] * (1 - pattern)) * shading  # (h, w, 3)
    outline = OUTLINES[int(rng.integers(len(OUTLINES)))](rng, shape)[..., None]
    texture = np.concatenate([colour * outline, outline], axis=2).astype(np.float32)
    velocity = _direction(rng) * rng.uniform(0.5, 1.5) * speed
    middle = (size[1] * rng.uniform(0.2, 0.8), size[0] * rng.uniform(0.2, 0.8))
    motion = _through(middle, velocity, rng, duration=duration, spin=0.02, zoom=0.004, speed=speed)
    return Layer(texture=texture, motion=motion, nearness=0.7 + 0.1 * index)


def _through(
    middle: tuple[float, float],
    velocity: NDArray[np.float64],
    rng: np.random.Generator,
    *,
    duration: float,
    spin: float,
    zoom: float,
    speed: float,
) -> Motion:
    """Return a motion that is at ``middle`` half-way, with a random turn, zoom and change of pace."""
    half = duration / 2
    acceleration = rng.standard_normal(2) * 0.6 * speed / max(duration, 1.0)
    start = np.array(middle) - velocity * half - 0.5 * acceleration * half * half
    return Motion(
        position=(float(start[0]), float(start[1])),
        velocity=(float(velocity[0]), float(velocity[1])),
        acceleration=(float(acceleration[0]), float(acceleration[1])),
        angle=float(rng.uniform(0, 2 * np.pi)),
        spin=float(rng.normal(0, spin)),
        # Over a long watch a steady zoom would grow out of bounds: at most a factor of 1.6 in all.
        zoom_rate=float(np.clip(rng.normal(0, zoom), -0.5 / duration, 0.5 / duration)),
    )


def _direction(rng: np.random.Generator) -> NDArray[np.float64]:
    angle = rng.uniform(0, 2 * np.pi)
    return np.array([np.cos(angle), np.sin(angle)])


def _colours(rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a light and a dark colour of unrelated hues, (3,) each, in [0, 1]."""
    return rng.uniform(0.45, 1.0, 3), rng.uniform(0.0, 0.4, 3)


def _grid(shape: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the coordinates of a supersampled texture's points, in pixels from its middle."""
    height, width = (_SUPERSAMPLING * length for length in shape)
    y, x = np.mgrid[:height, :width]
    return ((y + 0.5 - height / 2) / _SUPERSAMPLING, (x + 0.5 - width / 2) / _SUPERSAMPLING)


def _shrink(mask: NDArray[np.bool_], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return a supersampled mask at its real size: edges as crisp as the pixels allow, without stairs."""
    small = cv2.resize(mask.astype(np.float32), (shape[1], shape[0]), interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.float32)


def _checkers(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float32]:
    y, x = _grid(shape)
    cell = rng.uniform(4, 10)
    return _shrink((np.floor(y / cell) + np.floor(x / cell)) % 2 == 0, shape)


def _stripes(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float32]:
    y, x = _grid(shape)
    direction = _direction(rng)
    return _shrink(((direction[0] * x + direction[1] * y) / rng.uniform(5, 12)) % 1 < 0.5, shape)


def _rings(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float32]:
    y, x = _grid(shape)
    return _shrink((np.hypot(x, y) / rng.uniform(6, 12)) % 1 < 0.5, shape)


def _glyphs(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return rows of made-up letters: strokes between random points of a 3 x 3 grid."""
    cell = int(rng.integers(9, 15)) * _SUPERSAMPLING
    height, width = (_SUPERSAMPLING * length for length in shape)
    page = np.zeros((height, width), dtype=np.uint8)
    for top in range(0, height, cell):
        for left in range(0, width, cell):
            points = (rng.integers(0, 3, (4, 2)) * 0.32 + 0.18) * cell + np.array([left, top])
            line = np.rint(points).astype(np.int32).reshape(-1, 1, 2)
            cv2.polylines(page, [line], isClosed=False, color=1, thickness=cell // 8)
    return _shrink(page > 0, shape)


def _ellipse(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float32]:
    y, x = _grid(shape)
    return _shrink((2 * x / shape[1]) ** 2 + (2 * y / shape[0]) ** 2 < 0.95, shape)


def _box(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float32]:
    y, x = _grid(shape)
    return _shrink((np.abs(x) < 0.47 * shape[1]) & (np.abs(y) < 0.47 * shape[0]), shape)


def _star(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float32]:
    y, x = _grid(shape)
    radius = np.hypot(2 * x / shape[1], 2 * y / shape[0])
    points, turn = int(rng.integers(3, 8)), rng.uniform(0, 2 * np.pi)
    return _shrink(radius < 0.7 + 0.25 * np.cos(points * np.arctan2(y, x) + turn), shape)


Pattern: TypeAlias = Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float32]]
PATTERNS: tuple[Pattern, ...] = (_checkers, _stripes, _rings, _glyphs)
OUTLINES: tuple[Pattern, ...] = (_ellipse, _box, _star)
