import os
import stat

import pytest

from deblurkit.cache import folder as folder_module
from deblurkit.cache.folder import all_folders, folder_of, is_held, join_folder, remove_remains
from deblurkit.errors import DataError

# A main process that joins, says so, and ends when it is told to or killed.
HOLD = """
import sys
from pathlib import Path
from deblurkit.cache.folder import folder_of, join_folder
membership, run = join_folder(folder_of(Path(sys.argv[1]), sys.argv[2]), lambda run: None)
print(run, flush=True)
sys.stdin.read()
membership.leave()
"""


def prepare(run):
    (run / "ready").touch()


def test_the_last_one_out_removes_the_folder(tmp_path):
    folder = folder_of(tmp_path, "a")
    first, run = join_folder(folder, prepare)
    second, same = join_folder(folder, prepare)
    assert run == same
    first.leave()
    assert (run / "ready").exists()
    second.leave()
    assert os.listdir(tmp_path) == []
    second.leave()  # a second time is nothing


def test_only_its_owner_can_open_it(tmp_path):
    before = os.umask(0o000)
    try:
        membership, run = join_folder(folder_of(tmp_path, "a"), prepare)
    finally:
        os.umask(before)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (run.parent, run)] == [0o700, 0o700]
    assert stat.S_IMODE((run.parent / "lock").stat().st_mode) == 0o600
    membership.leave()


def test_names_and_users_are_apart(tmp_path, monkeypatch):
    folders = {folder_of(tmp_path, "a"), folder_of(tmp_path, "b")}
    monkeypatch.setattr("os.getuid", lambda: 4242)
    assert len(folders | {folder_of(tmp_path, "a")}) == 3


