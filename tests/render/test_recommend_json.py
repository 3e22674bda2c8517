import json

from deblurkit.config.schema import Config
from deblurkit.render.recommend_json import SCHEMA, recommendation_as_json
from deblurkit.tuning.recommend.records import Verification


def read(found):
    return json.loads(recommendation_as_json(found))


def test_the_best_has_its_configuration_need_and_speed(recommendation):
    best = read(recommendation())["best"]
    assert (best["peak_bytes"], best["samples_per_second"], best["interval"]) == (
        24 * 2**30,
        5.0,
        [4.0, 6.25],
    )
    assert best["settings"] == {
        "TRAIN.BATCH_SIZE": 3,
        "TRAIN.GRADIENT_ACCUMULATION_STEPS": 2,
        "TRAIN.OPTIM.TYPE": "adamw8bit",
    }
    config = Config.model_validate(best["config"])
    assert (config.train.batch_size, config.promise.samples_per_second) == (3, 5.0)
    assert "TRAIN.BATCH_SIZE=3" in best["set"]


def test_rows_trials_front_and_tables_are_all_there(recommendation):
    document = read(recommendation())
    assert document["schema"] == SCHEMA and document["stopped"] == "no other is likely to be 2 % faster"
    assert len(document["rows"]) == 6 and "config" not in document["rows"][0]
    assert [row["name"] for row in document["front"]] == [
        "optimizer adamw8bit; network half",
        "batch 3 x 2; optimizer adamw8bit",
    ]
    assert [trial["outcome"] for trial in document["trials"]] == ["measured"] * 3 + ["out of memory"]
    assert document["trials"][-1]["median_step_seconds"] is None
    assert [line["gain"] for line in document["tables"]["steps"]] == [1.0, 1.2, 2.0]
    assert document["tables"]["choices"]["fastest"]["total_seconds"] == 12_000
    assert document["start"]["config"]["TRAIN"]["BATCH_SIZE"] == 1


def test_what_is_not_known_is_null(recommendation):
    document = read(recommendation(best=None, samples_per_epoch=None))
    assert document["best"] is None and document["verification"] is None
    assert document["no_answer"] is None and document["verification_error"] is None
    assert document["tables"]["steps"][0]["epoch_seconds"] is None
    checked = Verification((2.0, 1.6, 2.5), measured=1.9, low=1.8, high=2.1, rounds=3, keeps=True)
    assert read(recommendation(verification=checked))["verification"]["promised"] == [2.0, 1.6, 2.5]


def test_why_there_is_no_answer_or_no_check_is_told(recommendation):
    document = read(recommendation(best=None, unpredicted="no room", verification_error="killed"))
    assert document["no_answer"].endswith("could memory be told: no room")
    assert document["verification_error"] == "killed"
