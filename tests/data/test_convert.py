import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from deblurkit.data.convert import convert
from deblurkit.data.layouts.detect import detect_layout
from deblurkit.data.layouts.gopro import read_gopro
from deblurkit.data.layouts.gopro_all import SpikeSimulation, find_all_frames
from deblurkit.data.layouts.spike_gopro import read_spike_gopro
from deblurkit.data.layouts.triples import read_triples
from deblurkit.data.simulate import gray
from deblurkit.data.unified import open_dataset, verify_checksums
from deblurkit.errors import DataError


def content(root):
    """Every file below a folder."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def sequences(dataset):
    return [s for split in ("train", "test") for s in dataset.sequences(split)]


def assert_same_samples(dataset, source):
    for ours, theirs in zip(sequences(dataset), source.sequences, strict=True):
        assert ours.split == theirs.split and ours.name == theirs.name
        assert ours.stems.tolist() == [exposure.stem for exposure in theirs.exposures]
        for index in range(theirs.num_frames):
            np.testing.assert_array_equal(ours.read_blurry(index), theirs.read_blurry(index))
            np.testing.assert_array_equal(ours.read_sharp(index), theirs.read_sharp(index))
            for margin in (0, source.spike_margin):
                np.testing.assert_array_equal(
                    ours.read_spikes(index, margin=margin), theirs.read_spikes(index, margin=margin)
                )


TREES = {
    "gopro by the sequence": lambda trees, root: trees.gopro_tree(root),
    "gopro by the frame": lambda trees, root: trees.gopro_tree(root, spikes="frame"),
    "spike-gopro": lambda trees, root: trees.spike_gopro_tree(root),
    "triples": lambda trees, root: trees.triples_tree(root),
    "unified": lambda trees, root: trees.unified_tree(root),
}


@pytest.mark.parametrize("layout", TREES)
def test_samples_are_those_of_the_source(tmp_path, trees, layout):
    TREES[layout](trees, tmp_path / "raw")
    source = detect_layout(tmp_path / "raw").read(tmp_path / "raw")
    dataset = convert(source, tmp_path / "data", workers=1)
    assert_same_samples(dataset, source)
    verify_checksums(dataset)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "raw"]
    for sequence in source.sequences:  # PNGs are copied as they are
        exposure = sequence.exposures[0]
        copied = dataset.root / sequence.split / sequence.name / "sharp" / f"{exposure.stem}.png"
        assert copied.read_bytes() == exposure.sharp.read_bytes()


def test_the_same_takes_give_the_same_samples_in_every_layout(tmp_path, trees):
    """The four layouts with all spikes of an exposure are equal; Spike-GOPRO has other frames of them."""
    made = {}
    for layout, write in TREES.items():
        write(trees, tmp_path / "raw" / layout)
        source = detect_layout(tmp_path / "raw" / layout).read(tmp_path / "raw" / layout)
        made[layout] = sequences(convert(source, tmp_path / "made" / layout.replace(" ", "-"), workers=1))
    inner = made.pop("spike-gopro")
    first, *others = made.values()
    for other in others:
        for one, two in zip(first, other, strict=True):
            for index in range(one.num_frames):
                np.testing.assert_array_equal(one.read_blurry(index), two.read_blurry(index))
                np.testing.assert_array_equal(one.read_sharp(index), two.read_sharp(index))
                np.testing.assert_array_equal(one.read_spikes(index), two.read_spikes(index))
    for one, two in zip(first, inner, strict=True):
        stream = np.concatenate([one.read_spikes(index) for index in range(one.num_frames)])
        for index in range(two.num_frames):
            np.testing.assert_array_equal(one.read_blurry(index + 1), two.read_blurry(index))
            np.testing.assert_array_equal(one.read_sharp(index + 1), two.read_sharp(index))
            middle = (2 * index + 3) * one.spike_frames_per_exposure // 2
            np.testing.assert_array_equal(
                two.read_spikes(index, margin=20), stream[middle - 68 : middle + 69]
            )


def test_the_manifest_says_where_it_comes_from_and_how_it_was_read(tmp_path, trees):
    trees.gopro_tree(tmp_path / "raw")
    source = read_gopro(tmp_path / "raw", blur_variant="blur_gamma", central_spikes=56, spike_shift=-2)
    manifest = convert(source, tmp_path / "data", workers=1).manifest
    assert manifest.source == {
        "made_by": "deblurkit prepare-data gopro",
        "layout": "gopro",
        "root": "raw",
        "spikes": "Spike_GOPRO_Large_all",
        "spikes_by": "sequence",
        "central_spikes": 56,
        "spike_shift": -2,
    }
    assert (manifest.blur_variant, manifest.spike_margin, manifest.spikes_per_sharp_frame) == (
        "blur_gamma",
        0,
        8,
    )
    assert [(r.spike_frames_per_exposure, r.sharp_frames_per_exposure) for r in manifest.sequences] == [
        (56, 7),
        (56, 11),
    ]
    assert [record.stems[0] for record in manifest.sequences] == ["000048", "000047"]  # two frames too early
    assert manifest.sensor is None


def test_margins_land_in_the_manifest_and_in_the_spikes(tmp_path, trees):
    trees.spike_gopro_tree(tmp_path / "raw")
    manifest = convert(read_spike_gopro(tmp_path / "raw"), tmp_path / "data", workers=1).manifest
    assert manifest.spike_margin == 20
    assert [record.spike_starts for record in manifest.sequences] == [[20, 157], [20, 157]]
    assert (tmp_path / "data/train/GOPR0001_07_00/spikes.dat").stat().st_size == 2 * 137 * 96


def test_any_number_of_workers_writes_the_same_bytes(tmp_path, trees):
    trees.gopro_tree(tmp_path / "raw")
    source = read_gopro(tmp_path / "raw")
    seen = []
    for workers in (1, 2, 3):
        convert(
            source,
            tmp_path / str(workers) / "data",
            workers=workers,
            progress=lambda *counts: seen.append(counts),
        )
        assert seen[-1] == (8, 8)
    assert content(tmp_path / "1") == content(tmp_path / "2") == content(tmp_path / "3")


def test_spikes_are_never_made_up(tmp_path, trees):
    trees.gopro_tree(tmp_path / "raw", spikes="frame")
    lost = sorted((tmp_path / "raw").glob("GOPRO_Large_spike_seq/*/*/spike/*.dat"))[1]
    lost.unlink()
    with pytest.raises(DataError) as caught:
        convert(read_gopro(tmp_path / "raw"), tmp_path / "data", workers=1)
    assert str(caught.value) == f"{lost}: missing; what was never recorded is not made up"
    for path in lost.parent.iterdir():
        path.unlink()
    with pytest.raises(DataError, match="missing, and so are 3 other files"):
        convert(read_gopro(tmp_path / "raw"), tmp_path / "data", workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_damaged_file_is_one_line_and_what_is_whole_stays(tmp_path, trees, workers):
    trees.triples_tree(tmp_path / "raw")
    source = read_triples(tmp_path / "raw")
    path = source.sequences[1].exposures[2].blurry
    whole, said = path.read_bytes(), []
    path.write_bytes(whole[:-30])
    with pytest.raises(DataError) as caught:
        convert(source, tmp_path / "data", workers=workers, say=said.append)
    assert str(caught.value) == f"{path}: damaged: not a readable image, or cut"
    assert not (tmp_path / "data").exists()
    path.write_bytes(whole)
    assert_same_samples(convert(source, tmp_path / "data", workers=1, say=said.append), source)
    if workers == 1:  # two may both have been at work
        folder = tmp_path / ".data.unfinished"
        assert said == [
            f"1 of 2 sequences stay in {folder}; the same command goes on from there",
            f"going on with {folder}: 1 of 2 sequences are there",
        ]


def test_frames_of_another_size_are_refused(tmp_path, trees):
    trees.triples_tree(tmp_path / "raw")
    source = read_triples(tmp_path / "raw")
    path = source.sequences[1].exposures[2].sharp
    trees.write_png(path, np.zeros((48, 72, 3), np.uint8))
    with pytest.raises(DataError, match=r"000049\.png: \(48, 72\) pixels, the first frame has \(48, 64\)"):
        convert(source, tmp_path / "data", workers=1)


def test_images_of_another_kind_become_pngs(tmp_path, trees):
    trees.triples_tree(tmp_path / "raw")
    source = read_triples(tmp_path / "raw")
    path = source.sequences[0].exposures[0].blurry
    path.write_bytes(cv2.imencode(".bmp", cv2.imread(str(path)))[1].tobytes())
    dataset = convert(source, tmp_path / "data", workers=1)
    assert_same_samples(dataset, source)
    assert (dataset.root / "train/clip0001/blur/000047.png").read_bytes().startswith(b"\x89PNG")


KILLED = """
import os, signal, sys
from pathlib import Path
from deblurkit.data.convert import convert
from deblurkit.data.layouts.gopro import read_gopro

