"""What to go with after an interrupt, from rows whose memory is known, not known, or too much."""

from deblurkit.tuning.recommend.records import Row, Trial
from deblurkit.tuning.recommend.stopgap import stopgap


def rows(space, *, bound, known, failed=()):
    """Rows of candidates whose bytes are told by ``known``; under a bound what is not known does not fit."""
    found = []
    for each in space:
        held = known(each)
        fits = bound is None or (held is not None and held <= bound)
        trial = Trial(each.key, "timed out", "", 1.0) if each.key in failed else None
        found.append(Row(each, held, held, fits, None, trial))
    return found


def started(space, at):
    """The space as if a search had begun at one of its candidates."""
    return [space[at].__class__({}, space[at].config, space[at].choices), *space[:at], *space[at + 1 :]]


def test_the_start_where_nothing_is_known(space):
    for bound in (None, 5):
        found = stopgap(rows(started(space, 7), bound=bound, known=lambda each: None))
        assert found is not None and found.candidate.settings == {}
        assert "as it was given" in found.verdict and "before it was known to fit" in found.verdict


def test_the_start_where_it_fits_though_others_do_too(space):
    found = stopgap(rows(started(space, 20), bound=5, known=lambda each: 5))
    assert found is not None and found.candidate.settings == {} and "before a trial" in found.verdict


def test_the_nearest_that_fits_where_the_start_does_not(space, memory):
    start = started(space, 36)  # micro-batch 8, nothing recomputed
    bound = memory[space[36].key] - 1
    found = stopgap(rows(start, bound=bound, known=lambda each: memory.get(each.key, bound + 1)))
    assert found is not None and found.fits
    assert "nearest to the start" in found.verdict
    changed = [axis for axis, word in found.candidate.choices.items() if start[0].choices[axis] != word]
    assert len(changed) == 1


def test_what_fits_goes_before_what_is_not_known(space):
    only = space[30]
    found = stopgap(rows(started(space, 0), bound=5, known=lambda each: 5 if each is only else None))
    assert found is not None and found.candidate is only


def test_what_needs_least_where_the_start_does_not_fit_and_no_other_is_known(space):
    start = started(space, 47)
    found = stopgap(rows(start, bound=5, known=lambda each: None if each.settings else 6))
    assert found is not None
    assert found.candidate.batch_size == 1
    again = found.candidate.config.model.vrt.use_checkpoint_attn
    assert sum(again) == max(sum(each.config.model.vrt.use_checkpoint_attn) for each in space)
    assert "needs least" in found.verdict


def test_nothing_where_all_is_too_much_or_has_failed(space):
    assert stopgap(rows(started(space, 0), bound=5, known=lambda each: 6)) is None
    failed = {each.key for each in started(space, 0)}
    assert stopgap(rows(started(space, 0), bound=None, known=lambda each: 6, failed=failed)) is None


def test_not_what_has_failed(space):
    start = started(space, 0)
    found = stopgap(rows(start, bound=None, known=lambda each: 6, failed={start[0].key}))
    assert found is not None and found.candidate.settings
