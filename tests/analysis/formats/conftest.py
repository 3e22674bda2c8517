"""Reading a log as the command line does: detection, cleaning and all."""

import io

import pytest

from deblurkit.analysis.readers import read_stream


@pytest.fixture
def read():
    """Return a function from the text of a log to what is read of it."""

    def read_text(text):
        content = text if isinstance(text, bytes) else text.encode()
        return read_stream(io.BytesIO(content), source="x.log")

    return read_text
