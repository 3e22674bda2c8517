import cv2
import pytest
import torch

from deblurkit.cache.folder import default_root
from deblurkit.data.packed import pack_dataset, packed_bytes
from deblurkit.data.unified import open_dataset
from deblurkit.errors import DataError
from deblurkit.tuning.recommend import loading
from deblurkit.tuning.recommend.loading import count_clips, measure_loading


def slowed(monkeypatch, *, decoding, cached):
    """Have a frame take so many seconds by a clock that nothing else moves; return the clock."""
    from deblurkit.data import frames, loaders

    now = [0.0]

    def take(function, seconds):
        def taking(*arguments, **settings):
            now[0] += seconds
            return function(*arguments, **settings)

        return taking

    monkeypatch.setattr(frames.PngFrames, "decoded", take(frames.PngFrames.decoded, decoding))
    monkeypatch.setattr(frames.CachedFrames, "read", take(frames.CachedFrames.read, cached))
    monkeypatch.setattr(loaders.time, "perf_counter", lambda: now[0])
    return lambda: now[0]


def test_a_clip_takes_what_decoding_its_frames_takes(tiny_config, monkeypatch):
    clock = slowed(monkeypatch, decoding=0.5, cached=0.5)
    found = measure_loading(tiny_config("DATA.CLIP_LEN=3"), seconds=20.0, clock=clock)
    assert found.seconds == pytest.approx(6 * 0.5)  # three blurry frames and three sharp ones
    assert found.storage == "png"
    # two training sequences of 5 frames, each with 3 clips of 3
    assert found.num_clips == 6
    # until more than 20 s are over, the first clip of 3 s, which does not count, among them
    assert found.clips == 6


def test_out_of_a_cache_it_takes_what_the_cache_takes(tiny_config, monkeypatch):
    clock = slowed(monkeypatch, decoding=1.0, cached=0.01)
    found = measure_loading(tiny_config("DATA.CLIP_LEN=3"), seconds=5.0, clock=clock)
    assert found.seconds == pytest.approx(6.0)
    assert found.cached_seconds == pytest.approx(0.06)


def test_the_cache_of_a_measurement_is_gone_afterwards(tiny_config):
    before = set(default_root().glob("deblurkit-cache-*"))
    assert measure_loading(tiny_config(), seconds=0.0).cached_seconds > 0
    assert set(default_root().glob("deblurkit-cache-*")) <= before


def test_without_room_for_a_cache_nothing_is_said_of_one(tiny_config, monkeypatch):
    def refuse(*arguments, **settings):
        raise DataError("no room")

    monkeypatch.setattr(loading.NodeCache, "join", refuse)
    found = measure_loading(tiny_config(), seconds=0.0)
    assert found.cached_seconds is None and found.seconds > 0


def test_a_packed_dataset_is_read_as_it_lies(tiny_config, dataset_root, tmp_path):
    packed = pack_dataset(open_dataset(dataset_root), tmp_path / "packed")
    found = measure_loading(tiny_config(f"DATA.ROOT={packed.root}"), seconds=0.0)
    assert (found.storage, found.cached_seconds, found.clips) == ("packed", None, 3)
    size = sum(path.stat().st_size for path in packed.root.rglob("*.u8"))
    size += sum(path.stat().st_size for path in packed.root.rglob("spikes.dat"))
    assert found.packed_bytes == packed_bytes(packed.manifest) == size


def test_it_is_measured_on_one_thread_which_is_given_back(tiny_config, monkeypatch):
    before = torch.get_num_threads(), cv2.getNumThreads()
    seen = []

    class Watched(loading.LoadTimes):
        def add(self, batch):
            seen.append((torch.get_num_threads(), cv2.getNumThreads()))
            super().add(batch)

    monkeypatch.setattr(loading, "LoadTimes", Watched)
    measure_loading(tiny_config(), seconds=0.0)
    assert set(seen) <= {(1, 0), (1, 1)} and seen  # OpenCV calls none of its own 0 or 1, as it was built
    assert (torch.get_num_threads(), cv2.getNumThreads()) == before


def test_without_a_dataset_nothing_is_known(tiny_config, tmp_path):
    assert measure_loading(tiny_config(f"DATA.ROOT={tmp_path / 'none'}", "DATA.AUTO_SYNTHETIC=false")) is None


def test_a_damaged_dataset_is_the_users_to_mend(tiny_config, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="manifest"):
        measure_loading(tiny_config(f"DATA.ROOT={tmp_path / 'empty'}"))


def test_clips_are_counted_without_reading_one(tiny_config, tmp_path, monkeypatch):
    slowed(monkeypatch, decoding=0.5, cached=0.5)
    monkeypatch.setattr(loading.TrainingClips, "__getitem__", lambda clips, key: pytest.fail("read"))
    assert count_clips(tiny_config("DATA.CLIP_LEN=3")) == 6  # of two sequences of 5 frames
    nowhere = tmp_path / "none"
    assert count_clips(tiny_config(f"DATA.ROOT={nowhere}", "DATA.AUTO_SYNTHETIC=true")) is None
    assert not nowhere.exists()
