import io
import os

import pytest

from deblurkit.render.lasting_stream import lasting


def test_what_is_written_arrives():
    stream = io.StringIO()
    out = lasting(stream)
    assert out.write("秩\n") == 2
    out.flush()
    assert stream.getvalue() == "秩\n" and not out.isatty()


def test_a_closed_terminal_is_quiet_and_nothing_is_left_for_the_end_of_the_process():
    master, slave = os.openpty()
    stream = os.fdopen(slave, "w", buffering=1)
    out = lasting(stream)
    out.write("read\n")
    assert os.read(master, 100) == b"read\r\n" and out.isatty()
    os.close(master)
    with pytest.raises(OSError, match="Input/output error"):
        os.write(slave, b"x")
    out.write("unread\n")
    print("unread too", file=out, flush=True)
    stream.close()  # flushes what its buffer still holds


def test_a_pipe_without_a_reader_is_quiet():
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        out = lasting(stream)
        out.write("unread")
        out.flush()


def test_other_errors_are_said():
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        lasting(Full()).write("x")
