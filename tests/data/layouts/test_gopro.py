import shutil

import numpy as np
import pytest

from deblurkit.data.layouts.gopro import read_gopro
from deblurkit.data.spikes import SpikeGeometry, write_spikes
from deblurkit.errors import DataError


def assert_is(source, taken, *, variant="blur", frames=None):
    """Every sample of the source is that of the takes."""
    assert [(s.split, s.name) for s in source.sequences] == [(t.split, t.name) for t in taken]
    for sequence, take in zip(source.sequences, taken, strict=True):
        assert [exposure.stem for exposure in sequence.exposures] == take.stems
        assert sequence.sharp_frames == take.sharp_per_exposure
        for index in range(take.num_frames):
            np.testing.assert_array_equal(sequence.read_blurry(index), take.blurry(index, variant))
            np.testing.assert_array_equal(sequence.read_sharp(index), take.sharp(index))
            np.testing.assert_array_equal(
                sequence.read_spikes(index), take.exposure_spikes(index, frames=frames)
            )


@pytest.mark.parametrize("by", ["sequence", "frame"])
@pytest.mark.parametrize("folder", [".", "GOPRO_Large"])
def test_frames_and_spikes_are_those_that_were_written(tmp_path, trees, by, folder):
    taken = trees.gopro_tree(tmp_path, spikes=by)
    source = read_gopro(tmp_path / folder)
    assert_is(source, taken)
    assert (source.layout, source.blur_variant, source.spikes_per_sharp_frame) == ("gopro", "blur", 8)
    assert [s.spike_frames for s in source.sequences] == [56, 88]  # 8 times the YY of the names
    assert source.sequences[0].geometry == SpikeGeometry(24, 32)
    assert source.options["spikes_by"] == by


def test_gamma_variant_and_central_spikes(tmp_path, trees):
    taken = trees.gopro_tree(tmp_path)
    source = read_gopro(tmp_path, blur_variant="blur_gamma", central_spikes=56)
    assert_is(source, taken, variant="blur_gamma", frames=56)
    assert source.blur_variant == "blur_gamma"
    assert source.options["central_spikes"] == 56


def test_the_middle_of_recordings_by_the_frame_and_recordings_of_the_middle(tmp_path, trees):
    taken = trees.gopro_tree(tmp_path, spikes="frame")
    assert_is(read_gopro(tmp_path, central_spikes=56), taken, frames=56)
    for take in taken:
        for index, stem in enumerate(take.stems):
            path = tmp_path / "GOPRO_Large_spike_seq" / take.split / take.name / "spike" / f"{stem}.dat"
            write_spikes(path, take.exposure_spikes(index, frames=56))
    source = read_gopro(tmp_path, central_spikes=56)
    assert_is(source, taken, frames=56)
    assert [s.recording_frames for s in source.sequences] == [56, 56]


def test_a_shift_moves_every_exposure_and_leaves_out_those_beyond_the_ends(tmp_path, trees):
    (take, *_) = trees.gopro_tree(tmp_path)
    for shift, stems in ((5, take.stems[:-1]), (-5, take.stems[1:])):
        sequence = read_gopro(tmp_path, spike_shift=shift).sequences[0]
        assert [exposure.stem for exposure in sequence.exposures] == stems
        index = stems.index(take.stems[2])
        np.testing.assert_array_equal(sequence.read_spikes(index), take.spikes[112 + shift : 168 + shift])
    path = tmp_path / "Spike_GOPRO_Large_all" / take.split / take.name / "spike.dat"
    path.write_bytes(path.read_bytes()[: 160 * 96])  # frames that are lost are not the shift's doing
    assert [e.stem for e in read_gopro(tmp_path, spike_shift=5).sequences[0].exposures] == take.stems


def test_a_shift_of_recordings_by_the_frame_needs_frames_to_spare(tmp_path, trees):
    (_, take) = trees.gopro_tree(tmp_path, spikes="frame")
    with pytest.raises(DataError, match="88 spike frames, but frame 000047 needs 5 to 93"):
        read_gopro(tmp_path, spike_shift=5).sequences[1].read_spikes(0)
    sequence = read_gopro(tmp_path, central_spikes=48, spike_shift=5).sequences[1]
    np.testing.assert_array_equal(sequence.read_spikes(1), take.spikes[88 + 25 : 88 + 73])


