"""Expected frames come from the network called by hand on the frames and spikes of the dataset."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from deblurkit.config.schema import as_values
from deblurkit.data.spikes import SpikeGeometry
from deblurkit.data.unified import open_dataset
from deblurkit.errors import DataError, DeblurkitError, UsageError
from deblurkit.models.registry import build_model
from deblurkit.models.unet import ClipUNet
from deblurkit.training import restore as restoring
from deblurkit.training import restore_work
from deblurkit.training.checkpoint import save_checkpoint
from deblurkit.training.interrupt import InterruptedRun
from deblurkit.training.optim import build_optimizer
from deblurkit.training.precision import Precision
from deblurkit.training.restore import SpikeFile, restore
from deblurkit.training.tiling import Tile

CPU = torch.device("cpu")


@pytest.fixture
def saved(tiny_config, tmp_path):
    """Return a function that writes a checkpoint of an untrained network, and gives it and the network."""

    def make(*overrides):
        config = tiny_config("DATA.CLIP_LEN=3", *overrides)
        torch.manual_seed(0)
        model = build_model(config.model, num_voxel_bins=config.data.num_voxel_bins).eval()
        if config.model.arch != "vrt":
            nn.init.normal_(model.frames_out.weight, std=0.1)  # it starts at zero, and would do nothing
        path = tmp_path / "step_00000001.pt"
        save_checkpoint(
            path,
            step=1,
            config=as_values(config),
            model=model,
            optimizer=build_optimizer(config.train.optim, model, device=CPU, warn=pytest.fail),
            precision=Precision(CPU, None),
            extra={},
        )
        return path, model

    return make


@pytest.fixture
def sequence(dataset_root):
    (found,) = open_dataset(dataset_root).sequences("test")
    return found


def pictures(folder):
    return [cv2.imread(str(path))[..., ::-1] for path in sorted(Path(folder).glob("*.png"))]


def by_hand(model, sequence, start, stop, spikes=True):
    """The network on frames ``start`` to ``stop``, values from 0 to 255."""
    blurry = np.stack([sequence.read_blurry(t) for t in range(start, stop)])
    blurry = torch.from_numpy(blurry).permute(0, 3, 1, 2)[None].float() / 255
    voxels = None
    if spikes:
        length = sequence.spike_frames_per_exposure
        bits = [torch.from_numpy(sequence.read_spikes(t)).float() for t in range(start, stop)]
        voxels = torch.stack([b.view(4, length // 4, *b.shape[1:]).mean(1) for b in bits])[None]
    with torch.no_grad():
        return model(blurry, voxels)[0].permute(0, 2, 3, 1).numpy() * 255


VRT = [
    "MODEL.ARCH=vrt",
    "MODEL.WINDOW_SIZE=4",
    "MODEL.VRT_DEPTHS=[1,1,1,1,1,1,1,1]",
    "MODEL.VRT.EMBED_DIMS=[8,8]",
    "MODEL.VRT.NUM_HEADS=2",
    "MODEL.VRT.DEFORMABLE_GROUPS=2",
    "DATA.CROP_SIZE=48",
]


@pytest.mark.parametrize("keys", [(), VRT], ids=["unet", "vrt"])
def test_frames_are_those_of_the_network_blended_in_time(saved, sequence, tmp_path, keys):
    path, model = saved(*keys)
    told = []
    result = restore(
        path,
        sequence.folder,
        output=tmp_path / "out",
        device="cpu",
        warn=pytest.fail,
        progress=lambda *count: told.append(count),
    )
    first, second = by_hand(model, sequence, 0, 3), by_hand(model, sequence, 2, 5)
    expected = [*first[:2], (first[2] + second[0]) / 2, *second[1:]]
    for picture, frame in zip(pictures(tmp_path / "out"), expected, strict=True):
        assert np.abs(picture - np.clip(frame, 0, 255)).max() <= 0.5 + 1e-3
    assert [p.stem for p in sorted((tmp_path / "out").glob("*.png"))] == list(sequence.stems)
    assert (result.frames, result.restored, result.spikes, result.tiles) == (5, 5, "recorded", 2)
    assert told == [(1, 2), (2, 2)]
    assert json.loads(restoring.as_json(result))["tile"] == [3, 48, 64]


def test_a_recording_is_paired_with_pictures(saved, sequence, tmp_path):
    path, _ = saved()
    restore(path, sequence.folder, output=tmp_path / "whole", device="cpu", warn=pytest.fail)
    spikes = SpikeFile(sequence.folder / "spikes.dat", SpikeGeometry(24, 32))
    folder = sequence.folder / "blur"
    restore(path, folder, output=tmp_path / "paired", spikes=spikes, device="cpu", warn=pytest.fail)
    assert np.array_equal(pictures(tmp_path / "whole"), pictures(tmp_path / "paired"))


def test_tiles_change_little_and_the_same_tiles_nothing(saved, sequence, tmp_path):
    path, _ = saved()
    outputs = [tmp_path / name for name in ("whole", "tiled", "again")]
    for output, tile in zip(outputs, (None, Tile(0, 32, 40), Tile(0, 32, 40)), strict=True):
        result = restore(path, sequence.folder, output=output, tile=tile, device="cpu", warn=pytest.fail)
    assert (result.tiles, result.tile, result.overlap) == (2 * 2 * 2, (3, 32, 40), (1, 8, 10))
    whole, tiled, again = (np.array(pictures(output), dtype=int) for output in outputs)
    assert np.array_equal(tiled, again)
    assert 0 < np.abs(whole - tiled).max() < 64 and np.abs(whole - tiled).mean() < 2


def test_without_spikes_it_says_what_is_missing(saved, sequence, tmp_path):
    path, _ = saved()
    with pytest.raises(DataError, match="comes without spikes.* --spikes FILE, or --no-spikes"):
        restore(path, sequence.folder / "blur", output=tmp_path / "out", device="cpu", warn=pytest.fail)
    assert not (tmp_path / "out").exists()
    warnings = []
    result = restore(
        path,
        sequence.folder / "blur",
        output=tmp_path / "out",
        no_spikes=True,
        device="cpu",
        warn=warnings.append,
    )
    assert result.spikes == "zeroed" and len(warnings) == 1 and "expect worse" in warnings[0]


def test_a_network_without_spikes_needs_none(saved, sequence, tmp_path):
    path, model = saved("MODEL.USE_SPIKE=false")
    result = restore(path, sequence.folder, output=tmp_path / "out", device="cpu", warn=pytest.fail)
    expected = np.clip(by_hand(model, sequence, 0, 3, spikes=False)[0], 0, 255)
    assert result.spikes == "none"
    assert np.abs(pictures(tmp_path / "out")[0] - expected).max() <= 0.5 + 1e-3
    spikes = SpikeFile(sequence.folder / "spikes.dat")
    with pytest.raises(UsageError, match="trained without spikes"):
        restore(path, sequence.folder, output=tmp_path / "b", spikes=spikes, device="cpu", warn=pytest.fail)


def test_work_that_was_stopped_goes_on_and_gives_the_same_frames(saved, sequence, tmp_path):
    path, _ = saved()
    restore(path, sequence.folder, output=tmp_path / "whole", device="cpu", warn=pytest.fail)

    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    arguments = {"output": tmp_path / "out", "device": "cpu", "warn": pytest.fail}
    with pytest.raises(
        InterruptedRun, match="stopped; 2 of 5 frames are in .*, each of them whole"
    ) as caught:
        restore(path, sequence.folder, **arguments, progress=stop)
    assert caught.value.exit_code == 130
    assert len(pictures(tmp_path / "out")) == 2
    times = [p.stat().st_mtime_ns for p in sorted((tmp_path / "out").glob("*.png"))]
    result = restore(path, sequence.folder, **arguments)
    assert result.restored == 3
    assert times == [p.stat().st_mtime_ns for p in sorted((tmp_path / "out").glob("*.png"))][:2]
    assert np.array_equal(pictures(tmp_path / "out"), pictures(tmp_path / "whole"))


def test_nothing_is_overwritten(saved, sequence, tmp_path):
    path, _ = saved()
    arguments = {"device": "cpu", "warn": pytest.fail}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "000000.png").write_bytes(b"precious")
    with pytest.raises(DeblurkitError, match=r"mine: is not empty \(000000.png\); choose another folder"):
        restore(path, sequence.folder, output=tmp_path / "mine", **arguments)
    assert (tmp_path / "mine" / "000000.png").read_bytes() == b"precious"
    restore(path, sequence.folder, output=tmp_path / "out", **arguments)
    with pytest.raises(DeblurkitError, match=r"other work \(--tile: null then, \[0, 32, 40\] now\)"):
        restore(path, sequence.folder, output=tmp_path / "out", tile=Tile(0, 32, 40), **arguments)
    saved("MODEL.NUM_BLOCKS=2")  # another network in the same file
    with pytest.raises(DeblurkitError, match=r"other work \(weights: "):
        restore(path, sequence.folder, output=tmp_path / "out", **arguments)


@pytest.mark.parametrize(
    ("tile", "overlap", "text"),
    [
        (
            Tile(3, 32, 32),
            Tile(1, 20, 8),
            "--overlap: expected at most half of the tile of 32 x 32 px, got 20 x 8",
        ),
        (Tile(3, 0, 32), None, "--tile: expected at least 1 x 1 x 1"),
    ],
)
def test_tiles_that_make_no_sense_are_refused(saved, sequence, tmp_path, tile, overlap, text):
    path, _ = saved()
    with pytest.raises(UsageError, match=text):
        restore(
            path,
            sequence.folder,
            output=tmp_path / "out",
            tile=tile,
            overlap=overlap,
            device="cpu",
            warn=pytest.fail,
        )


def test_a_video_comes_out_as_frames_and_as_a_video(saved, tmp_path):
    av = pytest.importorskip("av")
    frames = np.random.default_rng(0).integers(0, 256, (4, 48, 64, 3), dtype=np.uint8)
    with av.open(str(tmp_path / "a.mov"), "w") as container:
        stream = container.add_stream("png", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "rgb24"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    path, _ = saved("MODEL.USE_SPIKE=false")
    result = restore(
        path, tmp_path / "a.mov", output=tmp_path / "out", video=True, device="cpu", warn=pytest.fail
    )
    assert len(pictures(tmp_path / "out")) == 4
    with av.open(result.video) as container:
        stream = container.streams.video[0]
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert (len(decoded), float(stream.average_rate)) == (4, 25)
    restored = pictures(tmp_path / "out")[0].astype(float)
    assert decoded[0].shape == restored.shape
    assert np.abs(cv2.blur(restored, (9, 9)) - cv2.blur(decoded[0].astype(float), (9, 9))).mean() < 6


def test_a_single_picture_is_a_clip_too(saved, tmp_path):
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in" / "photo.jpg"), np.full((50, 70, 3), 90, np.uint8))
    path, _ = saved("MODEL.USE_SPIKE=false")
    result = restore(path, tmp_path / "in", output=tmp_path / "out", device="cpu", warn=pytest.fail)
    assert (result.frames, result.tile) == (1, (1, 50, 70))
    assert cv2.imread(str(tmp_path / "out" / "photo.png")).shape == (50, 70, 3)


def test_a_clip_that_is_too_small_for_the_network_is_refused(saved, tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in" / "0.png"), np.zeros((48, 64, 3), np.uint8))
    path, _ = saved("MODEL.USE_SPIKE=false")
    monkeypatch.setattr(restore_work, "smallest_clip", lambda section: (2, 33, 33))  # as VRT's
    with pytest.raises(DataError, match=r"clips of at least 2 x 33 x 33 .*, got 1 x 48 x 64"):
        restore(path, tmp_path / "in", output=tmp_path / "out", device="cpu", warn=pytest.fail)


def test_another_geometry_or_another_recording_is_other_work(saved, sequence, tmp_path):
    """The same file read as frames of another size: what was made of it is not what the second run wants."""
    path, _ = saved()
    recording = tmp_path / "spikes.dat"
    recording.write_bytes((sequence.folder / "spikes.dat").read_bytes())

    def run(rows, columns):
        spikes = SpikeFile(recording, SpikeGeometry(rows, columns))
        blurry = sequence.folder / "blur"
        return restore(path, blurry, output=tmp_path / "out", spikes=spikes, device="cpu", warn=pytest.fail)

    assert run(12, 64 // 4).restored == 5
    with pytest.raises(DeblurkitError, match=r'other work \(--spikes: .*"12x16".* then, .*"24x32"'):
        run(24, 32)
    assert run(12, 16).restored == 0
    os.utime(recording, ns=(1, 1))  # another file of the same name and size
    with pytest.raises(DeblurkitError, match="other work"):
        run(12, 16)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"tile": Tile(0, 32, 40), "memory_gib": 4.0}, "--tile and --memory: give one of them"),
        ({"no_spikes": True}, "--no-spikes: this network was trained without spikes"),
    ],
)
def test_options_that_would_be_ignored_are_refused(saved, sequence, tmp_path, options, text):
    path, _ = saved("MODEL.USE_SPIKE=false")
    with pytest.raises(UsageError, match=text):
        restore(path, sequence.folder, output=tmp_path / "out", device="cpu", warn=pytest.fail, **options)
    assert not (tmp_path / "out").exists()


def test_memory_that_does_not_suffice_is_explained(saved, sequence, tmp_path, monkeypatch):
    path, _ = saved()

    def full(*arguments):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(ClipUNet, "forward", full)
    with pytest.raises(DeblurkitError) as caught:
        restore(path, sequence.folder, output=tmp_path / "out", device="cpu", warn=pytest.fail)
    text = str(caught.value)
    assert text.startswith("host memory has run out")
    assert "a tile of 3 x 48 x 64 " in text and "--tile 3x24x32" in text and "TRAIN." not in text


def test_one_of_several_processes_is_refused(saved, sequence, tmp_path, monkeypatch):
    path, _ = saved()
    for name, value in {"RANK": 1, "WORLD_SIZE": 2, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(UsageError, match=r"restore: works in one process, got 2 \(WORLD_SIZE\)"):
        restore(path, sequence.folder, output=tmp_path / "out", device="cpu", warn=pytest.fail)
