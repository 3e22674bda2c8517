"""What several parts of the tests share: one small dataset, and the configuration of a run on it."""

import os
import signal

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does, before torch is loaded
os.environ.setdefault("MKL_CBWR", "AUTO")


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
