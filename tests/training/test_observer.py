from deblurkit.training.observer import Progress


def test_a_line_of_the_log_has_the_seeds_form():
    whole = Progress(40, 100, 0.0123456, 2e-4, 3.21, 1.26, 4.0)
    assert whole.as_line() == (
        "step 40/100 | loss=0.01235 | lr=2.000e-04 | 3.2 samples/s | data_time=1.3ms | load_time=4.0ms"
    )
    without = Progress(40, 100, 0.0123456, 2e-4, 3.21, None)
    assert without.as_line() == "step 40/100 | loss=0.01235 | lr=2.000e-04 | 3.2 samples/s"
