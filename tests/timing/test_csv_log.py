import csv
import io

from hypothesis import given
from hypothesis import strategies as st

from deblurkit.timing.csv_log import CsvLog
from deblurkit.timing.records import StepTiming, clean_name


def read(path):
    return list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))


def test_a_step_is_a_line_per_row_whose_own_times_add_up_to_the_wall_time(tmp_path):
    log = CsvLog(tmp_path / "t.csv", flush_interval=1)
    log.write_step(StepTiming(3, 0.0, 20.0, {"forward": 12.0, "forward/编码器": 5.0}))
    head, *rows = read(log.path)  # on the disk already
    log.close()
    log.close()
    assert head == ["step", "name", "milliseconds", "exclusive_milliseconds"]
    assert rows == [
        ["3", "forward", "12.0000", "7.0000"],
        ["3", "forward/编码器", "5.0000", "5.0000"],
        ["3", "unaccounted", "8.0000", "8.0000"],
    ]
    assert sum(float(row[3]) for row in rows) == 20.0


def test_quotes_commas_and_line_ends_are_rfc_4180(tmp_path):
    log = CsvLog(tmp_path / "t.csv", flush_interval=1)
    log.write_step(StepTiming(1, 0.0, 1.0, {'a, "b"': 1.0}))
    log.close()
    assert log.path.read_bytes().split(b"\r\n")[1] == b'1,"a, ""b""",1.0000,1.0000'


@given(st.text(max_size=12).map(clean_name))
def test_any_name_comes_back(tmp_path_factory, name):
    log = CsvLog(tmp_path_factory.mktemp("csv") / "t.csv", flush_interval=1)
    log.write_step(StepTiming(1, 0.0, 1.0, {name: 1.0}))
    log.close()
    assert read(log.path)[1][1] == name
