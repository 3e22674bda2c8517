"""Expected scores come from the metrics applied by hand to frames that the dataset itself gives."""

import copy
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from deblurkit.data.loaders import LoadedBatch
from deblurkit.data.synthetic import make_synthetic
from deblurkit.data.unified import open_dataset
from deblurkit.errors import DataError
from deblurkit.models.blocks import ResidualBlock
from deblurkit.models.unet import ClipUNet
from deblurkit.training import metrics
from deblurkit.training.distributed import Ranks
from deblurkit.training.held_out import HeldOut, evaluation_clips
from deblurkit.training.interrupt import InterruptedRun
from deblurkit.training.precision import Precision
from deblurkit.training.validate import Lpips, restore_frames

PRECISION = Precision(torch.device("cpu"), None)


class Echo(nn.Module):
    """Gives the blurry clip back, brightened by the mean of the spikes."""

    num_voxel_bins = 4

    def forward(self, blurry, spikes):
        return blurry + spikes.mean()


@pytest.fixture
def held_out(dataset_root, tiny_config):
    config = tiny_config("DATA.CLIP_LEN=2", "DATA.NUM_VOXEL_BINS=4")
    clips = evaluation_clips(open_dataset(dataset_root), config, split="test")
    return HeldOut(clips, batch_size=2, num_workers=0, prefetch_factor=2)


