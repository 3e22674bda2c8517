"""Runs that are ended in every way there is go on bit for bit, on a CPU, or say in one line what is wrong.

Each test starts `deblurkit train` as users do. `Launch` has what is needed to end a part of it: a test of
several ranks needs only other ``more`` options and other victims.
"""

import contextlib
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from deblurkit.training.checkpoint import checkpoints_in, load_checkpoint
from deblurkit.training.manifest import read_manifest

STEPS, SAVE_EVERY = 60, 3
PATIENCE = 120.0  # seconds that a sign of life may take on a busy machine
COMMAND = [sys.executable, "-m", "deblurkit"]
A_YEAR_AGO = """
import sys, time
real = time.time
time.time = lambda: real() - 365 * 86400
from deblurkit.cli.app import main
main(sys.argv[1:])
"""


class Launch:
    """A run on its way, in a session of its own."""

    alive = []  # what a test that fails leaves behind

    def __init__(self, folder, options, *, command=COMMAND):
        self.folder = folder
        sets = [part for text in [f"LOG.SAVE_DIR={folder}", *options] for part in ("--set", text)]
        self.process = subprocess.Popen(
            [*command, "train", "--preset", "quickstart", "--resume", "auto", *sets],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.alive.append(self)

    def descendants(self):
        """Return the process ids below the one that was started: loader workers, and ranks if any."""
        found, unseen = [], [self.process.pid]
        while unseen:
            pid = unseen.pop()
            with contextlib.suppress(OSError):  # ended meanwhile
                for file in Path(f"/proc/{pid}/task").glob("*/children"):
                    unseen += map(int, file.read_text().split())
            found.append(pid)
        return found[1:]

    def wait_for(self, sign):
        """Return whether ``sign()`` came before the process ended."""
        deadline = time.monotonic() + PATIENCE
        while not sign():
            assert time.monotonic() < deadline, "no sign of life"
            if self.process.poll() is not None:
                return False
            time.sleep(0.0005)
        return True

    def wait_until_training(self):
        """Return whether the loader's workers are at work before the process has ended."""
        return self.wait_for(lambda: len(self.descendants()) >= 2)

    def send(self, number, victims):
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self):
        """SIGKILL the process and its group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        return self.end()

    def end(self):
        """Return the exit code and what was said, once the process has ended."""
        _, said = self.process.communicate(timeout=PATIENCE)
        self.alive.remove(self)
        return self.process.returncode, said


class Case:
    """One run, launched as often as it takes, and the uninterrupted one that it has to equal."""

    def __init__(self, options, folder, reference):
        self.options, self.folder, self.reference = options, folder, reference

    def launch(self, *, command=COMMAND):
        return Launch(self.folder, self.options, command=command)

    @property
    def checkpoints(self):
        return checkpoints_in(self.folder / "checkpoints")

    def finish(self, **options):
        """Go on to the end, and return what was said on the way; the result equals the uninterrupted run."""
        code, said = self.launch(**options).end()
        assert code == 0, said
        assert differences(self.folder, self.reference) == []
        return said

    def train_until_saved(self, count=1):
        """Return a launch that has written at least ``count`` checkpoints."""
        launch = self.launch()
        assert launch.wait_for(lambda: len(self.checkpoints) >= count)
        return launch


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def differences(folder, reference):
    """Return what of the last and of the best checkpoint is not bit for bit that of another run."""
    last = f"checkpoints/step_{STEPS:08d}.pt"
    found = []
    for name in (last, "checkpoints/best.pt"):
        mine, other = load_checkpoint(folder / name), load_checkpoint(reference / name)
        keys = sorted(mine.keys() - {"config", "extra"})
        found += [f"{name}: {key}" for key in keys if not equal(mine[key], other[key])]
    return [*found, f"losses differ at steps {other_losses(folder, reference)}"] if found else []


def losses(folder):
    """Return the losses that a run's logs have of each step, in order of their printing."""
    found = {}
    for log in sorted((folder / "logs").glob("train_*.log")):
        for step, loss in re.findall(r"step (\d+)/\d+ \| loss=(\S+)", log.read_text()):
            found.setdefault(int(step), []).append(loss)
    return found


def other_losses(folder, reference):
    """Return the steps whose loss is not that of another run: where to look for what went apart."""
    mine, other = losses(folder), losses(reference)
    return {step: (mine[step], other[step]) for step in mine if {*mine[step]} != {*other[step]}}


