import pytest

from deblurkit.config.load import load_config
from deblurkit.config.schema import as_values
from deblurkit.render.recommend_yaml import recommendation_as_yaml
from deblurkit.tuning.recommend.promised import promised_values


def written(found, tmp_path):
    path = tmp_path / "it's mine.yaml"
    command = "deblurkit recommend-config --preset x"
    return path, recommendation_as_yaml(
        found, path=path, command=command, date="2026-01-02", origins={"SEED": "preset x:3"}
    )


def test_train_reads_back_what_was_recommended_and_promised(recommendation, tmp_path):
    found = recommendation()
    path, text = written(found, tmp_path)
    path.write_text(text, encoding="utf-8")
    config = load_config(None, path, [], warn=pytest.fail)
    assert as_values(config) == promised_values(found)


def test_each_changed_line_says_why_and_the_head_where_it_is_from(recommendation, tmp_path):
    path, text = written(recommendation(notes=("two\nlines",)), tmp_path)
    lines = text.splitlines()
    assert lines[0] == f"# deblurkit train --config '{tmp_path}/it'\"'\"'s mine.yaml'"
    assert "# made on 2026-01-02 by: deblurkit recommend-config --preset x" in lines
    (batch,) = [line for line in lines if line.startswith("  BATCH_SIZE: 3")]
    assert batch.endswith("# was 1; batch 3 x 2: 5.00 / 3.00 = 1.67 x as fast")
    assert [line for line in lines if line.startswith("SEED:")][0].endswith("# preset x:3")
    assert [line for line in lines if "GAIN: 2.0" in line][0].endswith("# promised by recommend-config")


def test_hardware_of_any_name_stays_a_comment(recommendation, tmp_path):
    found = recommendation(hardware="a\nSEED: 7 # 'x\": [")
    path, text = written(found, tmp_path)
    path.write_text(text, encoding="utf-8")
    config = load_config(None, path, [], warn=pytest.fail)
    assert config.seed == 123 and config.promise.hardware == "a\nSEED: 7 # 'x\": ["


def test_where_nothing_fits_there_is_nothing_to_write(recommendation, tmp_path):
    with pytest.raises(ValueError, match="nothing fits"):
        written(recommendation(best=None), tmp_path)
