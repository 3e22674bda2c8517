import os
import warnings

from deblurkit.cache import forks


class Recorder:
    def __init__(self):
        self.told = []

    def before_fork(self):
        self.told.append("before")

    def after_fork_in_parent(self):
        self.told.append("parent")

    def after_fork_in_child(self):
        self.told.append("child")


def test_parent_and_child_are_told_each_its_part():
    recorder = Recorder()
    forks.watch(recorder)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # of forks beside threads, which the tests may have
        pid = os.fork()
    if not pid:
        os._exit(0 if recorder.told == ["before", "child"] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert recorder.told == ["before", "parent"]
