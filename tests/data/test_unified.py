import json
import pickle

import cv2
import numpy as np
import pytest

from deblurkit.data.dataset_writer import DatasetWriter
from deblurkit.data.unified import open_dataset, summarise, verify_checksums
from deblurkit.errors import DataError

FRAME, SPIKE, EXPOSURE = (32, 48), (16, 24), 5


def writer(root, **changes):
    settings = {
        "name": "tiny",
        "source": {"made_by": "a test"},
        "blur_variant": "blur",
        "frame_shape": FRAME,
        "spike_shape": SPIKE,
    }
    return DatasetWriter(root, **{**settings, **changes})


def exposure(seed, margin=0):
    rng = np.random.default_rng(seed)
    return {
        "blurry": rng.integers(0, 256, (*FRAME, 3), dtype=np.uint8),
        "sharp": rng.integers(0, 256, (*FRAME, 3), dtype=np.uint8),
        "spikes": (rng.random((EXPOSURE + 2 * margin, *SPIKE)) < 0.3).astype(np.uint8),
    }


def write(root, *, margin=0, frames=3):
    with writer(root, spike_margin=margin) as dataset:
        for split, name, first in (("train", "GOPR0001_07_00", 0), ("train", "b", 10), ("test", "b", 20)):
            with dataset.sequence(split, name, spike_frames_per_exposure=EXPOSURE) as sequence:
                for index in range(frames):
                    sequence.add(**exposure(first + index, margin))
    return open_dataset(root)


def edit_manifest(root, change):
    path = root / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def test_what_is_written_is_read_back(tmp_path):
    dataset = write(tmp_path / "data")
    names = [(s.split, s.name) for split in ("train", "test") for s in dataset.sequences(split)]
    assert names == [("train", "GOPR0001_07_00"), ("train", "b"), ("test", "b")]
    sequence = dataset.sequences("train")[1]
    assert (sequence.num_frames, sequence.frame_shape, sequence.spike_shape) == (3, FRAME, SPIKE)
    for t in range(3):
        wanted = exposure(10 + t)
        np.testing.assert_array_equal(sequence.read_blurry(t), wanted["blurry"])
        np.testing.assert_array_equal(sequence.read_sharp(t), wanted["sharp"])
        np.testing.assert_array_equal(sequence.read_spikes(t), wanted["spikes"])
        assert sequence.read_blurry(t).flags.c_contiguous
        crop = sequence.read_spikes(t, top=3, left=5, height=7, width=11)
        np.testing.assert_array_equal(crop, wanted["spikes"][:, 3:10, 5:16])


def test_the_files_are_plain_png_and_dat(tmp_path):
    write(tmp_path / "data")
    image = cv2.imread(str(tmp_path / "data/train/b/sharp/000001.png"))[..., ::-1]
    np.testing.assert_array_equal(image, exposure(11)["sharp"])
    packed = np.fromfile(tmp_path / "data/train/b/spikes.dat", np.uint8).reshape(3 * EXPOSURE, *SPIKE[:1], 3)
    bits = np.unpackbits(packed, axis=2, bitorder="little")[:, ::-1]
    np.testing.assert_array_equal(bits, np.concatenate([exposure(10 + t)["spikes"] for t in range(3)]))
    assert not list(tmp_path.glob(".*"))


def test_recordings_with_margins_are_read_with_or_without_them(tmp_path):
    sequence = write(tmp_path / "data", margin=2).sequences("test")[0]
    wanted = exposure(21, margin=2)["spikes"]
    np.testing.assert_array_equal(sequence.read_spikes(1), wanted[2:-2])
    np.testing.assert_array_equal(sequence.read_spikes(1, margin=2), wanted)
    with pytest.raises(ValueError, match="has 2 spike frames around"):
        sequence.read_spikes(1, margin=3)


def test_own_stems_are_kept(tmp_path):
    with (
        writer(tmp_path / "data") as dataset,
        dataset.sequence("test", "a", spike_frames_per_exposure=5) as sequence,
    ):
        sequence.add(**exposure(0), stem="000047")
    assert (tmp_path / "data/test/a/blur/000047.png").is_file()
    assert open_dataset(tmp_path / "data").sequences("test")[0].stems.tolist() == ["000047"]


