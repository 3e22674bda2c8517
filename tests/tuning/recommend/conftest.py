"""Machines whose true step times are known, and a space of 48 candidates for them."""

import itertools
import math

import numpy as np
import pytest

from deblurkit.config.changed import changed
from deblurkit.config.load import load_config
from deblurkit.tuning.recommend.cards import Prior
from deblurkit.tuning.recommend.records import Candidate, Trial, Work

# Share of the forward pass that the backward pass makes again, and of the activations that are kept.
RECOMPUTE = {
    "none": (0.0, 1.0),
    "attention": (0.5, 0.5),
    "FFN": (0.35, 0.7),
    "both": (0.9, 0.2),
    "attention, full resolution": (0.25, 0.65),
    "both, full resolution": (0.45, 0.45),
}
OPTIMIZERS = ("adamw", "adamw8bit")
EFFECTIVE = 8


@pytest.fixture(scope="session")
def space():
    """48 candidates of quickstart_vrt with 8 clips a step: micro-batches, recomputation, optimisers."""
    start = load_config("quickstart_vrt", None, [], warn=lambda text: None)
    found = []
    for batch, recompute, optimizer in itertools.product((1, 2, 4, 8), RECOMPUTE, OPTIMIZERS):
        settings = {
            "TRAIN.BATCH_SIZE": batch,
            "TRAIN.GRADIENT_ACCUMULATION_STEPS": EFFECTIVE // batch,
            "MODEL.VRT.USE_CHECKPOINT_ATTN": [list(RECOMPUTE).index(recompute) > at for at in range(8)],
            "TRAIN.OPTIM.TYPE": optimizer,
        }
        choices = {"batch": f"{batch} x {EFFECTIVE // batch}", "recompute": recompute, "optimizer": optimizer}
        config = changed(start, settings)
        assert config is not None
        found.append(Candidate(settings, config, choices))
    return found


@pytest.fixture(scope="session")
def work(space):
    """What a micro-step of each candidate computes: proportional to its batch, but for the calls."""
    found = {}
    for candidate in space:
        again, _ = RECOMPUTE[candidate.choices["recompute"]]
        clips = candidate.batch_size
        found[candidate.key] = Work(
            forward_flops=4e9 * clips,
            backward_flops=(2 + again) * 4e9 * clips,
            forward_bytes=1.5e9 * clips,
            backward_bytes=(2 + again) * 1.5e9 * clips,
            forward_calls=3000,
            backward_calls=(1.5 + again) * 3000,
            weights=400_000,
        )
    return found


@pytest.fixture(scope="session")
def prior():
    """What is believed of the machines: their rates are drawn around it, and wider than it says."""
    return Prior(
        flops_per_second={"float32": 4e10, "bf16": 2e10, "fp16": 4e9},
        bytes_per_second=1e10,
        call_seconds=2e-5,
        link_bytes_per_second=1e9,
        spread=1.0,
        source="a test",
    )


class Machine:
    """True seconds of a step by candidate, and trials with noise between processes and within them."""

    def __init__(self, space, work, *, seed, noise=None):
        self._rng = rng = np.random.default_rng(seed)
        self.noise = rng.uniform(0.03, 0.05) if noise is None else noise
        flops, moved, call = np.exp(rng.normal(np.log([4e10, 1e10, 2e-5]), 1.0))
        slope, bend = rng.normal(0, 0.08, 2)
        by_choice = {word: rng.normal(0, 0.08, 2) for word in RECOMPUTE}
        pairs = {pair: rng.normal(0, 0.03) for pair in itertools.product((1, 2, 4, 8), RECOMPUTE)}
        optimizer = {word: math.exp(rng.normal(math.log(4e-9), 1.0)) for word in OPTIMIZERS}
        self.phases = {}
        for each in space:
            w, recompute, doublings = work[each.key], each.choices["recompute"], math.log2(each.batch_size)
            curve = slope * doublings + bend * (doublings - 1.5) ** 2 / 2
            passes = []
            for at, counts in enumerate(
                (
                    (w.forward_flops, w.forward_bytes, w.forward_calls),
                    (w.backward_flops, w.backward_bytes, w.backward_calls),
                )
            ):
                plain = counts[0] / flops + counts[1] / moved + counts[2] * call
                other = curve + by_choice[recompute][at] + pairs[each.batch_size, recompute]
                passes.append(each.accumulation * plain * math.exp(other + rng.normal(0, 0.02)))
            weights = w.weights * optimizer[each.choices["optimizer"]]
            self.phases[each.key] = {"forward": passes[0], "backward": passes[1], "optimizer": weights + 1e-3}
        self.seconds = {key: sum(phases.values()) * 1.004 for key, phases in self.phases.items()}

    def run(self, candidate):
        """Return a trial of 8 steps."""
        rng = self._rng
        slower = math.exp(rng.normal(0, self.noise))
        steps = self.seconds[candidate.key] * slower * np.exp(rng.normal(0, self.noise, 8))
        own = {
            phase: seconds * slower * math.exp(rng.normal(0, self.noise / 2))
            for phase, seconds in self.phases[candidate.key].items()
        }
        total = sum(own.values())
        step = float(np.median(steps))
        phases = {phase: 0.996 * seconds / total * step for phase, seconds in own.items()}
        return Trial(candidate.key, "measured", "", 10.0, tuple(map(float, steps)), phases)


@pytest.fixture
def machine_of(space, work):
    """Return a function that makes a machine of the space from a seed."""
    return lambda seed, **settings: Machine(space, work, seed=seed, **settings)


@pytest.fixture(scope="session")
def memory(space):
    """Bytes that each candidate needs: activations by clips and recomputation, and the optimiser's states."""
    gib = 2**30
    found = {}
    for each in space:
        kept = RECOMPUTE[each.choices["recompute"]][1] * each.batch_size * 2 * gib
        found[each.key] = int(0.5 * gib + kept + (0.3 if each.choices["optimizer"] == "adamw" else 0.1) * gib)
    return found
