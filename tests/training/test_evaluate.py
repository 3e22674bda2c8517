import pytest
import torch
from safetensors.torch import save_file

from deblurkit.errors import CheckpointError, DataError, DeblurkitError, UsageError
from deblurkit.training import run
from deblurkit.training.evaluate import evaluate_checkpoint, load_network
from deblurkit.training.parts import assemble
from deblurkit.training.tiling import Tile


def test_the_scores_are_those_of_the_run_s_own_validation(tiny_config, Watcher):
    config = tiny_config()
    summary = run.train(config, observer=Watcher())
    results = evaluate_checkpoint(config.log.save_dir, device="cpu", warn=pytest.fail, ablate_spikes=True)
    assert results["restored"].score.psnr_db == summary.validation["psnr_db"]
    assert set(results) == {"restored", "spikes zeroed", "spikes shuffled"}


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
    model, loaded = load_network(config.log.save_dir, warn=pytest.fail)
    fresh = assemble(config, message=lambda t: None, warn=lambda t: None).model
    assert loaded == config
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

    def load(net, weights, device, *, key):
        asked.append((net, weights, device.type, key))
        return lambda restored, sharp: (restored - sharp).abs().mean(dim=(1, 2, 3))

    monkeypatch.setattr("deblurkit.training.perceptual.load_lpips", load)
    results = evaluate_checkpoint(
        config.log.save_dir,
        device="cpu",
        protocol="pooled",
        lpips="vgg",
        tile=Tile(0, 32, 40),
        warn=pytest.fail,
    )
    assert asked == [("vgg", None, "cpu", "--lpips-weights")]
    assert results["restored"].protocol == "pooled" and results["restored"].score.lpips > 0
    with pytest.raises(UsageError, match="--lpips: expected one of alex, vgg, got squeeze"):
        evaluate_checkpoint(config.log.save_dir, device="cpu", lpips="squeeze", warn=pytest.fail)


def test_averaged_weights_are_taken_where_the_run_has_them(tiny_config, Watcher):
    config = tiny_config("TRAIN.EMA_DECAY=0.9")
    summary = run.train(config, observer=Watcher())
    results = evaluate_checkpoint(config.log.save_dir, device="cpu", warn=pytest.fail)
    assert results["restored"].score.psnr_db == summary.validation["psnr_db"]
