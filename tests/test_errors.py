from deblurkit.errors import ConfigError, DataError, DeblurkitError, UsageError


def test_a_config_error_shows_every_problem_on_a_line_of_its_own():
    error = ConfigError(["a.yaml:1: one", "a.yaml:2: two"])
    assert error.problems == ["a.yaml:1: one", "a.yaml:2: two"]
    assert str(error).splitlines() == error.problems


def test_usage_errors_end_with_two_and_all_others_with_one():
    assert (DeblurkitError("").exit_code, DataError("").exit_code, UsageError("").exit_code) == (1, 1, 2)
