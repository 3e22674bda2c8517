"""The workers, and the cache, with which a step finds its clips ready; what else would do."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from deblurkit.config.schema import Config
from deblurkit.data.batch_bytes import IN_TRAINING, batches_alive
from deblurkit.data.workers import AUTO_SHARE, WorkerPlan
from deblurkit.tuning.host_rows import HostData
from deblurkit.tuning.loader_memory import training_loading
from deblurkit.tuning.recommend.loading import Loading
from deblurkit.tuning.recommend.records import Settings
from deblurkit.tuning.step_memory import DeviceKind
from deblurkit.units import GIB, format_bytes, format_ms, format_share, plural

SPARE = 1.25  # times what steps want, so that they do not wait for a clip that takes longer
MEASURED, PREDICTED = "measured", "predicted"
_CACHE_SHARE = 0.5  # of the memory that is there, at most: the rest is for the run itself, and for others
_WAITING_SHARE = 0.25  # likewise for batches that wait
_TENTHS = 10  # of a GiB, in which a cache's size is set


@dataclass(frozen=True)
class LoadingRow:
    """A way to load.

    Attributes:
        name: in words.
        workers: of each device: those that it needs, as far as there are CPUs for them.
        clips_per_second: that all workers of the machine then give.
        source: ``measured``, on one core, or ``predicted``.
        is_enough: whether steps do not wait.
    """

    name: str
    workers: int
    clips_per_second: float
    source: str
    is_enough: bool


@dataclass(frozen=True)
class LoadingPlan:
    """How clips are to be loaded.

    Attributes:
        settings: that do so, where they are not the configuration's already.
        workers_needed: of each device, by the way that is set; more than there are CPUs for where none does.
        words: the arithmetic, and what a user could do beyond settings, a line each.
        rows: all ways.
    """

    settings: Settings
    workers_needed: int
    words: tuple[str, ...]
    rows: tuple[LoadingRow, ...]


@dataclass(frozen=True)
class _Way:
    """A way to load, with the seconds of a core for a clip; without settings it is there, or the user's."""

    name: str
    seconds: float
    source: str
    settings: Settings = field(default_factory=dict)
    held_bytes: int = 0
    is_settings: bool = True  # else something has to be made first


