import gzip
import io
import math
import random

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorboard.compat.proto import event_pb2
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util.tensor_util import make_tensor_proto

from deblurkit.analysis.formats.tensorboard_events import FORMAT, looks_like_events, read_events
from deblurkit.analysis.readers import read_log
from deblurkit.errors import DeblurkitError

BEGAN = 1_760_000_000.0


def scalar(tag, value, step, seconds):
    values = [Summary.Value(tag=tag, simple_value=value)]
    return event_pb2.Event(wall_time=BEGAN + seconds, step=step, summary=Summary(value=values))


def tensor(tag, value, step, seconds, *, plugin="scalars"):
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=plugin))
    values = [Summary.Value(tag=tag, tensor=make_tensor_proto(value), metadata=metadata)]
    return event_pb2.Event(wall_time=BEGAN + seconds, step=step, summary=Summary(value=values))


def written(*events):
    file = io.BytesIO()
    first = event_pb2.Event(wall_time=BEGAN, file_version="brain.Event:2")
    for event in (first, *events):
        RecordWriter(file).write(event.SerializeToString())
    return file.getvalue()


def read(*events):
    return read_events(io.BytesIO(written(*events)), source="events")


def series(log, name):
    return log.scalars[name][["step", "unix_s", "value"]].to_numpy().tolist()


def test_what_tensorboard_s_own_writer_writes_is_recognised_and_read(tmp_path):
    writer = EventFileWriter(str(tmp_path))
    for step in (10, 20, 30):
        writer.add_event(scalar("train/loss", step / 16, step, step / 4))
        writer.add_event(scalar("训练/自定义", step, step, step / 4))
    writer.close()
    (path,) = tmp_path.iterdir()
    assert looks_like_events(path.read_bytes()[: 1 << 20])
    with path.open("rb") as file:
        log = FORMAT.read(file, source=path.name)
    assert (log.format, log.damaged_lines, FORMAT.is_binary) == ("tensorboard", 0, True)
    assert series(log, "loss") == [
        [10, BEGAN + 2.5, 0.625],
        [20, BEGAN + 5.0, 1.25],
        [30, BEGAN + 7.5, 1.875],
    ]
    assert log.scalars["训练/自定义"]["value"].tolist() == [10, 20, 30]


def test_the_registry_knows_event_files_packed_or_not(tmp_path):
    content = written(scalar("train/loss", 0.5, 1, 1))
    (tmp_path / "events").write_bytes(content)
    (tmp_path / "events.gz").write_bytes(gzip.compress(content))
    for path in tmp_path.iterdir():
        log = read_log(path)
        assert (log.format, series(log, "loss")) == ("tensorboard", [[1, BEGAN + 1, 0.5]])


