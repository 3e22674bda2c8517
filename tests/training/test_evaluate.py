from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from deblurkit.errors import CheckpointError, DataError, DeblurkitError, UsageError
from deblurkit.models.unet import ClipUNet
from deblurkit.training import perceptual, run
from deblurkit.training.evaluate import evaluate_checkpoint, load_network
from deblurkit.training.parts import assemble
from deblurkit.training.tiling import Tile


def test_the_scores_are_those_of_the_run_s_own_validation(tiny_config, Watcher):
    config = tiny_config()
    summary = run.train(config, observer=Watcher())
    found = evaluate_checkpoint(config.log.save_dir, device="cpu", warn=pytest.fail, ablate_spikes=True)
    assert found.results["restored"].score.psnr_db == summary.validation["psnr_db"]
    assert set(found.results) == {"restored", "spikes zeroed", "spikes shuffled"}
    assert (found.step, found.data, found.split) == (4, config.data.root, "test")


def test_clips_of_one_frame_are_not_said_to_be_shuffled(tiny_config, Watcher):
    """Their spikes would be where they were, and the scores the same."""
    config, warnings = tiny_config("DATA.CLIP_LEN=1"), []
    run.train(config, observer=Watcher())
    found = evaluate_checkpoint(config.log.save_dir, device="cpu", warn=warnings.append, ablate_spikes=True)
    assert set(found.results) == {"restored", "spikes zeroed"}
    assert len(warnings) == 1 and "cannot be shuffled in clips of one frame" in warnings[0]
    longer = {"tile": Tile(3, 48, 64), "ablate_spikes": True}
    found = evaluate_checkpoint(config.log.save_dir, device="cpu", warn=pytest.fail, **longer)
    assert "spikes shuffled" in found.results


def test_memory_that_does_not_suffice_is_explained(tiny_config, Watcher, monkeypatch):
    config = tiny_config()
    run.train(config, observer=Watcher())

    def full(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(ClipUNet, "forward", full)
    for tile, told, smaller in (
        (None, "whole frames were", "3x256x256"),
        (Tile(3, 48, 64), "tiles", "3x24x32"),
    ):
        with pytest.raises(DeblurkitError) as caught:
            evaluate_checkpoint(config.log.save_dir, device="cpu", tile=tile, warn=pytest.fail)
        text = str(caught.value)
        assert text.startswith("host memory has run out: 2.00 GiB asked for")
        assert told in text and f"--tile {smaller}" in text and "TRAIN." not in text


def test_tiles_that_their_overlap_fills_are_a_clear_error(tiny_config, Watcher):
    config = tiny_config()
    run.train(config, observer=Watcher())
    with pytest.raises(DeblurkitError, match="tiles of 8 x 8 px that overlap by 8 x 8 px"):
        evaluate_checkpoint(config.log.save_dir, device="cpu", tile=Tile(0, 8, 8), warn=pytest.fail)


def test_frames_too_small_for_lpips_are_told_by_its_option(tiny_config, Watcher, monkeypatch):
    config = tiny_config()
    run.train(config, observer=Watcher())
    needy = replace(perceptual.LPIPS_NETS["alex"], least_side=49)  # the frames have 48 x 64 px
    monkeypatch.setitem(perceptual.LPIPS_NETS, "alex", needy)
    with pytest.raises(DataError, match="--lpips alex: needs frames of at least 49 x 49 px, got 48 x 64"):
        evaluate_checkpoint(config.log.save_dir, device="cpu", lpips="alex", warn=pytest.fail)


def test_missing_weights_of_lpips_are_told_by_the_option_of_this_command(tiny_config, Watcher, tmp_path):
    config, missing = tiny_config(), tmp_path / "none.pth"
    run.train(config, observer=Watcher())
    with pytest.raises(CheckpointError) as caught:
        evaluate_checkpoint(
            config.log.save_dir, device="cpu", lpips="alex", lpips_weights=missing, warn=pytest.fail
        )
    text = str(caught.value)
    assert text.startswith(f"--lpips-weights: no file {missing};")
    assert text.endswith("or name it by --lpips-weights PATH") and "--set" not in text


def test_a_folder_without_checkpoints_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="found none"):
        load_network(tmp_path, warn=pytest.fail)