def errors_of(said):
    return [line for line in said.splitlines() if line.startswith("deblurkit: error:")]


@pytest.fixture(scope="module")
def options(dataset_root):
    return [
        f"DATA.ROOT={dataset_root}",
        "DATA.CROP_SIZE=32",
        "DATA.NUM_VOXEL_BINS=4",
        "MODEL.BASE_CHANNELS=4",
        "DATALOADER.TRAIN_WORKERS=2",
        "DATALOADER.VAL_WORKERS=0",
        "TRAIN.BATCH_SIZE=2",
        f"TRAIN.MAX_STEPS={STEPS}",
        "TRAIN.DEVICE=cpu",
        "TRAIN.SCHED.WARMUP_STEPS=2",
        "LOG.TENSORBOARD=false",
        f"LOG.SAVE_EVERY_STEPS={SAVE_EVERY}",
        "LOG.VAL_EVERY_STEPS=20",
        "LOG.TIMING_CONSOLE_INTERVAL=1",
    ]


@pytest.fixture(scope="module")
def reference(options, tmp_path_factory):
    """The folder of the run that nothing has interrupted, and the seconds that its steps took."""
    folder = tmp_path_factory.mktemp("reference")
    start = time.monotonic()
    launch = Launch(folder, options)
    assert launch.wait_until_training()
    began = time.monotonic()
    code, said = launch.end()
    assert code == 0, said
    return folder, began - start, time.monotonic() - began


@pytest.fixture(autouse=True)
def _nothing_is_left_running():
    yield
    for launch in list(Launch.alive):
        launch.kill()


@pytest.fixture
def case(options, reference, tmp_path):
    return Case(options, tmp_path / "run", reference[0])


def test_killed_signalled_damaged_and_finished_is_as_never_interrupted(case):
    """The everyday part of the matrix, in one run: kill, SIGUSR1 to all, damage, moved clock."""
    launch = case.train_until_saved()
    time.sleep(random.random() * 0.1)
    assert launch.kill()[0] == -signal.SIGKILL

    launch = case.launch()
    assert launch.wait_until_training()
    launch.send(signal.SIGUSR1, [*launch.descendants(), launch.process.pid])
    code, said = launch.end()
    assert code == 128 + signal.SIGUSR1, said
    assert "go on with --resume auto" in errors_of(said)[-1] and "Traceback" not in said
    damage(case.checkpoints[-1])
    for age, path in enumerate(case.checkpoints):
        os.utime(path, (1e9 - age, 1e9 - age))  # the newest is the oldest by the clock
    said = case.finish(command=[sys.executable, "-c", A_YEAR_AGO])
    assert "trying the one before" in said
    parts = read_manifest(case.folder / "run.json")["parts"]
    assert [part["status"] for part in parts] == ["killed", "interrupted", "finished"]
    assert parts[2]["last_step"] == STEPS and parts[2]["first_step"] <= parts[1]["last_step"]


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.slow
def test_twenty_kills_at_random_moments(case, reference, tmp_path):
    """A quarter of them at any time of the start, the others while steps are taken, saved and scored.

    Each kill is of the run as the one before has left it; a run that has finished makes room for a new one.
    """
    rng = random.Random(20)
    _, start_seconds, training_seconds = reference
    kills, finished = [], 0
    while len(kills) < 20:
        launch = case.launch()
        in_start = len(kills) % 4 == 0
        moment = rng.uniform(0, start_seconds if in_start else 0.6 * training_seconds)
        is_alive = in_start or launch.wait_until_training()
        if is_alive:
            with contextlib.suppress(subprocess.TimeoutExpired):
                launch.process.wait(timeout=moment)
        code, said = launch.kill()
        assert code in (-signal.SIGKILL, 0), said
        if code == 0:
            assert differences(case.folder, case.reference) == []
            finished += 1
            case = Case(case.options, tmp_path / f"run{finished}", case.reference)
            continue
        left = case.checkpoints[-1].stem if case.checkpoints else "nothing yet"
        kills.append(f"{'start' if in_start else 'steps'} + {moment:.2f} s: {left}")
    case.finish()
    print("\n".join([*kills, f"{finished + 1} runs finished, each equal to the uninterrupted one"]))