def test_an_echo_scores_what_the_blurry_frames_score(held_out, dataset_root):
    counted = []
    result = held_out.validate(
        Echo(), precision=PRECISION, spikes="zeroed", progress=lambda *count: counted.append(count)
    )
    (sequence,) = open_dataset(dataset_root).sequences("test")
    pairs = [(sequence.read_blurry(t), sequence.read_sharp(t)) for t in range(sequence.num_frames)]
    assert result.protocol == "vrt"
    assert result.score.psnr_db == result.score.psnr_db_blurry
    assert result.score.psnr_db == pytest.approx(np.mean([metrics.psnr_db(*pair) for pair in pairs]))
    assert result.score.ssim == pytest.approx(np.mean([metrics.ssim(*pair) for pair in pairs]))
    assert result.score.gain_db == 0
    assert counted == [(done, 5) for done in range(1, 6)]
    assert list(result.sequences) == [sequence.name]
    assert np.array_equal(result.example.sharp, sequence.read_sharp(sequence.num_frames // 2))


def test_zeroed_spikes_are_zero_and_real_ones_are_not(held_out):
    real = held_out.validate(Echo(), precision=PRECISION)
    assert real.score.psnr_db != real.score.psnr_db_blurry


def test_every_frame_comes_once_and_the_mode_of_the_network_is_kept(held_out):
    model = Echo().train()
    batches = [[0], [1], [2]]
    loader = [held_out.clips[i] for i in range(3)]
    loader = [LoadedBatch(type(c)(*(t.unsqueeze(0) for t in c)), 0.0) for c in loader]
    frames = [
        pair.frame for pair in restore_frames(model, held_out.clips, loader, batches, precision=PRECISION)
    ]
    assert frames == [0, 1, 2, 3, 4]
    assert model.training


def test_restored_values_are_rounded_and_clamped(held_out):
    class Constant(Echo):
        def forward(self, blurry, spikes):
            return torch.full_like(blurry, 100.6 / 255).index_fill_(2, torch.tensor([0]), 1.7)

    result = held_out.validate(Constant(), precision=PRECISION)
    assert np.unique(result.example.restored[..., 0]).tolist() == [255]
    assert np.unique(result.example.restored[..., 1]).tolist() == [101]


class Together:
    """Ranks as threads of one process, which meet where they gather."""

    def __init__(self, world_size):
        self.world_size = world_size
        self.barrier = threading.Barrier(world_size, timeout=60)
        self.values = [None] * world_size
        self.sent = []

    def rank(self, number):
        together = self

        class Rank(Ranks):
            def from_rank(self, value, *, source):
                together.sent.append((number, source, value))
                return self.gather(value)[source]

            def gather(self, value):
                together.values[number] = value
                together.barrier.wait()
                values = list(together.values)
                together.barrier.wait()
                return values

        return Rank(rank=number, world_size=self.world_size)

    def each(self, work):
        with ThreadPoolExecutor(self.world_size) as pool:
            return list(pool.map(work, [self.rank(number) for number in range(self.world_size)]))


@pytest.fixture
def longer(tmp_path, tiny_config):
    """Three held-out sequences of seven frames, and what makes a `HeldOut` of them."""
    root = tmp_path / "longer"
    make_synthetic(root, seed=3, num_train=1, num_test=3, frames_per_sequence=7, size=(32, 48))

    def make(*overrides, batch_size=2):
        config = tiny_config("DATA.CLIP_LEN=2", "DATA.NUM_VOXEL_BINS=4", *overrides)
        clips = evaluation_clips(open_dataset(root), config, split="test")
        return HeldOut(clips, batch_size=batch_size, num_workers=0, prefetch_factor=2, test=config.test)

    return make


def network():
    """A network whose every frame depends on its neighbours and on the spikes."""
    torch.manual_seed(0)
    model = ClipUNet(block=ResidualBlock, base_channels=4, num_blocks=1, num_voxel_bins=4)
    nn.init.normal_(model.frames_out.weight, std=0.1)
    return model


def same(a, b):
    pairs = zip(
        (a.example.blurry, a.example.restored, a.example.sharp),
        (b.example.blurry, b.example.restored, b.example.sharp),
        strict=True,
    )
    assert all(np.array_equal(*pair) for pair in pairs)
    assert (a.example.sequence, a.example.frame) == (b.example.sequence, b.example.frame)
    assert list(a.sequences) == list(b.sequences)
    return replace(a, example=b.example) == b  # floats by their bits, no tolerance


@pytest.mark.parametrize(
    "overrides", [(), ("TEST.TILE=[3,16,24]", "TEST.TILE_OVERLAP=[1,8,8]"), ("TEST.PROTOCOL=pooled",)]
)
@pytest.mark.parametrize("world_size", [2, 3, 5])
def test_ranks_together_score_exactly_what_one_scores_alone(longer, world_size, overrides):
    held_out = longer(*overrides)
    model = network()
    alone = held_out.validate(model, precision=PRECISION)
    loaded = []
    together = Together(world_size)

    def on_rank(ranks):
        counted = []
        result = held_out.validate(
            copy.deepcopy(model),
            precision=PRECISION,
            ranks=ranks,
            progress=lambda *count: counted.append(count),
        )
        loaded.append(len(counted))
        return result

    for result in together.each(on_rank):
        assert same(result, alone)
    assert sum(loaded) == 21  # every frame is scored by one rank
    assert [number for number, source, value in together.sent if value is not None] == [together.sent[0][1]]
    assert max(loaded) - min(loaded) <= 4 if not overrides else max(loaded) < 21


@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("overlap", [0, 1, 2])
def test_the_progress_of_windows_that_share_frames_ends_at_the_whole(longer, world_size, overlap):
    """Windows of 4 of 7 frames; what two of them give together is one frame, and is counted once."""
    held_out = longer("TEST.TILE=[4,32,48]", f"TEST.TILE_OVERLAP=[{overlap},0,0]", batch_size=1)

    def on_rank(ranks):
        counted = []
        held_out.validate(
            Echo(), precision=PRECISION, ranks=ranks, progress=lambda *count: counted.append(count)
        )
        return counted

    shares = Together(world_size).each(on_rank)
    for counted in shares:
        assert counted == [(done, len(counted)) for done in range(1, len(counted) + 1)]
    assert sum(map(len, shares)) == 21


def test_tiles_of_what_looks_at_single_pixels_change_no_score(longer):
    whole = longer().validate(Echo(), precision=PRECISION, spikes="zeroed")
    tiled = longer("TEST.TILE=[3,16,24]", "TEST.TILE_OVERLAP=[1,8,8]")
    result = tiled.validate(Echo(), precision=PRECISION, spikes="zeroed")
    assert same(replace(result, tile=None, tile_overlap=None), whole)


def test_tiles_of_a_network_change_little(longer):
    whole = longer().validate(network(), precision=PRECISION)
    tiled = longer("TEST.TILE=[24,32]", "TEST.TILE_OVERLAP=[0,8,8]").validate(network(), precision=PRECISION)
    assert tiled.score != whole.score
    assert tiled.score.psnr_db == pytest.approx(whole.score.psnr_db, abs=0.5)


def test_a_quick_look_takes_the_same_few_sequences_and_says_so(longer):
    held_out = longer("TEST.QUICK_SEQUENCES=2")
    quick, full = (held_out.validate(Echo(), precision=PRECISION, quick=q) for q in (True, False))
    names = list(full.sequences)
    assert list(quick.sequences) == [names[0], names[2]]
    assert quick.sequences == {name: full.sequences[name] for name in quick.sequences}
    assert (quick.split_sequences, full.split_sequences) == (3, None)
    assert quick.example.sequence == names[0]


def test_shuffled_spikes_are_those_of_another_moment_of_the_clip(longer):
    seen = {}

    class Look(Echo):
        def forward(self, blurry, spikes):
            seen.setdefault(kind, spikes.clone())
            return blurry

    held_out = longer("TEST.TILE=[5,32,48]", "TEST.TILE_OVERLAP=[0,0,0]", batch_size=1)
    for kind in ("real", "shuffled"):
        held_out.validate(Look(), precision=PRECISION, spikes=kind)
    order = [3, 4, 0, 1, 2]
    assert torch.equal(seen["shuffled"], seen["real"][:, order])
    assert not torch.equal(seen["shuffled"][:, 0], seen["real"][:, 0])


def test_protocols_average_as_they_say(longer):
    """Sequences of 7 and of 2 frames: the mean of means is not the mean of all."""
    made = {name: longer(f"TEST.PROTOCOL={name}") for name in ("vrt", "pooled", "y")}
    results = {}
    for name, held_out in made.items():
        held_out.clips.parts[:] = [p for p in held_out.clips.parts if p.sequence == 0 or p.start == 0]
        held_out.clips.sequences[1:] = [Short(s, 2) for s in held_out.clips.sequences[1:]]
        results[name] = held_out.validate(Echo(), precision=PRECISION)
        assert results[name].protocol == name
    vrt, pooled, y = (results[name] for name in ("vrt", "pooled", "y"))
    values = [score.psnr_db for score in vrt.sequences.values()]
    assert vrt.score.psnr_db == pytest.approx(np.mean(values))
    assert pooled.score.psnr_db == pytest.approx((7 * values[0] + 2 * values[1] + 2 * values[2]) / 11)
    assert pooled.sequences == vrt.sequences
    assert y.score.ssim != vrt.score.ssim
    assert y.score.psnr_db == pytest.approx(vrt.score.psnr_db, abs=0.05)  # only rounding apart
    assert y.score.psnr_db != vrt.score.psnr_db


class Short:
    """The first frames of a sequence."""

    def __init__(self, sequence, num_frames):
        self._sequence, self.num_frames = sequence, num_frames

    def __getattr__(self, name):
        return getattr(self._sequence, name)


def test_lpips_is_averaged_like_the_others(longer):
    def distance(restored, sharp):
        assert restored.shape == sharp.shape and restored.shape[:2] == (1, 3) and restored.max() <= 1
        return (restored - sharp).abs().mean(dim=(1, 2, 3))

    held_out = longer()
    metric = Lpips("alex", distance)
    result = held_out.validate(Echo(), precision=PRECISION, spikes="zeroed", lpips=metric)
    frames = [
        np.abs(s.read_blurry(t) / 255.0 - s.read_sharp(t) / 255.0).mean()
        for s in held_out.clips.sequences
        for t in range(7)
    ]
    assert result.score.lpips == pytest.approx(np.mean(frames), abs=1e-6)
    assert result.score.lpips_blurry == result.score.lpips
    scores = {*("psnr_db", "ssim", "psnr_db_blurry", "ssim_blurry", "lpips", "lpips_blurry")}
    assert set(result.score.as_dict()) == scores
    assert set(result.as_dict()) == {"protocol", "lpips_net", *scores}
    assert result.as_dict()["lpips_net"] == "alex"


class Breaks(Echo):
    """Gives NaN for the first frame of each clip."""

    def forward(self, blurry, spikes):
        return torch.cat([blurry[:, :1] * torch.nan, blurry[:, 1:]], dim=1)


@pytest.mark.parametrize("protocol", ["vrt", "y"])
@pytest.mark.parametrize("world_size", [1, 2])
def test_frames_that_are_no_numbers_have_no_score(longer, protocol, world_size):
    """Clips of two: frames 0, 2 and 4 of the seven begin one, and 6 is the second of the last."""
    held_out = longer(f"TEST.PROTOCOL={protocol}")
    metric = Lpips("alex", lambda a, b: (a - b).abs().mean(dim=(1, 2, 3)))
    results = Together(world_size).each(
        lambda ranks: held_out.validate(Breaks(), precision=PRECISION, ranks=ranks, lpips=metric)
    )
    for result in results:
        assert result.frames_not_finite == 3 * 3
        assert np.isnan([result.score.psnr_db, result.score.ssim, result.score.lpips]).all()
        assert np.isfinite([result.score.psnr_db_blurry, result.score.lpips_blurry]).all()
        plain = result.as_dict()
        assert (plain["psnr_db"], plain["ssim"], plain["frames_not_finite"]) == (None, None, 9)
        assert np.isnan(result.score.gain_db)


def test_a_score_says_by_what_tiles_it_was_made(longer):
    whole = longer().validate(Echo(), precision=PRECISION)
    tiled = longer("TEST.TILE=[3,16,24]", "TEST.TILE_OVERLAP=[1,8,8]").validate(Echo(), precision=PRECISION)
    assert whole.way == "vrt" and "tile" not in whole.as_dict()
    assert tiled.way == "vrt, tiles of 3 x 16 x 24"
    assert (tiled.as_dict()["tile"], tiled.as_dict()["tile_overlap"]) == ((3, 16, 24), (1, 8, 8))


def test_a_file_that_one_rank_cannot_read_is_an_error_on_all(longer):
    held_out = longer()
    last = held_out.clips.sequences[-1]
    (last.folder / "sharp" / f"{last.stems[-1]}.png").write_bytes(b"x")

    def on_rank(ranks):
        with pytest.raises(DataError, match="damaged: not a readable PNG"):
            held_out.validate(Echo(), precision=PRECISION, ranks=ranks)

    Together(2).each(on_rank)


@pytest.mark.parametrize("asked", [[0], [1], [0, 1]])
def test_a_signal_to_one_rank_has_all_leave_together_with_the_same_word(longer, asked):
    """The others are told where they meet, instead of waiting for one that is gone."""
    held_out, model = longer(), Echo()
    seen = []

    def on_rank(ranks):
        def stop(done, total):
            if ranks.rank in asked and done == 2:
                raise InterruptedRun("stopped after step 7", signal.SIGUSR1)

        with pytest.raises(InterruptedRun, match="^stopped after step 7$") as caught:
            held_out.validate(model, precision=PRECISION, ranks=ranks, progress=stop)
        seen.append(caught.value.exit_code)

    Together(2).each(on_rank)
    assert seen == [138, 138]
