import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from pydantic import ValidationError

from deblurkit.config.presets import find_presets
from deblurkit.config.schema import Config, as_values, flat_values, json_schema, known_keys, shown


def test_defaults_are_the_seed_s_where_it_gives_them():
    config = Config()  # seed 003, sec. 4
    assert config.seed == 123
    assert config.data.root == Path("data/processed/gopro_spike_unified")
    assert (config.data.crop_size, config.data.clip_len, config.data.num_voxel_bins) == (256, 5, 32)
    assert config.model.channels_per_scale == (96, 96, 96, 96)
    assert config.train.gradient_accumulation_steps == 6
    assert (config.train.optim.lr, config.train.optim.betas) == (0.0002, (0.9, 0.99))
    assert config.log.timing_console_interval == 10


def test_a_configuration_survives_its_plain_values():
    config = Config.model_validate({"MODEL": {"WINDOW_SIZE": [6, 8, 8]}, "LOG": {"SAVE_DIR": "運行/1"}})
    assert Config.model_validate(json.loads(json.dumps(as_values(config)))) == config


def test_the_training_crop_is_the_crop_unless_it_is_given():
    assert Config().data.train_crop == 256
    assert Config.model_validate({"DATA": {"TRAIN_CROP_SIZE": 128}}).data.train_crop == 128


def test_clips_grow_with_the_epochs_as_crops_do():
    def data(**keys):
        return Config.model_validate({"DATA": {"CLIP_LEN": 6, **keys}}).data

    assert (data().clips_by_epoch, data().train_clip) == (((0, 6),), 6)
    assert data(TRAIN_CLIP_LEN=2).clips_by_epoch == ((0, 2),)  # to the end
    grown = data(TRAIN_CLIP_LEN=[2, 4], TRAIN_CLIP_EPOCHS=10)
    assert grown.clips_by_epoch == ((0, 2), (10, 4), (20, 6))
    assert (grown.train_clip, grown.crops_by_epoch) == (2, ((0, 256),))
    crops = data(TRAIN_CROP_SIZE=[64, 128], TRAIN_CROP_EPOCHS=3)
    assert crops.crops_by_epoch == ((0, 64), (3, 128), (6, 256)) and crops.train_crop == 64


def test_k_gives_the_voxel_bins_where_they_are_not_given():
    assert Config.model_validate({"DATA": {"K": 8}}).data.num_voxel_bins == 8


def test_home_is_resolved_in_paths(monkeypatch):
    monkeypatch.setenv("HOME", "/home/who")
    assert Config.model_validate({"LOG": {"SAVE_DIR": "~/runs"}}).log.save_dir == Path("/home/who/runs")


def test_nothing_contradictory_can_be_built():
    with pytest.raises(ValidationError, match="WARMUP_STEPS to at most that"):
        Config.model_validate({"TRAIN": {"MAX_STEPS": 3}})


def test_a_configuration_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        Config().seed = 3


def test_every_key_says_what_it_takes_and_what_for():
    keys = known_keys()
    assert list(keys) == list(flat_values(Config()))
    assert all(key.expected and key.description.endswith((".", "?")) for key in keys.values())
    assert keys["TRAIN.BATCH_SIZE"].expected == "a whole number of at least 1"
    assert keys["DATA.CROP_SIZE"].expected == "a whole number of at least 16, divisible by 8"
    assert keys["SEED"].expected == "a whole number from 0 to 4,294,967,295"
    assert keys["TRAIN.OPTIM.LR"].expected == "a number above 0 and of at most 1"
    assert keys["TRAIN.AMP_DTYPE"].expected == "one of bf16, fp16"
    assert keys["DATA.ROOT"].expected == "a path"
    flags = keys["MODEL.VRT.USE_CHECKPOINT_ATTN"].expected
    assert flags == "true or false or a list of 8 values, each true or false"
    assert keys["MODEL.VRT_DEPTHS"].expected.startswith("a list of values, each")


def test_the_json_schema_takes_every_preset_and_nothing_unknown():
    validator = jsonschema.Draft202012Validator(json_schema())
    validator.check_schema(json_schema())
    for path in find_presets().values():
        validator.validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    validator.validate(as_values(Config()))
    for wrong in ({"train": {}}, {"TRAIN": {"BATCHSIZE": 1}}, {"TRAIN": {"BATCH_SIZE": 0}}, {"SEED": True}):
        assert not validator.is_valid(wrong), wrong


@pytest.mark.parametrize(
    ("value", "text"), [(True, "true"), (None, "null"), ("深", '"深"'), ({"A": 1}, "a mapping")]
)
def test_values_are_quoted_as_yaml_has_them(value, text):
    assert shown(value) == text


def test_long_values_are_cut():
    assert len(shown(list(range(1000)))) == 60
