import pytest

from deblurkit.tuning.recommend.trial_request import TrialAnswer, TrialRequest, answer_in, request_in

MEASURED = TrialAnswer("measured", step_seconds=(0.1, 0.2), phases={"forward": 0.05}, peak_bytes=7)


def test_a_request_arrives_as_it_was_sent():
    request = TrialRequest({"SEED": 1, "DATA": {"ROOT": "资料"}}, steps=3, device_bytes=2**34)
    assert request_in(request.as_json()) == request


def test_an_answer_is_found_behind_what_libraries_have_printed():
    assert answer_in(f"hello\n{MEASURED.as_json()}\n") == MEASURED
    assert answer_in(f"{MEASURED.as_json()}\n{{torn") == MEASURED


@pytest.mark.parametrize("text", ["", "hello", "[1]", '{"outcome": "measured"}', "{}", "null"])
def test_what_is_no_answer_is_none(text):
    assert answer_in(text) is None


def test_an_outcome_that_does_not_exist_is_no_answer():
    assert answer_in(MEASURED.as_json().replace("measured", "splendid")) is None