def test_a_lost_pair_does_not_move_the_exposures_after_it(tmp_path, trees):
    (take, *_) = trees.gopro_tree(tmp_path)
    for kind in ("blur", "blur_gamma", "sharp"):
        (tmp_path / "GOPRO_Large" / take.split / take.name / kind / f"{take.stems[1]}.png").unlink()
    sequence = read_gopro(tmp_path).sequences[0]
    np.testing.assert_array_equal(sequence.read_spikes(1), take.exposure_spikes(2))


def test_lost_files_are_no_error_before_they_are_read(tmp_path, trees):
    (take, *_) = trees.gopro_tree(tmp_path, spikes="frame")
    folder = tmp_path / "GOPRO_Large" / take.split / take.name
    (folder / "blur" / f"{take.stems[0]}.png").unlink()
    (tmp_path / "GOPRO_Large_spike_seq" / take.split / take.name / "spike" / f"{take.stems[1]}.dat").unlink()
    sequence = read_gopro(tmp_path).sequences[0]
    assert sequence.num_frames == 4
    with pytest.raises(DataError, match=r"blur/000047\.png: missing"):
        sequence.read_blurry(0)
    with pytest.raises(DataError, match=r"spike/000048\.dat: no such"):
        sequence.read_spikes(1)


def test_spikes_elsewhere_are_found_by_name_and_by_their_archive(tmp_path, trees):
    taken = trees.gopro_tree(tmp_path / "raw")
    shutil.move(tmp_path / "raw" / "Spike_GOPRO_Large_all", tmp_path / "elsewhere" / "Spike_GOPRO_Large_all")
    for place in ("elsewhere", "elsewhere/Spike_GOPRO_Large_all"):
        assert_is(read_gopro(tmp_path / "raw", spikes=tmp_path / place), taken)
    with pytest.raises(DataError, match="no spikes found: Spike_GOPRO_Large_all or .*--simulate-spikes"):
        read_gopro(tmp_path / "raw")
    with pytest.raises(DataError, match="no spikes found"):
        read_gopro(tmp_path / "raw", spikes=tmp_path, require_spikes=False)
    without = read_gopro(tmp_path / "raw", require_spikes=False)
    assert without.sequences[0].geometry == SpikeGeometry(24, 32)


def test_spikes_in_two_places_leave_a_doubt(tmp_path, trees):
    taken = trees.gopro_tree(tmp_path)
    trees.gopro_tree(tmp_path, spikes="frame")
    with pytest.raises(DataError, match=r"by the sequence\) and .*by the frame\); say which with --spikes"):
        read_gopro(tmp_path)
    source = read_gopro(tmp_path, spikes=tmp_path / "GOPRO_Large_spike_seq")
    assert_is(source, taken)
    assert source.options["spikes"] == "GOPRO_Large_spike_seq"


def test_one_cut_recording_does_not_change_how_the_others_are_read(tmp_path, trees):
    taken = trees.gopro_tree(tmp_path)
    path = tmp_path / "Spike_GOPRO_Large_all" / taken[0].split / taken[0].name / "spike.dat"
    path.write_bytes(path.read_bytes()[: 60 * 96])
    source = read_gopro(tmp_path)
    assert [s.geometry for s in source.sequences] == [SpikeGeometry(24, 32)] * 2
    with pytest.raises(DataError, match="60 spike frames, but frame 000048 needs 56 to 112"):
        source.sequences[0].read_spikes(1)


def test_names_and_numbers_that_do_not_fit_are_refused(tmp_path, trees):
    trees.gopro_tree(tmp_path)
    with pytest.raises(DataError, match="have 56 spike frames, not 57"):
        read_gopro(tmp_path, central_spikes=57)
    with pytest.raises(DataError, match="no sequence has a folder 'blur'"):
        read_gopro(tmp_path / "Spike_GOPRO_Large_all")
    (tmp_path / "GOPRO_Large" / "train" / "holiday").mkdir()
    with pytest.raises(DataError, match="holiday: a name like GOPR0372_07_00"):
        read_gopro(tmp_path)
