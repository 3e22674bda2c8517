import pytest

from deblurkit.config.layers import layer_of_file, layer_of_overrides, layer_of_text


def problems(text):
    return [str(problem) for problem in layer_of_text(text, name="run.yaml").problems]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "TRAIN:\n  BATCHSIZE: 2\n",
            "run.yaml:2: TRAIN.BATCHSIZE: unknown key; did you mean TRAIN.BATCH_SIZE",
        ),
        ("TRAINN: {}\n", "run.yaml:1: TRAINN: unknown key; did you mean TRAIN?"),
        ("train:\n  batch_size: 2\n", "run.yaml:1: train: unknown key; did you mean TRAIN.BATCH_SIZE?"),
        ("TENSORBOARD: true\n", "run.yaml:1: TENSORBOARD: unknown key; did you mean LOG.TENSORBOARD?"),
        ("LOSS:\n  QQQ: 1\n", "run.yaml:2: LOSS.QQQ: unknown key; LOSS takes CHARBONNIER, VGG_PERCEPTUAL"),
        ("DATA: 3\n", "run.yaml:1: DATA: expected keys below it, one a line, got 3"),
        (
            "SEED:\n  A: 1\n",
            "run.yaml:1: SEED: expected a whole number from 0 to 4,294,967,295, got a mapping",
        ),
        ("SEED: {}\n", "run.yaml:1: SEED: expected a whole number from 0 to 4,294,967,295, got a mapping"),
        ("TRAIN.EPOCHS: 3\n", "run.yaml:1: TRAIN.EPOCHS: a key holds no dot;"),
    ],
)
def test_a_key_in_the_wrong_place_is_told_with_a_way_out(text, problem):
    (only,) = problems(text)
    assert only.startswith(problem)


def test_an_unknown_section_is_told_once():
    assert len(problems("FOO:\n  A: 1\n  B: {C: 2}\n")) == 1


def test_a_section_without_keys_says_nothing():
    layer = layer_of_text("TRAIN:\nLOG: {}\nMODEL:\n  VRT:\n", name="run.yaml")
    assert (layer.settings, layer.problems) == ({}, [])


def test_a_file_that_is_not_there_is_a_problem_and_no_exception(tmp_path):
    layer = layer_of_file(tmp_path / "none.yaml")
    assert [str(problem) for problem in layer.problems] == [f"{tmp_path / 'none.yaml'}: no such file"]


def test_overrides_are_yaml_and_the_last_one_counts():
    layer = layer_of_overrides(
        [
            "TRAIN.EPOCHS=3",
            "MODEL.WINDOW_SIZE=[6, 8, 8]",
            "TRAIN.OPTIM={LR: 2e-4}",
            "TRAIN.EPOCHS=4",
            "DATA.ROOT=a=b",
        ]
    )
    assert layer.problems == []
    assert {key: setting.value for key, setting in layer.settings.items()} == {
        "TRAIN.EPOCHS": 4,
        "MODEL.WINDOW_SIZE": [6, 8, 8],
        "TRAIN.OPTIM.LR": 0.0002,
        "DATA.ROOT": "a=b",
    }


@pytest.mark.parametrize("override", ["TRAIN.EPOCHS", "=3", "TRAIN..EPOCHS=3", "TRAIN.EPOCHS=[", ""])
def test_an_override_that_is_none_is_a_fault_of_usage(override):
    (problem,) = layer_of_overrides([override]).problems
    assert problem.is_usage
    assert str(problem).startswith("--set")
