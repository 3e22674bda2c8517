"""Miniature datasets in every layout, all of them of the same simulated takes.

A test says which damage it wants by changing the files of a tree afterwards. Use the fixture ``trees``.
"""

import functools
import hashlib
import json
from dataclasses import dataclass

import cv2
import numpy as np

from deblurkit.data.manifest import FileRecord, Manifest, SequenceRecord
from deblurkit.data.scenes import draw_scene
from deblurkit.data.simulate import SpikeSensor, blur, gray, simulate_spikes
from deblurkit.data.spikes import pack_spikes, write_spikes

SENSOR = SpikeSensor(gain=0.65, gain_sigma=0.02, threshold_jitter=0.01)
SPIKES_PER_SHARP = 8
FIRST_STEM = 47  # GOPRO_Large does not count from 0 either
LEAD = 3  # sharp frames of GOPRO_Large_all before the first exposure, and after the last
S_SDM_FRAMES, S_SDM_MARGIN = 97, 20
NAMES = (("train", "GOPR0001_07_00"), ("test", "GOPR0002_11_00"))


@dataclass(frozen=True, eq=False)
class Take:
    """What a camera and a spike camera saw in one sequence.

    Attributes:
        split: train or test.
        name: ``GOPRxxxx_YY_ZZ``.
        sharp_per_exposure: YY.
        frames: all sharp frames, uint8 (LEAD + n * YY + LEAD, H, W, 3).
        spikes: of the exposures, uint8 (8 * n * YY, h, w), upright.
    """

    split: str
    name: str
    sharp_per_exposure: int
    frames: np.ndarray
    spikes: np.ndarray

    @property
    def num_frames(self):
        return (len(self.frames) - 2 * LEAD) // self.sharp_per_exposure

    @property
    def stems(self):
        return [f"{FIRST_STEM + index:06d}" for index in range(self.num_frames)]

    @property
    def spikes_per_exposure(self):
        return SPIKES_PER_SHARP * self.sharp_per_exposure

    def exposed(self, index):
        start = LEAD + index * self.sharp_per_exposure
        return self.frames[start : start + self.sharp_per_exposure]

    def blurry(self, index, variant="blur"):
        return blur(self.exposed(index), variant=variant)

    def sharp(self, index):
        return self.exposed(index)[self.sharp_per_exposure // 2]

    def exposure_spikes(self, index, frames=None, margin=0):
        """The middle ``frames`` spike frames (all by default) of an exposure, with ``margin`` around."""
        frames = self.spikes_per_exposure if frames is None else frames
        start = index * self.spikes_per_exposure + self.spikes_per_exposure // 2 - frames // 2
        assert start >= margin, "the take does not reach that far back"
        return self.spikes[start - margin : start + frames + margin]


@functools.lru_cache(maxsize=8)
def takes(names=NAMES, frames=4, size=(48, 64), spike_divisor=2):
    """Return the takes; the same arguments give the same ones, drawn once a session."""
    return tuple(_take(split, name, frames, size, spike_divisor) for split, name in names)


def _take(split, name, frames, size, spike_divisor):
    rng = np.random.default_rng(list(name.encode()))
    per_exposure = int(name.split("_")[1])
    duration = frames * per_exposure + 2 * LEAD
    scene = draw_scene(rng, size=size, duration=duration)
    drawn = np.stack([scene.render(time) for time in range(duration)])
    columns, rows = size[1] // spike_divisor, size[0] // spike_divisor
    light = [cv2.resize(gray(f), (columns, rows), interpolation=cv2.INTER_AREA) for f in drawn[LEAD:-LEAD]]
    spikes = simulate_spikes(np.stack(light), rng, SENSOR, frames_between=SPIKES_PER_SHARP)
    return Take(split, name, per_exposure, drawn, spikes)


def gopro_tree(root, taken=None, *, spikes="sequence", variants=("blur", "blur_gamma"), all_frames=False):
    """Write GOPRO_Large and its spikes below ``root`` and return the takes.

    Args:
        root: gets ``GOPRO_Large`` and what belongs beside it.
        taken: the takes; the usual ones by default.
        spikes: ``sequence`` (Spike_GOPRO_Large_all), ``frame`` (GOPRO_Large_spike_seq) or None.
        variants: folders of blurry frames.
        all_frames: also write ``GOPRO_Large_all``.
    """
    taken = takes() if taken is None else taken
    for take in taken:
        folder = root / "GOPRO_Large" / take.split / take.name
        for index, stem in enumerate(take.stems):
            for variant in variants:
                write_png(folder / variant / f"{stem}.png", take.blurry(index, variant))
            write_png(folder / "sharp" / f"{stem}.png", take.sharp(index))
            if spikes == "frame":
                below = root / "GOPRO_Large_spike_seq" / take.split / take.name / "spike"
                write_spikes(below / f"{stem}.dat", take.exposure_spikes(index))
        if spikes == "sequence":
            write_spikes(root / "Spike_GOPRO_Large_all" / take.split / take.name / "spike.dat", take.spikes)
        for number, frame in enumerate(take.frames if all_frames else ()):
            write_png(root / "GOPRO_Large_all" / take.split / take.name / f"{number:06d}.png", frame)
    return taken


def spike_gopro_tree(root, taken=None):
    """Write S-SDM's Spike-GOPRO and return the takes; their first and last frames get no spikes."""
    taken = takes() if taken is None else taken
    for take in taken:
        for index, stem in enumerate(take.stems):
            write_png(root / take.split / "blur_data" / take.name / f"{stem}.png", take.blurry(index))
            write_png(root / take.split / "sharp_data" / take.name / f"{stem}.png", take.sharp(index))
            if 0 < index < take.num_frames - 1:
                spikes = take.exposure_spikes(index, S_SDM_FRAMES, S_SDM_MARGIN)
                write_spikes(root / take.split / "spike_data" / take.name / f"{stem}.dat", spikes)
    return taken


def triples_tree(root, taken=None, *, config=True, name=lambda take: f"clip{take.name[4:8]}"):
    """Write triples, one recording a frame, and return the takes.

    Args:
        root: gets ``train`` and ``test``.
        taken: the takes; the usual ones by default.
        config: also write the config.yaml that tells the spikes' size.
        name: names a take's sequence; GOPRO_Large's names would leave the layout in doubt.
    """
    taken = takes() if taken is None else taken
    for take in taken:
        folder = root / take.split / name(take)
        for index, stem in enumerate(take.stems):
            write_png(folder / "blur" / f"{stem}.png", take.blurry(index))
            write_png(folder / "sharp" / f"{stem}.png", take.sharp(index))
            write_spikes(folder / "spike" / f"{stem}.dat", take.exposure_spikes(index))
    if config:
        height, width = taken[0].spikes.shape[1:]
        (root / "config.yaml").write_text(f"spike_h: {height}\nspike_w: {width}\n")
    return taken


def unified_tree(root, taken=None):
    """Write our own layout, by hand and not by the writer under test, and return the takes."""
    taken = takes() if taken is None else taken
    records = []
    for take in taken:
        folder = root / take.split / take.name
        for index, stem in enumerate(take.stems):
            write_png(folder / "blur" / f"{stem}.png", take.blurry(index))
            write_png(folder / "sharp" / f"{stem}.png", take.sharp(index))
        (folder / "spikes.dat").write_bytes(pack_spikes(take.spikes).tobytes())
        records.append(
            SequenceRecord(
                split=take.split,
                name=take.name,
                stems=take.stems,
                spike_starts=[index * take.spikes_per_exposure for index in range(take.num_frames)],
                spike_frames_per_exposure=take.spikes_per_exposure,
                sharp_frames_per_exposure=take.sharp_per_exposure,
            )
        )
    manifest = Manifest(
        name=root.name,
        source={"made_by": "tests"},
        blur_variant="blur",
        frame_shape=taken[0].frames.shape[1:3],
        spike_shape=taken[0].spikes.shape[1:],
        spikes_per_sharp_frame=SPIKES_PER_SHARP,
        sequences=records,
        files={str(p.relative_to(root)): _record(p) for p in sorted(root.rglob("*.*")) if p.is_file()},
    )
    content = json.loads(manifest.model_dump_json(by_alias=True))
    (root / "manifest.json").write_text(json.dumps(content, indent=1))
    return taken


def recordings_tree(root, taken=None, *, frames=41):
    """Write bare recordings with the sharp image at their centre, and return the takes (of odd YY)."""
    taken = takes() if taken is None else taken
    for take in taken:
        spikes = take.exposure_spikes(1)  # its centre is the sharp frame's
        start = (len(spikes) - frames + 1) // 2
        write_spikes(root / take.split / "spike" / f"{take.name}.dat", spikes[start : start + frames])
        write_png(root / take.split / "gt" / f"{take.name}.png", take.sharp(1))
    return taken


def write_png(path, rgb):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))


def _record(path):
    data = path.read_bytes()
    return FileRecord(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