def _link(folder):
    (folder.parent / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(folder.parent / "elsewhere")


def _dangling(folder):
    folder.symlink_to(folder.parent / "nowhere")


def _file(folder):
    folder.touch(mode=0o600)


def _open_to_others(folder):
    folder.mkdir()
    folder.chmod(0o770)


def _foreign(folder):
    folder.mkdir(mode=0o700)
    if os.getuid() != 0:
        pytest.skip("only root can give a folder away")
    os.chown(folder, 4242, 4242)


@pytest.mark.parametrize("make", [_link, _dangling, _file, _open_to_others, _foreign])
def test_what_somebody_else_has_put_there_is_refused_and_left_alone(tmp_path, make):
    folder = folder_of(tmp_path, "a")
    make(folder)
    with pytest.raises(DataError, match=r"mode 0700\) expected; something else is in its place"):
        join_folder(folder, prepare)
    assert remove_remains(tmp_path) == []
    assert os.path.lexists(folder)
    assert not (tmp_path / "nowhere").exists()
    assert not list(tmp_path.rglob("lock"))


def test_a_root_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no cache can be made here: No such file"):
        join_folder(folder_of(tmp_path / "none", "a"), prepare)


def test_a_run_that_cannot_be_prepared_leaves_nothing(tmp_path):
    def fail(run):
        raise DataError("does not fit")

    with pytest.raises(DataError, match="does not fit"):
        join_folder(folder_of(tmp_path, "a"), fail)
    assert os.listdir(tmp_path) == []


def test_remains_of_the_killed_are_removed_and_those_of_the_living_kept(tmp_path, start):
    alive, dead = start(HOLD, tmp_path, "alive"), start(HOLD, tmp_path, "dead")
    runs = [process.stdout.readline().strip() for process in (alive, dead)]
    assert all(map(os.path.isdir, runs))
    assert remove_remains(tmp_path) == []
    dead.kill()
    dead.wait()
    assert remove_remains(tmp_path) == [folder_of(tmp_path, "dead")]
    assert os.listdir(tmp_path) == [folder_of(tmp_path, "alive").name]
    assert os.path.isdir(runs[0])
    alive.communicate("")
    assert os.listdir(tmp_path) == []


def test_whether_a_folder_is_held_can_be_asked_and_changes_nothing(tmp_path, start):
    process = start(HOLD, tmp_path, "a")
    run, folder = process.stdout.readline().strip(), folder_of(tmp_path, "a")
    assert [is_held(folder) for _ in range(2)] == [True, True]
    process.kill()
    process.wait()
    assert [is_held(folder) for _ in range(2)] == [False, False]
    assert os.path.isdir(run)
    (folder / "lock").unlink()
    assert is_held(folder) is None
    assert is_held(tmp_path / "none") is None
    assert all_folders(tmp_path) == [folder]
    assert not (folder / "lock").exists()


def test_remains_of_any_stage_are_removed(tmp_path):
    bare, half, renamed = (folder_of(tmp_path, name) for name in "abc")
    renamed = renamed.with_name(f"{renamed.name}.0123.removed")
    for folder in (bare, half / ".0123", renamed / "run-0123"):
        folder.mkdir(parents=True)
    for folder in (bare, half, renamed):
        folder.chmod(0o700)
    (tmp_path / "other").mkdir()
    assert set(remove_remains(tmp_path)) == {bare, half, renamed}
    assert os.listdir(tmp_path) == ["other"]


def test_a_new_run_finds_nothing_of_a_killed_one(tmp_path, start):
    process = start(HOLD, tmp_path, "a")
    killed = process.stdout.readline().strip()
    process.kill()
    process.wait()
    membership, run = join_folder(folder_of(tmp_path, "a"), prepare)
    assert str(run) != killed
    assert not os.path.exists(killed)
    membership.leave()


def test_remains_that_become_a_living_cache_before_they_are_locked_are_kept(tmp_path, monkeypatch):
    folder_of(tmp_path, "a").mkdir(mode=0o700)
    lock, joined = folder_module._locked_alone, []

    def lock_late(descriptor):
        monkeypatch.setattr(folder_module, "_locked_alone", lock)
        assert len(remove_remains(tmp_path)) == 1
        joined.append(join_folder(folder_of(tmp_path, "a"), prepare))
        return lock(descriptor)

    monkeypatch.setattr(folder_module, "_locked_alone", lock_late)
    assert remove_remains(tmp_path) == []
    membership, run = joined[0]
    assert (run / "ready").exists()
    membership.leave()


# Main processes that join, check that what they joined is whole and stays, and leave, over and over; each is
# held up for a random while before every step that the others can see.
RACE = """
import fcntl, os, random, shutil, sys, time
from pathlib import Path
from deblurkit.cache.folder import folder_of, join_folder, remove_remains
root, rounds = Path(sys.argv[1]), int(sys.argv[2])
def held_up(call):
    def later(*arguments, **options):
        time.sleep(0.02 * random.random() ** 12)
        return call(*arguments, **options)
    return later
for module, name in [(fcntl, "flock"), (os, "open"), (os, "close"), (os, "stat"), (shutil, "rmtree"),
                     (Path, "mkdir"), (Path, "rename"), (Path, "lstat")]:
    setattr(module, name, held_up(getattr(module, name)))
def main():
    random.seed(os.getpid())
    for turn in range(rounds):
        if turn % 3 == 0:
            remove_remains(root)
        membership, run = join_folder(folder_of(root, "a"), lambda run: (run / "ready").touch())
        (run / f"{os.getpid()}").touch()
        time.sleep(0.01 * random.random() ** 6)
        assert (run / "ready").exists() and (run / f"{os.getpid()}").exists(), turn
        membership.leave()
children = []
for _ in range(6):
    pid = os.fork()
    if not pid:
        try:
            main()
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    children.append(pid)
sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children))
"""


def test_nobody_loses_a_folder_that_was_joined_while_others_removed_it(tmp_path, start):
    process = start(RACE, tmp_path, 60)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert os.listdir(tmp_path) == []
