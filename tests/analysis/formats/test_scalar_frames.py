import numpy as np
import pandas as pd

from deblurkit.analysis.formats.line_columns import Column
from deblurkit.analysis.formats.scalar_frames import scalar_frames, with_total_loss

STEP = np.array([10.0, 20.0, 30.0])
STAMP = np.array([100.0, 200.0, 300.0])


def column(rows, values):
    return Column(np.array(rows), np.array(values, dtype=float))


def test_numbers_of_steps_and_between_them_in_the_order_of_the_log():
    frames = scalar_frames(
        {"data_ms": column([0, 2], [1, 3])},
        {"data_ms": [(0.5, 10.0, 150.0, 2.0)], "psnr_db": [(2.5, 30.0, 310.0, 31.0)]},
        step=STEP,
        unix_s=STAMP,
    )
    assert frames["data_ms"].to_numpy().tolist() == [[10, 100, 1], [10, 150, 2], [30, 300, 3]]
    assert frames["psnr_db"].to_numpy().tolist() == [[30, 310, 31]]
    assert list(frames["psnr_db"].columns) == ["step", "unix_s", "value"]


def frame(values, steps=(1, 2)):
    return pd.DataFrame({"step": list(steps), "unix_s": [0.0, 1.0], "value": values})


def test_the_only_part_is_the_loss():
    scalars, note = with_total_loss({"loss/pix": frame([1.0, 2.0]), "psnr_db": frame([3.0, 4.0])})
    assert list(scalars) == ["loss", "psnr_db"]
    assert note == ""


def test_parts_add_up_without_the_adversary_s_and_the_validation_s():
    names = ["loss/pix", "loss/vgg", "loss/d_real", "loss/validation"]
    scalars, note = with_total_loss({name: frame([1.0, 2.0]) for name in names})
    assert scalars["loss"]["value"].tolist() == [2.0, 4.0]
    assert "the sum of loss/pix, loss/vgg" in note


def test_a_printed_total_stays_and_parts_of_other_steps_make_none():
    printed = {"loss": frame([9.0, 9.0]), "loss/pix": frame([1.0, 2.0])}
    assert with_total_loss(printed) == (printed, "")
    apart = {"loss/pix": frame([1.0, 2.0]), "loss/vgg": frame([1.0, 2.0], steps=(1, 3))}
    assert "loss" not in with_total_loss(apart)[0]
