import contextlib
import sqlite3
import stat

import pytest

from deblurkit.cache import index as index_module
from deblurkit.cache.index import Index, make_index


@pytest.fixture
def index(tmp_path):
    make_index(tmp_path / "index.sqlite", max_bytes=4096)
    index = Index(tmp_path / "index.sqlite")
    yield index
    index.close()


def hits(index):
    with index.transaction() as connection:
        return connection.execute("SELECT hits FROM node").fetchone()[0]


def test_a_block_that_ends_in_an_error_changes_nothing(index):
    with pytest.raises(RuntimeError), index.transaction() as connection:
        connection.execute("UPDATE node SET hits = 7")
        raise RuntimeError
    assert hits(index) == 0
    with index.transaction() as connection:
        connection.execute("UPDATE node SET hits = 7")
    assert hits(index) == 7


def test_only_its_owner_can_open_it(index, tmp_path):
    hits(index)
    files = sorted(tmp_path.iterdir())
    assert [path.name for path in files] == ["index.sqlite", "index.sqlite-shm", "index.sqlite-wal"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_an_index_that_stays_locked_is_an_error_and_then_usable_again(index, tmp_path, monkeypatch):
    monkeypatch.setattr(index_module, "PATIENCE_SECONDS", 0)
    with contextlib.closing(sqlite3.connect(tmp_path / "index.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            hits(index)
        other.execute("ROLLBACK")
        assert hits(index) == 0


def test_an_index_that_is_gone_is_an_error_and_is_not_made(tmp_path):
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        hits(Index(tmp_path / "none.sqlite"))
    assert not (tmp_path / "none.sqlite").exists()


def test_before_a_fork_the_connection_is_closed(index, tmp_path):
    hits(index)
    index.before_fork()
    assert [path.name for path in tmp_path.iterdir()] == [
        "index.sqlite"
    ]  # the last to close takes log and all
    index.after_fork_in_parent()
    assert hits(index) == 0
