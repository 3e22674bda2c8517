"""What a profile of a training step holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from deblurkit.timing.peaks import Peak
from deblurkit.training.profiling.partition import Piece

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Passes:
    """An amount of the forward pass, of the backward pass, and of what is made again inside the latter."""

    forward: float = 0.0
    backward: float = 0.0
    recompute: float = 0.0

    @property
    def total(self) -> float:
        """All three together: they do not overlap."""
        return self.forward + self.backward + self.recompute

    def __add__(self, other: Passes) -> Passes:
        return Passes(
            self.forward + other.forward, self.backward + other.backward, self.recompute + other.recompute
        )


@dataclass(frozen=True)
class Phase:
    """A phase of the step; phases follow one another and cover it but for ``unaccounted``.

    Attributes:
        name: of step.PHASES, or ``unaccounted``.
        mean_ms, median_ms: over the timed steps, all micro-steps together.
        share: of the mean step.
        flops: operations, those made again included; None where they were not counted.
        peak_bytes: most memory that tensors held in it; None where it was not followed.
    """

    name: str
    mean_ms: float
    median_ms: float
    share: float
    flops: float | None
    peak_bytes: int | None


@dataclass(frozen=True)
class Row:
    """A module, or several under one name.

    Attributes:
        name: ``parent/child`` lies inside ``parent``.
        modules: paths in the network; none for a row that only holds others.
        calls: forward calls in a step.
        own_ms: mean time in it and in no row inside it; over all rows, with what is in none, these add up
            to the forward and the backward phase.
        ms: with the rows inside it.
        share: of the mean step.
        flops, bytes_moved: operations, and bytes that they read and write, with the rows inside it.
        parameter_bytes: of its weights.
        inputs, outputs: shapes of the tensors of its first call.
    """

    name: str
    modules: tuple[str, ...]
    calls: int
    own_ms: Passes
    ms: Passes
    share: float
    flops: Passes
    bytes_moved: Passes
    parameter_bytes: int
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]

    @property
    def depth(self) -> int:
        """Rows that it lies inside of."""
        return self.name.count("/")

    @property
    def flops_per_second(self) -> float | None:
        """Achieved rate, with what is made again; None without time."""
        return 1e3 * self.flops.total / self.ms.total if self.ms.total > 0 else None

    def utilisation(self, peak: Peak | None) -> float | None:
        """Return the share of ``peak`` that goes into the network's own operations, not those made again."""
        if peak is None or self.ms.total <= 0:
            return None
        return 1e3 * (self.flops.forward + self.flops.backward) / self.ms.total / peak.flops_per_second


@dataclass(frozen=True)
class Gain:
    """A change that would make steps faster, with Amdahl's arithmetic.

    Attributes:
        id: stable name.
        title: what to do.
        saved_ms: of the mean step, at most.
        speedup: step / (step - saved).
        arithmetic: the same in words.
        keys: configuration keys to turn.
        cost: what it costs, or what this profile cannot tell.
    """

    id: str
    title: str
    saved_ms: float
    speedup: float
    arithmetic: str
    keys: tuple[str, ...]
    cost: str


@dataclass(frozen=True)
class Subject:
    """What was profiled.

    Attributes:
        architecture, parameters: of the network; trainable values.
        device, device_name, precision: where and in which type; ``fp32``, ``bf16`` or ``fp16``.
        blurry_shape, spikes_shape: of a micro-step's batch; spikes None where the network takes none.
        accumulation: micro-steps of the step.
        data: ``synthetic`` or ``loader``.
        is_compiled: whether ``torch.compile`` made one piece of the network.
    """

    architecture: str
    parameters: int
    device: str
    device_name: str
    precision: str
    blurry_shape: Shape
    spikes_shape: Shape | None
    accumulation: int
    data: str
    is_compiled: bool

    @property
    def samples(self) -> int:
        """Clips of a step."""
        return self.blurry_shape[0] * self.accumulation


@dataclass(frozen=True)
class StepProfile:
    """A profile of a training step.

    Attributes:
        subject: what was profiled.
        steps, warmup: timed steps, and those before them.
        step_ms, median_step_ms: wall time.
        phases: in their order, ``unaccounted`` last.
        rows: in the order of their first call, each after the row that it lies inside.
        outside_ms: time of forward, backward and recompute in no row.
        recompute_ms: what is made again, by the kind of branch (``attention``, ``feed_forward``, ``other``).
        flops: of the step by pass; None where they were not counted.
        peak: of the device; None where it is not known.
        timelines: the pieces of each timed step, seconds from the first one's start.
        gains: what would speed it up, most first.
        notes: what was not measured, and why.
    """

    subject: Subject
    steps: int
    warmup: int
    step_ms: float
    median_step_ms: float
    phases: tuple[Phase, ...]
    rows: tuple[Row, ...]
    outside_ms: Passes
    recompute_ms: Mapping[str, float]
    flops: Passes | None
    peak: Peak | None
    timelines: tuple[tuple[Piece, ...], ...] = ()
    gains: tuple[Gain, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def peak_bytes(self) -> int | None:
        """Most memory that tensors held in any phase."""
        return max((phase.peak_bytes for phase in self.phases if phase.peak_bytes is not None), default=None)

    @property
    def utilisation(self) -> float | None:
        """Model FLOP utilisation of the whole step; what is made again does not count."""
        if self.peak is None or self.flops is None or self.step_ms <= 0:
            return None
        own = self.flops.forward + self.flops.backward
        return 1e3 * own / self.step_ms / self.peak.flops_per_second

    def phase_ms(self, name: str) -> float:
        """Return the mean time of a phase; 0 where there is none."""
        return sum(phase.mean_ms for phase in self.phases if phase.name == name)
