"""What is due when, against lists of steps written by hand."""

from deblurkit.config.sections.run import LogSection
from deblurkit.training.due import Due

TOTAL, EPOCH = 12, 4  # steps


def ends_epochs(step, *, every):
    return every > 0 and step % (every * EPOCH) == 0


def steps(question, **log):
    due = Due(LogSection(**{name.upper(): value for name, value in log.items()}), TOTAL, ends_epochs)
    return [step for step in range(1, TOTAL + 1) if getattr(due, question)(step)]


def test_reports_come_at_their_interval_and_at_the_end():
    assert steps("report", timing_console_interval=5) == [5, 10, 12]


def test_checkpoints_come_at_their_interval_and_at_the_end():
    assert steps("save", save_every_steps=5) == [5, 10, 12]
    assert steps("save", save_every_steps=0) == [12]


def test_the_last_validation_is_that_of_the_summary():
    assert steps("validation", val_every_steps=3) == [3, 6, 9]
    assert steps("validation", val_every_steps=0) == []


def test_pictures_and_metrics_come_with_a_validation_of_their_own():
    assert steps("picture", pictures_every_epochs=1) == [4, 8, 12]
    assert steps("metrics", metrics_every_epochs=2) == [8, 12]
    assert steps("validation", val_every_steps=0, pictures_every_epochs=1) == [4, 8]
    assert steps("validation", val_every_steps=6, metrics_every_epochs=2) == [6, 8]


def test_a_quick_look_is_left_out_where_all_is_looked_at():
    assert steps("quick_look", val_every_steps=6, quick_val_every_steps=2) == [2, 4, 8, 10]
    assert steps("look", val_every_steps=6, quick_val_every_steps=4) == [4, 6, 8]


def test_a_pause_is_where_anything_is_due():
    assert steps("pause", save_every_steps=5, val_every_steps=6, quick_val_every_steps=4) == [
        4,
        5,
        6,
        8,
        10,
        12,
    ]
