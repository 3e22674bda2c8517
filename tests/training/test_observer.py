import sys

import pytest

from deblurkit.training.distributed import ALONE, Ranks
from deblurkit.training.observer import Progress, Silent, own_warning


def test_a_line_of_the_log_has_the_seeds_form():
    whole = Progress(40, 100, 0.0123456, 2e-4, 3.21, 1.26, 4.0)
    assert whole.as_line() == (
        "step 40/100 | loss=0.01235 | lr=2.000e-04 | 3.2 samples/s | data_time=1.3ms | load_time=4.0ms"
    )
    without = Progress(40, 100, 0.0123456, 2e-4, 3.21, None)
    assert without.as_line() == "step 40/100 | loss=0.01235 | lr=2.000e-04 | 3.2 samples/s"


def test_what_one_rank_alone_knows_is_a_line_of_its_own(capsys, Watcher):
    own_warning(Silent(), Ranks(rank=3, world_size=4))("memory of it\ngrows")
    assert capsys.readouterr() == ("", "warning of rank 3: memory of it grows\n")
    told = Watcher()
    own_warning(told, ALONE)("it grows")
    assert (told.warnings, capsys.readouterr().err) == (["it grows"], "")


def test_a_warning_that_nobody_reads_ends_nothing(monkeypatch):
    class Gone:
        def write(self, text):
            raise BrokenPipeError

    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", Gone())
        with pytest.raises(BrokenPipeError):
            print("x", file=sys.stderr)
        own_warning(Silent(), Ranks(rank=1, world_size=2))("it grows")