@dataclass(frozen=True)
class _Need:
    """The clips that each device takes in a second, and who there is to load them."""

    rate: float
    devices: int
    cpus: int

    @property
    def most(self) -> int:
        """Workers that there are CPUs for, of each device."""
        return max(1, int(self.cpus * AUTO_SHARE + 1e-9) // self.devices)

    def exactly(self, way: _Way) -> float:
        """Return the workers that keep up with a device, with something to spare."""
        return way.seconds * self.rate * SPARE

    def workers(self, way: _Way) -> int:
        """Return them as a whole number."""
        return max(1, math.ceil(self.exactly(way)))

    def is_met(self, way: _Way) -> bool:
        """Return whether there are CPUs for them."""
        return self.workers(way) <= self.most


def plan_loading(
    config: Config,
    loading: Loading,
    *,
    step_seconds: float,
    clips_per_step: int,
    devices: int,
    cpus: int,
    host_room: int | None,
    device_kind: DeviceKind = "cpu",
) -> LoadingPlan:
    """Return the workers that keep up with the steps, and a cache only where workers alone do not.

    Args:
        config: that is to be trained with.
        loading: as it was measured.
        step_seconds: of an optimiser step.
        clips_per_step: of all devices, and all micro-steps.
        devices: processes that train together on this machine.
        cpus: that may be used, for all.
        host_room: bytes of the machine's memory that loading may take; None: without bound.
        device_kind: that steps are taken on.
    """
    need = _Need(clips_per_step / step_seconds / devices, devices, cpus)
    ways = list(_ways(config, loading, host_room))
    chosen = _chosen(ways, need)
    workers = min(need.workers(chosen), need.most)
    room = None if host_room is None else (host_room - chosen.held_bytes) / devices
    settings = {
        **chosen.settings,
        "DATALOADER.TRAIN_WORKERS": workers,
        **_prefetch(config, loading, workers=workers, room=room, device_kind=device_kind),
    }
    return LoadingPlan(
        settings=settings,
        workers_needed=need.workers(chosen),
        words=tuple(_words(ways, chosen, need, loading, root=config.data.root)),
        rows=tuple(_row(way, need) for way in ways),
    )


def _ways(config: Config, loading: Loading, host_room: int | None) -> Iterator[_Way]:
    """Yield the ways to load, those that ask least of the machine first."""
    if loading.storage == "packed":
        yield _Way("packed dataset", loading.seconds, MEASURED)
        return
    if not config.data.use_ram_cache:
        yield _Way("PNG files", loading.seconds, MEASURED)
    if loading.cached_seconds is not None:
        yield from _cached(config, loading, loading.cached_seconds, host_room)
        yield _Way("packed dataset", loading.cached_seconds, PREDICTED, is_settings=False)
    elif config.data.use_ram_cache:
        yield _Way("PNG files, the cache still empty", loading.seconds, MEASURED)


def _cached(config: Config, loading: Loading, seconds: float, host_room: int | None) -> Iterator[_Way]:
    data, wanted = config.data, math.ceil(loading.decoded_bytes * _TENTHS / GIB) / _TENTHS
    size = wanted
    if data.use_ram_cache:
        size = min(wanted, data.cache_size_gb)
    elif host_room is not None:
        size = min(wanted, math.floor(_CACHE_SHARE * host_room * _TENTHS / GIB) / _TENTHS)
    if size <= 0:
        return
    share = min(1.0, size * GIB / loading.decoded_bytes)
    name = f"node cache of {size:g} GiB" + (f", {format_share(share)} of the frames" if share < 1 else "")
    settings = {} if data.use_ram_cache else {"DATA.USE_RAM_CACHE": True, "DATA.CACHE_SIZE_GB": size}
    mixed = share * seconds + (1 - share) * loading.seconds  # frames are asked for at random
    yield _Way(name, mixed, MEASURED if share == 1 else PREDICTED, settings, held_bytes=int(size * GIB))


def _chosen(ways: list[_Way], need: _Need) -> _Way:
    """Return the first way by settings that suffices, or else the fastest of them."""
    by_settings = [way for way in ways if way.is_settings]
    enough = [way for way in by_settings if need.is_met(way)]
    return enough[0] if enough else min(by_settings, key=lambda way: way.seconds)


def _row(way: _Way, need: _Need) -> LoadingRow:
    workers = min(need.workers(way), need.most)
    given = need.devices * workers / way.seconds
    return LoadingRow(way.name, workers, given, way.source, need.is_met(way))


def _prefetch(
    config: Config, loading: Loading, *, workers: int, room: float | None, device_kind: DeviceKind
) -> dict[str, int]:
    """Return a smaller prefetch factor where the batches that wait would take too much."""
    before = factor = config.dataloader.train_prefetch_factor
    plan = WorkerPlan(cpus=workers, gpus=1, total=workers, train=workers, val=0)
    data = HostData(None, None, loading.storage)
    batch = training_loading(config, plan, data, device_kind=device_kind).batch.total
    while factor > 1 and room is not None and _waiting(workers, factor, batch) > _WAITING_SHARE * room:
        factor //= 2
    return {"DATALOADER.TRAIN_PREFETCH_FACTOR": factor} if factor != before else {}


def _waiting(workers: int, factor: int, batch: int) -> int:
    return batches_alive(workers, factor, taken=IN_TRAINING) * batch


def _words(ways: list[_Way], chosen: _Way, need: _Need, loading: Loading, *, root: Path) -> Iterator[str]:
    """Yield the arithmetic of each way up to the chosen one; where none suffices, what packing would do."""
    for way in ways[: ways.index(chosen) + 1]:
        yield _arithmetic(way, need, loading)
    if need.is_met(chosen):
        return
    for way in ways:
        if not way.is_settings:
            room = format_bytes(loading.packed_bytes)
            packing = f"`deblurkit prepare-data pack {root} --output FOLDER` ({room} on a disk)"
            yield f"{packing} and DATA.ROOT=FOLDER: {_arithmetic(way, need, loading)}"
    share = need.most / (chosen.seconds * need.rate)
    if share < 1:
        yield f"loading holds the steps back: {format_share(share)} of the clips that they could take"


def _arithmetic(way: _Way, need: _Need, loading: Loading) -> str:
    source = f"{way.source} on {plural(loading.clips, 'clip')}" if way.source == MEASURED else way.source
    verdict = plural(need.workers(way), "worker")
    if not need.is_met(way):
        verdict += f", and there are CPUs for {need.most} ({AUTO_SHARE:.0%} of {need.cpus})"
    return (
        f"{way.name}: {format_ms(1000 * way.seconds)} of a core for a clip ({source}) x"
        f" {need.rate:.3g} clips/s of a device x {SPARE:g} = {need.exactly(way):.2f}: {verdict}"
    )
