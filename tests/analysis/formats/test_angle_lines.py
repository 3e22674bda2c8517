import math

from deblurkit.analysis.formats.angle_lines import gather_angle_lines
from deblurkit.analysis.formats.line_log import LineLog


def gathered(*lines):
    log = LineLog("x.log", "kair", expected="")
    gather_angle_lines([line.encode() for line in lines], log)
    return log.finish()


def test_a_line_without_a_stamp_still_tells_its_step():
    log = gathered("<epoch:  3, iter:   1,200, lr:4.000e-04> G_loss: 3.100e-02 D_loss: 1.0e-01")
    assert log.steps[["step", "epoch"]].to_numpy().tolist() == [[1200, 3]]
    assert math.isnan(log.steps["total_ms"].iloc[0])
    assert log.scalars["loss"]["value"].tolist() == [3.1e-2]
    assert log.scalars["loss/d"]["value"].tolist() == [1.0e-1]


def test_several_rates_in_any_brackets():
    log = gathered(
        "<epoch: 0, iter: 1, lr:(4.0e-04, 1.0e-05)> l: 1", "<epoch: 0, iter: 2, lr:4.0e-04,1.0e-05> l: 1"
    )
    assert log.scalars["learning_rate"]["value"].tolist() == [4e-4, 4e-4]
    assert log.damaged_lines == 0


def test_half_a_line_with_another_behind_it_counts_as_damage_and_as_a_step():
    half = "24-01-31 10:00:01.123 : <epoch:  3, iter:   1,2"
    log = gathered(half + "24-01-31 10:09:01.123 : <epoch:  3, iter:   1,400, lr:4.000e-04> G_loss: 3.1e-02")
    assert log.steps["step"].tolist() == [1400]
    assert log.damaged_lines == 1


def test_a_broken_line_is_counted():
    assert gathered("<epoch: 0, iter: 1, lr:1e-4> l: 1", "<epoch: x, iter: y").damaged_lines == 1