def progress(done, total):
    if done == 6:
        os.kill(os.getpid(), signal.SIGKILL)

convert(read_gopro(Path(sys.argv[1])), sys.argv[2], workers=1, progress=progress)
"""


def test_after_a_kill_the_same_call_goes_on_and_gives_the_same_bytes(tmp_path, trees):
    trees.gopro_tree(tmp_path / "raw")
    source = read_gopro(tmp_path / "raw")
    convert(source, tmp_path / "once" / "data", workers=1)
    output = tmp_path / "twice" / "data"
    killed = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "raw", output], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [path.name for path in output.parent.iterdir()] == [".data.unfinished"]
    kept = output.parent / ".data.unfinished/dataset/train/GOPR0001_07_00/spikes.dat"
    number, said = kept.stat().st_ino, []
    convert(source, output, workers=2, say=said.append)
    assert said == [f"going on with {output.parent / '.data.unfinished'}: 1 of 2 sequences are there"]
    assert (output / "train/GOPR0001_07_00/spikes.dat").stat().st_ino == number  # not written again
    assert content(tmp_path / "twice") == content(tmp_path / "once")


@pytest.mark.parametrize("workers", [1, 2])
def test_after_ctrl_c_the_same_call_goes_on_and_gives_the_same_bytes(tmp_path, trees, workers):
    trees.gopro_tree(tmp_path / "raw")
    source = read_gopro(tmp_path / "raw")
    convert(source, tmp_path / "once" / "data", workers=1)

    def interrupt(done, total):
        if done >= 5:
            raise KeyboardInterrupt

    said = []
    with pytest.raises(KeyboardInterrupt):
        convert(source, tmp_path / "twice/data", workers=workers, progress=interrupt, say=said.append)
    assert "the same command goes on from there" in said[0]
    assert not (tmp_path / "twice/data").exists()
    convert(source, tmp_path / "twice/data", workers=workers)
    assert content(tmp_path / "twice") == content(tmp_path / "once")


def interrupted(source, root, frames=5):
    def interrupt(done, total):
        if done == frames:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(source, root, workers=1, progress=interrupt)


def test_an_interrupt_before_anything_is_whole_leaves_nothing(tmp_path, trees):
    trees.gopro_tree(tmp_path / "raw")
    interrupted(read_gopro(tmp_path / "raw"), tmp_path / "data", frames=2)
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_other_options_start_anew(tmp_path, trees):
    trees.gopro_tree(tmp_path / "raw")
    interrupted(read_gopro(tmp_path / "raw"), tmp_path / "data")
    source, said = read_gopro(tmp_path / "raw", blur_variant="blur_gamma"), []
    dataset = convert(source, tmp_path / "data", workers=1, say=said.append)
    assert said == []
    assert_same_samples(dataset, source)


def test_a_source_file_that_has_changed_has_its_sequence_written_again(tmp_path, trees):
    trees.gopro_tree(tmp_path / "raw")
    source, said = read_gopro(tmp_path / "raw"), []
    interrupted(source, tmp_path / "data")
    path = source.sequences[0].exposures[0].sharp
    trees.write_png(path, 255 - source.sequences[0].read_sharp(0))
    os.utime(path, ns=(1, 1))
    assert_same_samples(convert(source, tmp_path / "data", workers=1, say=said.append), source)
    assert said == []


def test_damage_to_what_was_kept_is_mended(tmp_path, trees):
    trees.gopro_tree(tmp_path / "raw")
    source = read_gopro(tmp_path / "raw")
    interrupted(source, tmp_path / "data")
    kept = tmp_path / ".data.unfinished/dataset/train/GOPR0001_07_00/sharp/000048.png"
    kept.write_bytes(bytes(kept.stat().st_size))
    assert_same_samples(convert(source, tmp_path / "data", workers=1), source)


def test_a_taken_or_nameless_place_is_refused_before_any_work(tmp_path, trees):
    trees.gopro_tree(tmp_path)
    with pytest.raises(DataError, match="not an empty folder"):
        convert(read_gopro(tmp_path), tmp_path, workers=1)
    (tmp_path / "empty").mkdir()
    convert(read_gopro(tmp_path), tmp_path / "empty", workers=1)
    assert (tmp_path / "empty" / "manifest.json").is_file()


def test_what_makes_no_dataset_says_why(tmp_path, trees):
    trees.spike_gopro_tree(tmp_path / "short", trees.takes(frames=2))
    with pytest.raises(DataError, match="no sequence has three frames"):
        read_spike_gopro(tmp_path / "short")
    trees.triples_tree(tmp_path / "raw", name=lambda take: f"a b {take.split}")
    with pytest.raises(DataError, match="train/a b train: a plain file name expected"):
        convert(read_triples(tmp_path / "raw"), tmp_path / "data", workers=1)


def simulate(root, output, *, seed=0, workers=1):
    source = read_gopro(root, require_spikes=False)
    simulation = SpikeSimulation(find_all_frames(root, None), seed)
    return convert(source, output, simulation=simulation, workers=workers)


def test_simulated_spikes_show_the_sharp_frames_and_are_told_from_recorded_ones(tmp_path, trees):
    trees.gopro_tree(tmp_path / "raw", spikes=None, all_frames=True)
    dataset = simulate(tmp_path / "raw", tmp_path / "data", seed=7)
    for sequence in sequences(dataset):
        for index in range(sequence.num_frames):
            spikes = sequence.read_spikes(index)
            image = spikes[len(spikes) // 2 - 16 : len(spikes) // 2 + 17].mean(axis=0)
            sharp = cv2.resize(gray(sequence.read_sharp(index)), (32, 24), interpolation=cv2.INTER_AREA)
            assert np.corrcoef(image.ravel(), sharp.ravel())[0, 1] > 0.8
    told = dataset.manifest.source["simulated_spikes"]
    assert (told["from"], told["seed"]) == ("GOPRO_Large_all", 7)
    assert told["sequences"] == ["train/GOPR0001_07_00", "test/GOPR0002_11_00"]
    assert dataset.manifest.sensor == told["sensor"]


def test_simulated_spikes_depend_on_the_seed_and_not_on_the_workers(tmp_path, trees):
    trees.gopro_tree(tmp_path / "raw", spikes=None, all_frames=True)
    for name, seed, workers in (("one", 0, 1), ("two", 0, 2), ("other", 1, 1)):
        simulate(tmp_path / "raw", tmp_path / name / "data", seed=seed, workers=workers)
    assert content(tmp_path / "one") == content(tmp_path / "two")
    files = [content(tmp_path / name)["data/train/GOPR0001_07_00/spikes.dat"] for name in ("one", "other")]
    assert files[0] != files[1]


def test_recorded_spikes_are_preferred_and_a_lost_one_is_not_simulated(tmp_path, trees):
    (recorded, _) = trees.gopro_tree(tmp_path / "raw", all_frames=True, spikes="frame")
    spikes = tmp_path / "raw" / "GOPRO_Large_spike_seq"
    for path in spikes.glob("test/*/spike/*.dat"):
        path.unlink()
    dataset = simulate(tmp_path / "raw", tmp_path / "data")
    train = dataset.sequences("train")[0]
    np.testing.assert_array_equal(train.read_spikes(2), recorded.exposure_spikes(2))
    assert dataset.manifest.source["simulated_spikes"]["sequences"] == ["test/GOPR0002_11_00"]
    assert dataset.manifest.sensor is None  # it is not the sensor of all of them
    next(spikes.glob("train/*/spike/*.dat")).unlink()
    with pytest.raises(DataError, match=r"spike/.*\.dat: missing"):
        simulate(tmp_path / "raw", tmp_path / "more")
    assert not Path(tmp_path / "more").exists()


def test_datasets_of_ours_open_after_conversion(tmp_path, trees):
    trees.triples_tree(tmp_path / "raw")
    convert(read_triples(tmp_path / "raw"), tmp_path / "data", workers=1)
    assert open_dataset(tmp_path / "data").manifest.name == "data"