@pytest.mark.slow
def test_kills_while_a_checkpoint_is_written(case, tmp_path):
    """Half a checkpoint is seen beside the whole ones; it is never taken for one, and it goes."""
    halves, kills = 0, 0
    while kills < 12 and halves < 3:
        launch = case.train_until_saved()
        seen = launch.wait_for(lambda: any(case.folder.glob("checkpoints/.step_*.partial")))
        code, said = launch.kill()
        if not seen:
            break
        assert code == -signal.SIGKILL, said
        kills += 1
        halves += any(case.folder.glob("checkpoints/.step_*.partial"))
    assert halves, "no kill came while a checkpoint was written"
    case.finish()
    assert not list(case.folder.glob("checkpoints/.*"))
    print(f"{halves} of {kills} kills left half a checkpoint behind")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_to_every_process_saves_the_step_and_says_so(case, number):
    """As Slurm signals a job: each process by itself, the loader's workers first."""
    launch = case.train_until_saved()
    launch.send(number, [*launch.descendants(), launch.process.pid])
    code, said = launch.end()
    assert code == 128 + number, said
    (line,) = errors_of(said)
    stopped = int(re.search(r"stopped after step (\d+) of 60", line)[1])
    assert load_checkpoint(case.checkpoints[-1])["step"] == stopped
    assert "Traceback" not in said
    assert case.finish().count(f"going on after step {stopped}") == 1


@pytest.mark.slow
def test_a_killed_loader_worker_is_a_clear_error(case):
    launch = case.train_until_saved()
    launch.send(signal.SIGKILL, launch.descendants()[:1])
    code, said = launch.end()
    assert code == 1, said
    (line,) = errors_of(said)
    assert "a loader worker was killed" in line and "Traceback" not in said
    case.finish()


@pytest.mark.slow
def test_files_that_may_not_grow_are_a_clear_error(case):
    """A quota, or a disk that is full, in the middle of the run: here the limit of a process's files."""
    launch = case.train_until_saved()
    size = case.checkpoints[0].stat().st_size
    resource.prlimit(launch.process.pid, resource.RLIMIT_FSIZE, (size // 2, size // 2))
    code, said = launch.end()
    assert code == 1, said
    check_that_it_could_not_be_written(case, said)


def check_that_it_could_not_be_written(case, said):
    (line,) = errors_of(said)
    assert "could not be written" in line and "free some space" in line and "Traceback" not in said
    assert load_checkpoint(case.checkpoints[-1])["step"] >= SAVE_EVERY
    assert read_manifest(case.folder / "run.json")["parts"][-1]["status"] in ("failed", "running")
    assert not list(case.folder.glob("checkpoints/.*"))
    case.finish()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.slow
def test_a_full_disk_is_a_clear_error(case, small_disk):
    """Somebody else fills it while the run goes on; it goes on once there is room again."""
    case = Case(case.options, small_disk / "run", case.reference)
    launch = case.train_until_saved()
    with (small_disk / "others").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    code, said = launch.end()
    assert code == 1, said
    (small_disk / "others").unlink()
    check_that_it_could_not_be_written(case, said)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9999])
def test_a_cut_newest_checkpoint_is_passed_over(case, share):
    """As a power cut may leave it on a file system that orders nothing; 0 is an empty file."""
    launch = case.train_until_saved(count=2)
    launch.kill()
    newest, size = case.checkpoints[-1], case.checkpoints[-1].stat().st_size
    os.truncate(newest, int(share * size))
    said = case.finish()
    assert said.count("trying the one before") == 1 and newest.name in said


@pytest.mark.slow
def test_a_moved_clock_changes_nothing(case):
    """The newest checkpoint is the oldest by date, all are of the future, and the run goes on a year ago."""
    launch = case.train_until_saved(count=2)
    launch.kill()
    moved = time.time() + 4000 * 86400
    for number, path in enumerate(case.checkpoints):
        os.utime(path, (moved - number, moved - number))
    step = load_checkpoint(case.checkpoints[-1])["step"]
    assert f"going on after step {step}" in case.finish(command=[sys.executable, "-c", A_YEAR_AGO])


@pytest.mark.slow
def test_all_checkpoints_damaged_is_an_error_that_changes_nothing(case):
    case.train_until_saved(count=2).kill()
    for path in case.checkpoints:
        damage(path)
    before = {path: path.read_bytes() for path in case.checkpoints}
    code, said = case.launch().end()
    assert code == 1 and "none can be read" in errors_of(said)[-1]
    assert {path: path.read_bytes() for path in case.checkpoints} == before
