import fcntl
from pathlib import Path

import pytest

from deblurkit.data.dataset_writer import SequenceWriter
from deblurkit.data.draft import Draft, WholeSequence, fingerprint
from deblurkit.data.manifest import Manifest
from deblurkit.data.unified import open_dataset, verify_checksums
from deblurkit.errors import DataError


def write(draft, take, inputs="a"):
    with SequenceWriter(
        draft.work,
        take.split,
        take.name,
        frame_shape=(48, 64),
        spike_shape=(24, 32),
        spike_margin=0,
        spike_frames_per_exposure=56,
    ) as writer:
        writer.add(blurry=take.blurry(0), sharp=take.sharp(0), spikes=take.exposure_spikes(0, frames=56))
    whole = WholeSequence(inputs=inputs, record=writer.record, files=writer.files)
    draft.keep(whole, draft.work)
    return whole


def manifest_of(*sequences):
    return Manifest(
        name="data",
        source={},
        blur_variant="blur",
        frame_shape=(48, 64),
        spike_shape=(24, 32),
        sequences=[sequence.record for sequence in sequences],
        files={name: record for sequence in sequences for name, record in sequence.files.items()},
    )


def test_what_is_whole_is_found_again_by_its_inputs(tmp_path, trees):
    draft, (take, _) = Draft(tmp_path / "data"), trees.takes()
    with draft.locked("plan"):
        written = write(draft, take)
    with draft.locked("plan"):
        assert draft.whole(take.split, take.name, "a") == written
        assert draft.is_undamaged(written)
        assert draft.whole(take.split, take.name, "b") is None
        assert draft.whole("test", take.name, "a") is None
    assert not (tmp_path / "data").exists()


def test_another_plan_starts_anew(tmp_path, trees):
    draft, (take, _) = Draft(tmp_path / "data"), trees.takes()
    with draft.locked("plan"):
        write(draft, take)
    with draft.locked("another"):
        assert draft.whole(take.split, take.name, "a") is None
        assert list(draft.dataset.iterdir()) == []


def test_damage_is_noticed(tmp_path, trees):
    draft, (take, _) = Draft(tmp_path / "data"), trees.takes()
    with draft.locked("plan"):
        written = write(draft, take)
        spikes = draft.dataset / take.split / take.name / "spikes.dat"
        spikes.write_bytes(bytes([spikes.read_bytes()[0] ^ 1]) + spikes.read_bytes()[1:])
        assert not draft.is_undamaged(written)
        spikes.unlink()
        assert not draft.is_undamaged(written)


def test_publishing_takes_only_what_the_manifest_lists_and_leaves_nothing_behind(tmp_path, trees):
    draft, (take, other) = Draft(tmp_path / "data"), trees.takes()
    with draft.locked("plan"):
        write(draft, other)
        draft.publish(manifest_of(write(draft, take)))
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    verify_checksums(open_dataset(tmp_path / "data"))
    assert not (tmp_path / "data" / "test" / other.name).exists()
    with pytest.raises(DataError, match="not an empty folder"), draft.locked("plan"):
        pass


def test_a_draft_that_another_process_holds_is_refused(tmp_path):
    draft = Draft(tmp_path / "data")
    draft.folder.mkdir()
    with (draft.folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="is being made by another process"), draft.locked("plan"):
            pass
    with draft.locked("plan"):
        draft.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_our_error():
    with pytest.raises(DataError, match="Not a directory"), Draft(Path("/dev/null/data")).locked("plan"):
        pass


def test_fingerprints_are_equal_where_values_are():
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1}) != fingerprint({"a": 1})
