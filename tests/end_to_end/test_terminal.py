"""A terminal that is closed under a run, as by a lost ssh connection: what was trained is saved."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
import threading
import time

import pytest

from deblurkit.training.checkpoint import checkpoints_in, load_checkpoint

PATIENCE = 120  # seconds that a busy machine may take


class Terminal:
    """A terminal, and a run in its foreground."""

    def __init__(self, overrides, *options, before=None):
        self.master, slave = os.openpty()
        sets = [part for text in overrides for part in ("--set", text)]

        def take_over():
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            if before is not None:
                before()

        self.process = subprocess.Popen(
            [sys.executable, "-m", "deblurkit", "train", "--preset", "quickstart", *options, *sets],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=take_over,
        )
        os.close(slave)
        self.shown = b""
        self._is_read = True
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        while self._is_read:
            try:
                self.shown += os.read(self.master, 65536)
            except OSError as error:
                assert error.errno in (errno.EIO, errno.EBADF)
                return
            time.sleep(0.01)

    def close(self):
        """Hang up, while the run goes on drawing."""
        self._is_read = False
        self._reader.join(PATIENCE)
        os.close(self.master)

    def end(self):
        """Return the exit code of the run."""
        return self.process.wait(PATIENCE)


def wait_for(sign, process):
    until = time.monotonic() + PATIENCE
    while not sign():
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.02)


@pytest.fixture
def endless(tiny_overrides):
    more = ["TRAIN.MAX_STEPS=100000", "TRAIN.EPOCHS=100000", "LOG.SAVE_EVERY_STEPS=5"]
    return [*tiny_overrides, *more, "DATALOADER.TRAIN_WORKERS=1"]


@pytest.mark.parametrize("options", [[], ["--gpus", "2"]])
def test_a_closed_terminal_has_the_run_save_and_end(endless, tmp_path, options):
    folder = tmp_path / "run"
    terminal = Terminal(endless, *options)
    try:
        wait_for(lambda: checkpoints_in(folder / "checkpoints"), terminal.process)
        terminal.close()
        assert terminal.end() == 128 + signal.SIGHUP
    finally:
        terminal.process.kill()
    assert b"ETA" in terminal.shown  # it was drawn on in place
    (part,) = json.loads((folder / "run.json").read_text())["parts"]
    assert part["status"] == "interrupted"
    assert load_checkpoint(checkpoints_in(folder / "checkpoints")[-1])["step"] == part["last_step"]


def test_under_nohup_the_run_goes_on_without_its_terminal(tiny_overrides, tmp_path):
    """Where its output went to that, too, nobody reads what it shows."""
    folder = tmp_path / "run"
    overrides = [*tiny_overrides, "TRAIN.MAX_STEPS=60", "LOG.SAVE_EVERY_STEPS=5", "LOG.VAL_EVERY_STEPS=20"]

    def ignore():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    terminal = Terminal(overrides, before=ignore)
    try:
        wait_for(lambda: checkpoints_in(folder / "checkpoints"), terminal.process)
        terminal.close()
        assert terminal.end() == 0
    finally:
        terminal.process.kill()
    assert json.loads((folder / "summary.json").read_text())["steps"] == 60
