from deblurkit.config.changed import as_assignments, changed
from deblurkit.config.load import load_config
from deblurkit.config.schema import Config, flat_values

SETTINGS = {
    "TRAIN.BATCH_SIZE": 3,
    "TRAIN.AMP_ENABLED": True,
    "TRAIN.EMA_DECAY": 0.5,
    "TEST.TILE": [64, 96],
    "DATA.TRAIN_CROP_SIZE": None,
}


def test_the_values_are_changed_and_no_others():
    before = Config.model_validate({"DATA": {"CROP_SIZE": 128, "TRAIN_CROP_SIZE": 96}})
    after = changed(before, SETTINGS)
    assert flat_values(after) == flat_values(before) | SETTINGS
    assert before.train.batch_size == 1


def test_what_is_not_valid_is_no_configuration():
    assert changed(Config(), {"TRAIN.BATCH_SIZE": 0}) is None
    assert changed(Config(), {"DATA.TRAIN_CROP_SIZE": 512}) is None  # more than CROP_SIZE


def test_assignments_say_the_same_to_the_command_line():
    assignments = as_assignments(SETTINGS)
    assert assignments[1:] == (
        "TRAIN.AMP_ENABLED=true",
        "TRAIN.EMA_DECAY=0.5",
        "TEST.TILE=[64, 96]",
        "DATA.TRAIN_CROP_SIZE=null",
    )
    assert load_config(None, None, assignments, warn=lambda text: None) == changed(Config(), SETTINGS)