def test_another_dataset_must_exist(tiny_config, tmp_path, Watcher):
    config = tiny_config()
    run.train(config, observer=Watcher())
    with pytest.raises(DataError, match="no such dataset folder"):
        evaluate_checkpoint(config.log.save_dir, data=tmp_path / "none", device="cpu", warn=pytest.fail)


def test_a_network_without_spikes_has_none_to_zero(tiny_config, Watcher):
    config = tiny_config("MODEL.USE_SPIKE=false")
    run.train(config, observer=Watcher())
    with pytest.raises(UsageError, match="trained without"):
        evaluate_checkpoint(config.log.save_dir, device="cpu", warn=pytest.fail, ablate_spikes=True)


def test_the_network_has_the_weights_of_the_checkpoint(tiny_config, Watcher):
    config = tiny_config()
    run.train(config, observer=Watcher())
    model, loaded, step = load_network(config.log.save_dir, warn=pytest.fail)
    fresh = assemble(config, message=lambda t: None, warn=lambda t: None).model
    assert (loaded, step) == (config, 4)
    assert (model.state_dict()["frames_out.weight"] != fresh.state_dict()["frames_out.weight"]).any()


def test_a_damaged_newest_checkpoint_is_passed_over_with_a_warning(tiny_config, Watcher):
    config = tiny_config("LOG.SAVE_EVERY_STEPS=2")
    run.train(config, observer=Watcher())
    (config.log.save_dir / "checkpoints" / "step_00000004.pt").write_bytes(b"x")
    warnings = []
    load_network(config.log.save_dir, warn=warnings.append)
    assert len(warnings) == 1 and "trying the one before" in warnings[0]


def test_a_configuration_of_another_version_is_a_clear_error(tiny_config, Watcher, monkeypatch):
    config = tiny_config()
    run.train(config, observer=Watcher())
    monkeypatch.setattr(
        "deblurkit.training.evaluate.load_newest", lambda folder, warn: {"config": {"FUTURE": 1}, "model": {}}
    )
    with pytest.raises(CheckpointError, match="another version of deblurkit.*FUTURE"):
        load_network(config.log.save_dir, warn=pytest.fail)


def test_a_gpu_that_is_not_there_is_said_with_this_command_s_option(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeblurkitError, match="--device cuda: .*use --device cpu$"):
        evaluate_checkpoint(tmp_path, device="cuda", warn=pytest.fail)


def test_what_is_not_there_is_neither_a_file_nor_a_folder(tmp_path):
    with pytest.raises(CheckpointError, match="expected a checkpoint or the folder of a run, found none"):
        load_network(tmp_path / "none", warn=pytest.fail)


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_bare_weights_are_told_where_they_belong(tmp_path, name):
    path = tmp_path / name
    state = {"conv.weight": torch.ones(2)}
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    with pytest.raises(CheckpointError, match=f"got weights alone; .*--set MODEL.PRETRAINED={path}"):
        load_network(path, warn=pytest.fail)


def test_protocol_tile_and_lpips_can_be_chosen(tiny_config, Watcher, monkeypatch):
    config = tiny_config()
    run.train(config, observer=Watcher())
    asked = []

    def load(net, weights, device, *, option):
        asked.append((net, weights, device.type, option))
        return lambda restored, sharp: (restored - sharp).abs().mean(dim=(1, 2, 3))

    monkeypatch.setattr("deblurkit.training.perceptual.load_lpips", load)
    result = evaluate_checkpoint(
        config.log.save_dir,
        device="cpu",
        protocol="pooled",
        lpips="vgg",
        tile=Tile(0, 32, 40),
        warn=pytest.fail,
    ).results["restored"]
    assert asked == [("vgg", None, "cpu", "--lpips-weights PATH")]
    assert result.protocol == "pooled" and result.score.lpips > 0
    assert (result.lpips_net, result.tile, result.tile_overlap) == ("vgg", (32, 40), (2, 8, 10))
    with pytest.raises(UsageError, match="--lpips: expected one of alex, vgg, got squeeze"):
        evaluate_checkpoint(config.log.save_dir, device="cpu", lpips="squeeze", warn=pytest.fail)


def test_averaged_weights_are_taken_where_the_run_has_them(tiny_config, Watcher):
    config = tiny_config("TRAIN.EMA_DECAY=0.9")
    summary = run.train(config, observer=Watcher())
    found = evaluate_checkpoint(config.log.save_dir, device="cpu", warn=pytest.fail)
    assert found.results["restored"].score.psnr_db == summary.validation["psnr_db"]