def test_a_sequence_pickles_small_and_reads_the_same_after(tmp_path):
    sequence = write(tmp_path / "data").sequences("train")[0]
    before = sequence.read_spikes(2)
    pickled = pickle.dumps(sequence)
    assert len(pickled) < 3000
    np.testing.assert_array_equal(pickle.loads(pickled).read_spikes(2), before)


def test_frames_that_do_not_exist_are_an_index_error(tmp_path):
    sequence = write(tmp_path / "data").sequences("train")[0]
    for read in (sequence.read_blurry, sequence.read_sharp, sequence.read_spikes):
        for index in (3, -1):
            with pytest.raises(IndexError, match="GOPR0001_07_00, which has 3"):
                read(index)


def test_summary_counts_bits_and_bytes(tmp_path):
    dataset = write(tmp_path / "data")
    summary = summarise(dataset)
    assert (summary.train_sequences, summary.test_sequences, summary.train_frames, summary.test_frames) == (
        2,
        1,
        6,
        3,
    )
    spikes = np.concatenate([exposure(first + t)["spikes"] for first in (0, 10, 20) for t in range(3)])
    assert summary.mean_spike_rate == pytest.approx(spikes.mean())
    sizes = [path.stat().st_size for path in dataset.root.rglob("*") if path.is_file()]
    assert summary.total_bytes == sum(sizes) - (dataset.root / "manifest.json").stat().st_size


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_error_in_the_block_leaves_nothing(tmp_path, error):
    with (
        pytest.raises(error),
        writer(tmp_path / "data") as dataset,
        dataset.sequence("train", "a", spike_frames_per_exposure=5) as sequence,
    ):
        sequence.add(**exposure(0))
        assert not (tmp_path / "data").exists()
        raise error
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/precious").write_text("kept")
    with pytest.raises(DataError, match="not an empty folder"), writer(tmp_path / "data"):
        raise AssertionError("not reached")
    assert (tmp_path / "data/precious").read_text() == "kept"
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "data").mkdir()
    assert write(tmp_path / "data").sequences("test")


def test_a_folder_that_fills_up_meanwhile_is_left_alone(tmp_path):
    with pytest.raises(DataError, match="cannot take its name"), writer(tmp_path / "data") as dataset:
        with dataset.sequence("train", "a", spike_frames_per_exposure=5) as sequence:
            sequence.add(**exposure(0))
        (tmp_path / "data").mkdir()
        (tmp_path / "data/precious").write_text("kept")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"), writer(tmp_path / "file" / "data"):
        raise AssertionError("not reached")


