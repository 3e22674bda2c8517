from deblurkit.timing.records import StepTiming
from deblurkit.timing.scalars import Scalars


def test_phases_go_to_the_writer_at_the_interval():
    sent = []
    scalars = Scalars(lambda tag, value, step: sent.append((tag, value, step)), interval=2)
    for step in (1, 2):
        scalars.write_step(StepTiming(step, 0.0, 10.0, {"数据": 4.0, "forward": 5.0, "forward/a": 3.0}))
    scalars.close()
    assert sent == [
        ("timing/数据", 4.0, 2),
        ("timing/forward", 5.0, 2),
        ("timing/unaccounted", 1.0, 2),
        ("timing/step", 10.0, 2),
    ]


def test_deeper_rows_are_sent_if_asked_for():
    tags = []
    scalars = Scalars(lambda tag, value, step: tags.append(tag), interval=1, depth=2)
    scalars.write_step(StepTiming(1, 0.0, 1.0, {"a": 1.0, "a/b": 1.0, "a/b/c": 1.0}))
    assert tags == ["timing/a", "timing/a/b", "timing/unaccounted", "timing/step"]
