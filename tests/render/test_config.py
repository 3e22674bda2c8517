from pathlib import Path

from rich.cells import cell_len

from deblurkit.config.schema import Config, Key, as_values, known_keys
from deblurkit.config.yaml_source import parse
from deblurkit.render.config import (
    config_as_yaml,
    differences_as_text,
    keys_as_markdown,
    presets_as_text,
)

MANUAL = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_every_value_carries_its_origin_and_the_whole_is_yaml():
    values = as_values(Config.model_validate({"LOG": {"SAVE_DIR": "outputs/運行"}}))
    text = config_as_yaml(values, {"LOG.SAVE_DIR": "設定.yaml:3", "SEED": "--set"})
    lines = text.splitlines()
    assert lines[0].split("  # ") == [lines[0].split("  # ")[0], "--set"]
    (row,) = [line for line in lines if "SAVE_DIR" in line]
    assert row.endswith("  # 設定.yaml:3")
    assert sum(line.endswith("# default") for line in lines) == len(known_keys()) - 2
    document = parse(text)
    assert document.problems == []
    assert len(document.entries) == len(known_keys())
    columns = {cell_len(line.partition("  # ")[0]) for line in lines if "  # " in line}
    assert len(columns) == 1


def test_an_origin_cannot_break_the_line():
    assert "a?b.yaml:1" in config_as_yaml({"SEED": 1}, {"SEED": "a\nb.yaml:1"})


def test_presets_stand_under_each_other_with_their_hardware():
    text = presets_as_text({"快": ["command", "GPUs"], "slow": ["command", "CPUs", "more"], "bare": []})
    assert text.splitlines() == ["Presets", "  快    GPUs", "  slow  CPUs", "  bare"]


def test_differences_are_a_table_whose_columns_fit_wide_characters():
    rows = [
        {"key": "TRAIN.BATCH_SIZE", "a": 1, "b": 2},
        {"key": "LOG.SAVE_DIR", "a": "運行", "b": "outputs"},
        {"key": "MODEL.WINDOW_SIZE", "a": 8, "b": [6, 8, 8]},
    ]
    assert differences_as_text(rows, names=("fast", "run.yaml")).splitlines() == [
        "Key                fast  run.yaml",
        "TRAIN.BATCH_SIZE   1     2",
        "LOG.SAVE_DIR       運行  outputs",
        "MODEL.WINDOW_SIZE  8     [6, 8, 8]",
    ]
    assert differences_as_text([], names=("a", "b")) == "a and b are the same configuration.\n"


def test_a_key_is_a_row_of_the_manual_s_table():
    text = keys_as_markdown([Key("A.B", 2, "cpu*0.9", "What for.")])
    assert text.splitlines()[2] == r"| `A.B` | `2` | cpu\*0.9 | What for. |"


def test_the_manual_has_all_keys_as_they_are():
    assert MANUAL.read_text(encoding="utf-8").endswith(keys_as_markdown(known_keys().values()))
