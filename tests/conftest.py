"""What several parts of the tests share: one small dataset, and the configuration of a run on it."""

import os
import signal

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does, before torch is loaded
os.environ.setdefault("MKL_CBWR", "AUTO")
os.environ["TERM"] = "xterm"  # a dumb terminal, as automation may say it has, is not drawn on in place


ENDS = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


@pytest.fixture(scope="session", autouse=True)
def _signals_are_heeded():
    """What starts a suite may ignore or block signals, as ``nohup`` does; its runs would inherit that."""
    usual = {signal.SIGINT: signal.default_int_handler}
    for number in ENDS:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual.get(number, signal.SIG_DFL))
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


@pytest.fixture(autouse=True)
def _signals_are_given_back(_signals_are_heeded):
    """The command line ends with signals ignored: where a test calls it, the next one's runs inherit it."""
    before = {number: signal.getsignal(number) for number in ENDS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session", autouse=True)
def _freed_memory_is_given_back():
    """A run in the tests' own process leaves its allocator alone: what is kept adds up to gigabytes."""
    import deblurkit.training.parts

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deblurkit.training.parts, "keep_freed_memory", lambda: True)
        yield


@pytest.fixture(scope="session")
def dataset_root(tmp_path_factory):
    from deblurkit.data.synthetic import make_synthetic

    root = tmp_path_factory.mktemp("data") / "synthetic"
    make_synthetic(root, seed=1, num_train=2, num_test=1, frames_per_sequence=5, size=(48, 64))
    return root


@pytest.fixture
def tiny_overrides(dataset_root, tmp_path):
    """Overrides that make the quickstart preset a run of a second."""
    return [
        f"DATA.ROOT={dataset_root}",
        f"LOG.SAVE_DIR={tmp_path / 'run'}",
        "DATA.CROP_SIZE=32",
        "DATA.NUM_VOXEL_BINS=4",
        "MODEL.BASE_CHANNELS=4",
        "DATALOADER.TRAIN_WORKERS=0",
        "DATALOADER.VAL_WORKERS=0",
        "TRAIN.BATCH_SIZE=2",
        "TRAIN.MAX_STEPS=4",
        "TRAIN.DEVICE=cpu",
        "TRAIN.SCHED.WARMUP_STEPS=2",
        "LOG.TENSORBOARD=false",
        "LOG.TIMING_CONSOLE_INTERVAL=2",
        "TEST.NUM_WORKERS=0",
    ]


@pytest.fixture
def tiny_config(tiny_overrides):
    """Return a function that gives the small run's configuration, with further overrides."""
    from deblurkit.config.load import load_config

    def make(*more):
        return load_config("quickstart", None, [*tiny_overrides, *more], warn=lambda text: None)

    return make


class _RecordedProcesses:
    """Processes of which as much is known from afar as closely."""

    def __init__(self, found):
        self.found = list(found)

    def processes(self):
        return self.found

    def closely(self, process):
        return process


@pytest.fixture
def made_sources():
    """Return a function that makes who tells of a machine: its processes, no GPU, and what else is given."""

    def make(machine, *processes, **options):
        from deblurkit.memory.gpu import GpuLook, RecordedGpus
        from deblurkit.memory.look import Sources

        known = {"gpus": RecordedGpus([GpuLook(())]), "hostname": lambda: "gpu01", **options}
        return Sources(machine=machine, processes=_RecordedProcesses(processes), **known)

    return make


class _Watcher:
    """Notes what a run tells it."""

    def __init__(self):
        self.warnings, self.messages, self.steps, self.validations, self.timings = [], [], [], [], []
        self.plan = None

    def message(self, text):
        self.messages.append(text)

    def warning(self, text):
        self.warnings.append(text)

    def verified(self, checks):
        self.checks = checks

    def started(self, plan):
        self.plan = plan

    def stepped(self, progress):
        self.steps.append(progress)

    def timed(self, timing):
        self.timings.append(timing.step)

    def validated(self, step, result):
        self.validations.append(step)