def test_torch_s_summary_writer_is_read_pictures_and_histograms_aside(tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_image("validation/picture", np.zeros((3, 8, 8), dtype=np.uint8), 1)
        writer.add_histogram("weights", np.arange(9.0), 1)
        writer.add_text("note", "words", 1)
        writer.add_hparams({"lr": 0.1}, {"hparam/score": 2.0})
        writer.add_scalar("train/loss", 0.25, 7, walltime=BEGAN)
        writer.add_scalar("train/learning_rate", 0.5, 7, walltime=BEGAN, new_style=True)
    path = next(path for path in tmp_path.iterdir() if path.is_file())
    log = read_events(io.BytesIO(path.read_bytes()), source="x")
    assert {name: series(log, name) for name in log.scalars} == {
        "loss": [[7, BEGAN, 0.25]],
        "learning_rate": [[7, BEGAN, 0.5]],
    }


def test_our_timing_tags_are_steps_and_rows_in_milliseconds():
    events = []
    for step, seconds in ((10, 1.0), (20, 2.0), (30, 3.0)):
        rows = {"data": 5.0, "forward": 60.0 + step, "forward/编码器": 20.0}
        events += [scalar(f"timing/{name}", ms, step, seconds) for name, ms in rows.items()]
        events.append(scalar("timing/unaccounted", 9.0, step, seconds))
        events.append(scalar("timing/step", 100.0 + step, step, seconds + 0.5))
        events.append(scalar("train/loss", 0.5, step, seconds + 0.6))
    log = read(*events[:-3], *events[-1:])  # the end of the third step was lost
    assert log.steps.to_dict("list") == {
        "step": [10, 20],
        "total_ms": [110.0, 120.0],
        "wall_known": [True, True],
        "unix_s": [BEGAN + 1.5, BEGAN + 2.5],
        "count": [1, 1],
        "epoch": pytest.approx([math.nan] * 2, nan_ok=True),
    }
    assert log.times.to_dict("list") == {
        "data": [5.0, 5.0],
        "forward": [70.0, 80.0],
        "forward/编码器": [20.0, 20.0],
    }
    assert list(log.scalars) == ["loss"]
    assert log.num_steps == 2


def test_wall_times_give_the_steps_that_nobody_timed():
    events = [scalar("epoch", step // 100, step, 0.2 * step + 0.001) for step in range(50, 301, 50)]
    events += [scalar("train_loss", 1.0, step, 0.2 * step) for step in range(50, 301, 10)]
    log = read(*events)
    assert log.steps["step"].tolist() == list(range(60, 301, 10))
    assert log.steps["total_ms"].to_numpy() == pytest.approx(200.0)
    assert (log.steps["count"] == 10).all()
    assert log.num_steps == 250
    assert log.steps["unix_s"].tolist() == pytest.approx([BEGAN + 0.2 * s for s in range(60, 301, 10)])
    assert log.steps["epoch"].tolist() == [step // 50 * 50 // 100 for step in range(60, 301, 10)]
    assert list(log.times.columns) == []
    assert "epoch" not in log.scalars
    assert "wall times of train_loss" in log.notes[0]


def test_a_validation_between_two_values_is_not_the_steps_time():
    at = 0.0
    events = []
    for step in range(0, 201, 10):
        if step == 100:  # 100 steps at 0.1 s each, then a validation of 30 s
            events.append(scalar("val/psnr", 31.5, 95, at + 29.0))
            at += 30.0
        events.append(scalar("train/loss", 1.0, step, at))
        at += 1.0
    log = read(*events)
    assert log.steps["step"].tolist() == [s for s in range(10, 201, 10) if s != 100]
    assert log.steps["total_ms"].to_numpy() == pytest.approx(100.0)
    (beside,) = log.beside
    assert (beside.name, beside.count, beside.after_step) == ("validation", 1, 90)
    assert beside.seconds == pytest.approx(30.0)
    (event,) = log.events
    assert (event.kind, event.step, event.text) == ("validation", 95, "val/psnr: 31.5")
    assert series(log, "psnr_db") == [[95, pytest.approx(event.unix_s), 31.5]]


def test_where_every_value_comes_with_a_validation_all_steps_stay():
    events = []
    for step in range(5):
        events += [scalar("train/loss", 1.0, step, step), scalar("test/loss", 1.0, step, step + 0.5)]
    log = read(*events)
    assert (log.num_steps, log.beside) == (4, ())


def test_the_longest_series_has_the_name_and_the_only_part_of_a_loss_is_the_loss():
    both = read(
        scalar("train_loss_epoch", 5.0, 2, 2),
        scalar("loss/train", 1.0, 1, 1),
        scalar("train/loss", 2.0, 1, 1),
        scalar("train/loss", 3.0, 2, 2),
    )
    assert both.scalars["loss"]["value"].tolist() == [2.0, 3.0]
    assert both.scalars["loss/train"]["value"].tolist() == [1.0]
    assert both.scalars["loss/epoch"]["value"].tolist() == [5.0]
    assert set(read(scalar("losses/l_pix", 1.0, 1, 1)).scalars) == {"loss"}
    several = read(scalar("losses/l_pix", 1.0, 1, 1), scalar("losses/l_percep", 0.5, 1, 1))
    assert {name: frame["value"].tolist() for name, frame in several.scalars.items()} == {
        "loss/pix": [1.0],
        "loss/percep": [0.5],
        "loss": [1.5],
    }


def test_printed_seconds_become_rows_in_milliseconds():
    events = []
    for step in (1, 2, 3):
        events += [scalar("loss", 1.0, step, step), scalar("data_time", 0.25 * step, step, step)]
        events.append(scalar("time", 1.0 if step < 3 else math.nan, step, step))
    log = read(*events)
    assert log.scalars["data_ms"]["value"].tolist() == [250.0, 500.0, 750.0]
    assert log.times["data"].tolist() == [500.0, 750.0]
    assert log.times["compute"].tolist() == pytest.approx([500.0, math.nan], nan_ok=True)


def test_a_loss_that_is_no_number_and_a_restart_are_events():
    session = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    log = read(
        scalar("train/loss", 1.0, 1, 1),
        scalar("train/loss", math.nan, 2, 2),
        scalar("train/loss", math.inf, 3, 3),
        scalar("train/whatever", math.nan, 3, 3),
        event_pb2.Event(wall_time=BEGAN + 4, step=1, session_log=session),
    )
    assert [(event.kind, event.step, event.unix_s) for event in log.events] == [
        ("nonfinite", 2, BEGAN + 2),
        ("start", 1, BEGAN + 4),
    ]
    assert math.isnan(log.scalars["loss"]["value"][1])


def test_damage_is_counted_and_the_rest_is_read():
    data = bytearray(written(*[scalar("train/loss", 1.0, step, step) for step in range(100)]))
    data[1000] ^= 1
    log = read_events(io.BytesIO(bytes(data[:-3])), source="x")
    assert log.damaged_lines == 2
    assert len(log.scalars["loss"]) == 98


def test_a_record_that_is_no_event_or_of_an_impossible_step_is_damage():
    file = io.BytesIO()
    RecordWriter(file).write(b"\xff\xff\xff")
    whole = written(scalar("loss", 1.0, -5, 1), scalar("loss", 1.0, 1, 1)) + file.getvalue()
    log = read_events(io.BytesIO(whole), source="x")
    assert (log.damaged_lines, len(log.scalars["loss"])) == (2, 1)


def test_a_wall_time_that_is_none_is_unknown():
    events = [scalar("loss", 1.0, 1, 0), scalar("loss", 1.0, 2, 0)]
    events[0].wall_time, events[1].wall_time = math.nan, -1.0
    log = read(*events)
    assert log.scalars["loss"]["unix_s"].isna().all()
    assert len(log.steps) == 0


def test_events_without_a_scalar_are_an_error():
    with pytest.raises(DeblurkitError, match=r"x\.tfevents: TensorBoard events without a scalar"):
        read_events(io.BytesIO(written()), source="x.tfevents")


@pytest.mark.parametrize("head", [b"", b"brain.Event:2 is what events begin with", b"\0" * 64, b"Step 1\n"])
def test_other_files_are_not_recognised(head):
    assert not looks_like_events(head)


SAMPLE = [
    *[scalar(f"timing/{name}", 5.0, step, step) for step in (1, 2, 3) for name in ("data", "前向", "step")],
    *[scalar(f"train/{name}", 0.5, step, step) for step in range(8) for name in ("loss", "lr", "val")],
    *[tensor("val/psnr", np.float64(30), step, step) for step in (3, 6)],
]


def mutated(data, rng):
    """Return data changed as files are: bytes flipped, lost, put in, doubled, cut off."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at, length = rng.randint(0, max(0, len(data) - 1)), rng.randint(1, 40)
        kind = rng.randrange(5)
        if kind == 0:
            data[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            del data[at : at + length]
        elif kind == 2:
            data[at:at] = bytes(length)
        elif kind == 3:
            data[at:at] = data[at : at + length]
        else:
            del data[max(1, at) :]
    return bytes(data)


def read_or_refused(data):
    """Return the log of damaged events, or None where they are refused in one line."""
    try:
        log = read_events(io.BytesIO(data), source="x")
    except DeblurkitError as error:
        assert "\n" not in str(error)
        return None
    assert len(log.steps) == len(log.times)
    assert log.steps["total_ms"].between(0, 1e12).all()
    assert (log.steps["count"] >= 1).all()
    return log


def damaged_frames(rng):
    read_or_refused(mutated(written(*SAMPLE), rng))


def damaged_contents(rng):
    """Change what lies in frames that are whole: every event is read or counted."""
    payloads = [event.SerializeToString() for event in SAMPLE]
    payloads = [mutated(payload, rng) if rng.random() < 0.3 else payload for payload in payloads]
    file = io.BytesIO()
    damaged = 0
    for payload in payloads:
        RecordWriter(file).write(payload)
        try:
            damaged += not 0 <= event_pb2.Event.FromString(payload).step < 10**15
        except DecodeError:
            damaged += 1
    log = read_or_refused(file.getvalue())
    assert log is None or log.damaged_lines == damaged


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from([damaged_frames, damaged_contents]))
def test_no_damage_is_a_traceback(rng, damage):
    damage(rng)


@pytest.mark.slow
def test_a_hundred_thousand_mutations():
    rng = random.Random(7)
    for number in range(100_000):
        (damaged_frames, damaged_contents)[number % 2](rng)