def test_nothing_written_is_an_error(tmp_path):
    with pytest.raises(DataError, match="nothing to write"), writer(tmp_path / "data"):
        pass
    with (
        pytest.raises(DataError, match="train/a has no frame"),
        writer(tmp_path / "data") as dataset,
        dataset.sequence("train", "a", spike_frames_per_exposure=5),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [
        {"blurry": np.zeros((8, 8, 3), np.uint8)},
        {"sharp": np.zeros((*FRAME, 3), np.float32)},
        {"spikes": np.zeros((EXPOSURE + 1, *SPIKE), np.uint8)},
        {"stem": "../escape"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_wrong_exposures_are_the_callers_mistake(tmp_path, change):
    with (
        pytest.raises(ValueError),
        writer(tmp_path / "data") as dataset,
        dataset.sequence("train", "a", spike_frames_per_exposure=EXPOSURE) as sequence,
    ):
        sequence.add(**{**exposure(0), **change})
    assert list(tmp_path.iterdir()) == []


def test_names_are_written_once(tmp_path):
    with pytest.raises(ValueError, match="written twice"), writer(tmp_path / "data") as dataset:
        for _ in range(2):
            with dataset.sequence("train", "a", spike_frames_per_exposure=EXPOSURE) as sequence:
                sequence.add(**exposure(0))
    with (
        pytest.raises(ValueError, match="written twice"),
        writer(tmp_path / "data") as dataset,
        dataset.sequence("train", "a", spike_frames_per_exposure=EXPOSURE) as sequence,
    ):
        sequence.add(**exposure(0), stem="x")
        sequence.add(**exposure(0), stem="x")


def test_a_missing_dataset_or_manifest_is_said(tmp_path):
    with pytest.raises(DataError, match="no such dataset folder"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(DataError, match="manifest.json: missing; a deblurkit dataset has one"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("text", ["{", "[1, 2]", "null", '"text"', "{}", '{"schema": "other/1"}', "\xff"])
def test_a_manifest_that_is_none_is_refused(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match="manifest.json: (cannot be read as JSON|schema)"):
        open_dataset(tmp_path)


def set_key(path, value):
    def change(manifest):
        *parents, last = path
        for key in parents:
            manifest = manifest[key]
        manifest[last] = value

    return change


def drop_file(manifest):
    del manifest["files"]["test/b/sharp/000001.png"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (set_key(["schema"], "deblurkit-dataset/2"), "newer deblurkit"),
        (set_key(["schema"], "deblurkit-dataset/0"), "schema"),
        (set_key(["colour"], 1), "colour: Extra inputs"),
        (set_key(["blur_variant"], "motion"), "blur_variant"),
        (set_key(["frame_shape"], [0, 4]), "frame_shape.0"),
        (set_key(["sequences"], []), "sequences"),
        (set_key(["sequences", 0, "name"], "../../etc"), "sequences.0.name: .*plain file name"),
        (set_key(["sequences", 0, "stems", 0], "/etc/passwd"), "sequences.0.stems.0"),
        (set_key(["files", "../outside"], {"bytes": 0, "sha256": "0" * 64}), "plain file name"),
        (set_key(["files", "/etc/passwd"], {"bytes": 0, "sha256": "0" * 64}), "plain file name"),
        (set_key(["sequences", 0, "split"], "validation"), "sequences.0.split"),
        (set_key(["sequences", 0, "spike_starts"], [0, 5]), "3 frames but 2 spike_starts"),
        (
            set_key(["sequences", 0, "spike_starts"], [0, 5, 11]),
            "15 spike frames, but the exposures need frames 0 to 16",
        ),
        (set_key(["spike_margin"], 1), "need frames -1 to 16"),
        (set_key(["spike_shape"], [16, 20]), "not a multiple of 8"),
        (set_key(["spike_shape"], [32, 32]), "not whole frames"),
        (set_key(["sequences", 1, "name"], "GOPR0001_07_00"), "listed twice"),
        (drop_file, "test/b/sharp/000001.png: not listed"),
    ],
)
def test_a_manifest_that_does_not_add_up_is_refused(tmp_path, change, words):
    root = write(tmp_path / "data").root
    edit_manifest(root, change)
    with pytest.raises(DataError, match=f"(?s)data.*{words}"):
        open_dataset(root)


def test_missing_and_cut_files_are_all_named(tmp_path):
    root = write(tmp_path / "data").root
    (root / "train/b/spikes.dat").unlink()
    image = root / "test/b/blur/000002.png"
    image.write_bytes(image.read_bytes()[:-1])
    with pytest.raises(DataError) as caught:
        open_dataset(root)
    assert "train/b/spikes.dat: missing" in str(caught.value)
    assert "test/b/blur/000002.png: " in str(caught.value)


def test_missing_spikes_after_opening_are_an_error_not_zeros(tmp_path):
    dataset = write(tmp_path / "data")
    sequence = dataset.sequences("train")[0]
    (dataset.root / "train/GOPR0001_07_00/spikes.dat").unlink()
    with pytest.raises(DataError, match="spikes.dat: the spike recording cannot be mapped"):
        sequence.read_spikes(0)


def test_images_that_vanish_break_or_change_size_after_opening_are_named(tmp_path):
    sequence = write(tmp_path / "data").sequences("train")[0]
    folder = tmp_path / "data/train/GOPR0001_07_00/blur"
    (folder / "000000.png").unlink()
    (folder / "000001.png").write_bytes(b"\x89PNG but not really")
    cv2.imwrite(str(folder / "000002.png"), np.zeros((4, 4, 3), np.uint8))
    for index, words in enumerate(["missing", "damaged", r"\(4, 4\) pixels, the manifest says \(32, 48\)"]):
        with pytest.raises(DataError, match=f"00000{index}.png: {words}"):
            sequence.read_blurry(index)


def test_checksums_find_a_flipped_bit(tmp_path):
    dataset = write(tmp_path / "data")
    told = []
    total = verify_checksums(dataset, progress=lambda done, of: told.append((done, of)))
    assert told[-1] == (total, total) and total == summarise(dataset).total_bytes
    path = dataset.root / "train/b/spikes.dat"
    data = bytearray(path.read_bytes())
    data[7] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="train/b/spikes.dat: SHA-256 differs"):
        verify_checksums(open_dataset(dataset.root))