@pytest.fixture(scope="session")
def Watcher():  # noqa: N802
    """The class of an observer that notes what it is told."""
    return _Watcher


ADAM8 = {"TRAIN.OPTIM.TYPE": "adamw8bit"}
THREE = {"TRAIN.BATCH_SIZE": 3, "TRAIN.GRADIENT_ACCUMULATION_STEPS": 2}
SIX = {"TRAIN.BATCH_SIZE": 6, "TRAIN.GRADIENT_ACCUMULATION_STEPS": 1}
USUAL = {"batch": "1 x 6", "optimizer": "adamw", "network": "as it is"}


def recommended_row(seconds, gib, settings, choices, verdict, *, effect="none", measured=True, fits=True):
    """Return a row of a search that starts from 1 x 6 clips, an interval of 0.8 to 1.25 times its seconds."""
    from deblurkit.config.changed import changed
    from deblurkit.config.load import load_config
    from deblurkit.tuning.recommend.records import Candidate, Estimate, Row, Trial

    keys = ["TRAIN.BATCH_SIZE=1", "TRAIN.GRADIENT_ACCUMULATION_STEPS=6", "TRAIN.MAX_STEPS=null"]
    start = load_config("quickstart_vrt", None, keys, warn=lambda text: None)
    candidate = Candidate(settings, changed(start, settings), {**USUAL, **choices}, effect)
    phases = {"forward": seconds / 4, "backward": seconds / 2, "optimizer": seconds / 8, "rest": seconds / 8}
    estimate = Estimate(seconds, 0.8 * seconds, 1.25 * seconds, measured, phases)
    trial = Trial(candidate.key, "measured", "", 9.0, (seconds,) * 3, phases) if measured else None
    return Row(candidate, gib * 2**30, 2**30, fits, estimate, trial, verdict)


@pytest.fixture
def recommendation():
    """Return a function that makes what a search has found, for figures that are easy to follow by hand.

    6 clips a step, 1,200 an epoch, 50 epochs: 10,000 steps. The start takes 2.4 s a step (2.5 samples/s) in
    20 GiB, the best 1.2 s (5 samples/s) in 24 GiB, of 32 GiB that are there.
    """
    from dataclasses import replace

    from deblurkit.tuning.recommend.records import Budget, Recommendation, Trial

    eight, three = {"optimizer": "adamw8bit"}, {"batch": "3 x 2"}
    guess, rounded = {"measured": False}, {"effect": "rounding"}
    first = recommended_row(2.4, 20, {}, {}, "50 % behind")
    second = recommended_row(2.0, 16, ADAM8, eight, "40 % behind", **rounded)
    best = recommended_row(1.2, 24, {**THREE, **ADAM8}, {**eight, **three}, "the fastest", **rounded)
    batch = recommended_row(1.5, 28, THREE, three, "20 % behind", **guess)
    half = {"MODEL.VRT_DEPTHS": [1] * 8, **ADAM8}
    small = recommended_row(
        1.3, 12, half, {**eight, "network": "half"}, "8 % behind", effect="accuracy", **guess
    )
    large = recommended_row(1.0, 40, SIX, {"batch": "6 x 1"}, "needs 40.00 GiB", fits=False, **guess)
    killed = Trial(large.candidate.key, "out of memory", "as 32.00 GiB are there", 12.0)
    found = Recommendation(
        hardware="2 x CPU <b>é | x</b>",
        is_prediction=False,
        budget=Budget(device_bytes=32 * 2**30),
        rows=(best, small, batch, second, first, replace(large, trial=killed)),
        start=first,
        best=best,
        front=(small, best),
        path=(first, second, best),
        trials=(first.trial, second.trial, best.trial, killed),
        samples_per_epoch=1200,
        epochs=50,
        stopped="no other is likely to be 2 % faster",
        notes=("a note with | and <i>",),
    )
    return lambda **fields: replace(found, **fields)
