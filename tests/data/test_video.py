import sys

import numpy as np
import pytest

from deblurkit.data.simulate import blur
from deblurkit.data.unified import summarise
from deblurkit.data.video import make_from_videos, probe_video
from deblurkit.errors import DataError

av = pytest.importorskip("av")


def clip(seed, frames, size):
    """Smooth moving colours, uint8 (frames, H, W, 3)."""
    t, y, x = np.ogrid[:frames, : size[0], : size[1]]
    waves = [np.sin(0.1 * (x + k * t) + 0.07 * y * (k - 1) + seed) for k in (1, 2, 3)]
    return np.rint(127 + 120 * np.stack(waves, axis=-1)).astype(np.uint8)


def save(path, frames, rate=30):
    """Lossless: every frame is a PNG inside the container."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "rgb24"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def layout(dataset):
    return [(r.split, r.name, len(r.stems)) for r in dataset.manifest.sequences]


def test_a_probe_reports_size_rate_and_frames(tmp_path):
    info = probe_video(save(tmp_path / "a.mov", clip(0, 11, (32, 48)), rate=24))
    assert (info.height, info.width, info.num_frames, info.frame_rate) == (32, 48, 11, 24)


def test_groups_of_frames_become_blurry_frames(tmp_path):
    frames = clip(0, 37, (32, 48))
    dataset = make_from_videos(tmp_path / "data", [save(tmp_path / "a.mov", frames)])
    assert layout(dataset) == [("train", "a", 4), ("test", "a", 1)]  # 37 // 7 = 5, a fifth of them at the end
    for split, first in (("train", 0), ("test", 4)):
        (sequence,) = dataset.sequences(split)
        for t in range(sequence.num_frames):
            group = frames[7 * (first + t) : 7 * (first + t) + 7]
            np.testing.assert_array_equal(sequence.read_blurry(t), blur(group))
            np.testing.assert_array_equal(sequence.read_sharp(t), group[3])
            assert sequence.read_spikes(t).shape == (56, 16, 24)
    assert dataset.manifest.frame_rate == pytest.approx(30 / 7)
    assert dataset.manifest.source == {
        "made_by": "deblurkit prepare-data video",
        "files": ["a.mov"],
        "seed": 0,
    }


def test_sides_are_cropped_around_the_middle_to_multiples_of_16(tmp_path):
    frames = clip(0, 14, (38, 60))
    dataset = make_from_videos(tmp_path / "data", [save(tmp_path / "a.mov", frames)])
    assert summarise(dataset).frame_shape == (32, 48)
    np.testing.assert_array_equal(dataset.sequences("train")[0].read_sharp(0), frames[3, 3:35, 6:54])


def test_a_height_resizes_and_videos_share_a_size(tmp_path):
    files = [save(tmp_path / "a.mov", clip(0, 7, (64, 96))), save(tmp_path / "b.mov", clip(1, 7, (64, 128)))]
    dataset = make_from_videos(tmp_path / "data", files, height=32)
    assert summarise(dataset).frame_shape == (32, 48)
    assert layout(dataset) == [("train", "a", 1), ("test", "b", 1)]


def test_several_files_are_split_by_file_and_keep_their_names_apart(tmp_path):
    folders = [tmp_path / f"{index}" for index in range(5)]
    for folder in folders:
        folder.mkdir()
    files = [save(folder / "my clip.mov", clip(0, 9, (32, 32))) for folder in folders]
    dataset = make_from_videos(tmp_path / "data", files, exposure_frames=3, test_share=0.4)
    assert layout(dataset) == [
        ("train", "my_clip", 3),
        ("train", "my_clip-2", 3),
        ("train", "my_clip-3", 3),
        ("test", "my_clip-4", 3),
        ("test", "my_clip-5", 3),
    ]


def test_long_videos_are_cut_into_sequences(tmp_path):
    path = save(tmp_path / "a.mov", clip(0, 24, (32, 32)))
    seen = []
    dataset = make_from_videos(
        tmp_path / "data",
        [path],
        exposure_frames=3,
        max_frames=3,
        test_share=0,
        progress=lambda *counts: seen.append(counts),
    )
    assert layout(dataset) == [("train", "a_000", 3), ("train", "a_001", 3), ("train", "a_002", 2)]
    assert seen == [(done, 8) for done in range(1, 9)]


def test_the_seed_decides_the_spikes(tmp_path):
    path = save(tmp_path / "a.mov", clip(0, 14, (32, 32)))
    first, again, other = (
        make_from_videos(tmp_path / f"{index}", [path], seed=seed).manifest.files["train/a/spikes.dat"]
        for index, seed in enumerate([1, 1, 2])
    )
    assert first == again
    assert first != other


def test_the_spike_scale_is_kept_to_whole_bytes(tmp_path):
    path = save(tmp_path / "a.mov", clip(0, 14, (40, 72)))
    assert summarise(make_from_videos(tmp_path / "full", [path], spike_scale=1)).spike_shape == (40, 72)
    assert summarise(make_from_videos(tmp_path / "quarter", [path], spike_scale=0.25)).spike_shape == (8, 16)
    with pytest.raises(ValueError, match="spike_scale"):
        make_from_videos(tmp_path / "third", [path], spike_scale=0.3)


def test_files_that_are_no_use_each_get_a_clear_line(tmp_path):
    (tmp_path / "text.mp4").write_text("this is no video")
    (tmp_path / "empty.mp4").write_bytes(b"")
    save(tmp_path / "short.mov", clip(0, 13, (32, 32)))
    save(tmp_path / "small.mov", clip(0, 14, (8, 32)))
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    expected = {
        "missing.mp4": "no such video",
        ".": "is not a file",
        "text.mp4": "cannot be read as a video",
        "empty.mp4": "cannot be read as a video",
        "sound.wav": "has no video stream",
        "short.mov": "13 frames are too few: 2 exposures of 7 need 14",
        "small.mov": "8x32 pixels, 16 a side needed",
    }
    for name, words in expected.items():
        with pytest.raises(DataError, match=words) as caught:
            make_from_videos(tmp_path / "data", [tmp_path / name])
        assert str(tmp_path / name) in str(caught.value)
    assert not (tmp_path / "data").exists()


def test_a_video_that_ends_early_is_refused(tmp_path, monkeypatch):
    path = save(tmp_path / "a.mov", clip(0, 70, (32, 32)))
    monkeypatch.setattr("deblurkit.data.video.decode_video", lambda path: iter(clip(0, 30, (32, 32))))
    with pytest.raises(DataError, match="decodes to 4 exposures where 10 were expected"):
        make_from_videos(tmp_path / "data", [path])
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.mov"]


def test_frames_that_shrink_on_the_way_are_refused(tmp_path, monkeypatch):
    path = save(tmp_path / "a.mov", clip(0, 14, (32, 32)))
    monkeypatch.setattr("deblurkit.data.video.decode_video", lambda path: iter(clip(0, 14, (16, 16))))
    with pytest.raises(DataError, match="become smaller on the way, 16x16"):
        make_from_videos(tmp_path / "data", [path])


def test_a_missing_pyav_names_the_extra(tmp_path, monkeypatch):
    path = save(tmp_path / "a.mov", clip(0, 14, (32, 32)))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(DataError, match=r"pip install 'deblurkit\[video\]'"):
        make_from_videos(tmp_path / "data", [path])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"exposure_frames": 6}, "odd number"),
        ({"spikes_per_frame": 0}, "at least one spike frame"),
        ({"max_frames": 0}, "at least one"),
        ({"test_share": 1.0}, "test share"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_carried_out_are_refused(tmp_path, settings, words):
    with pytest.raises(DataError, match=words):
        make_from_videos(tmp_path / "data", [tmp_path / "a.mov"], **settings)


def test_no_file_at_all_is_refused(tmp_path):
    with pytest.raises(DataError, match="no video given"):
        make_from_videos(tmp_path / "data", [])


def test_a_taken_root_is_refused_before_any_video_is_read(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/precious").write_text("kept")
    with pytest.raises(DataError, match="not an empty folder"):
        make_from_videos(tmp_path / "data", [tmp_path / "missing.mp4"])
