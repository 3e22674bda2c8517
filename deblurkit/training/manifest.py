"""The record of a run, ``run.json``: what it ran with, on what, and how each of its parts has ended.

No secrets: of the environment only the names in `ENVIRONMENT`, no command line, no address of a git remote.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import platform
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import deblurkit
from deblurkit import __version__, cgroups
from deblurkit.data.manifest import MANIFEST
from deblurkit.data.workers import available_cpus
from deblurkit.files import write_text
from deblurkit.training.interrupt import InterruptedRun
from deblurkit.training.resume import changes

SCHEMA = "deblurkit-run/1"
ENVIRONMENT = ("SLURM_JOB_ID", "SLURM_NODELIST", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "WORLD_SIZE")
_PACKAGES = ("torch", "torchvision", "triton", "numpy", "opencv-python-headless", "bitsandbytes")
_PACKAGE = Path(deblurkit.__file__).parent
_GIT_PATIENCE = 5.0  # seconds; a network file system may take long, and a run does not wait for that

Record = dict[str, Any]


@dataclass(frozen=True)
class Machine:
    """Where this machine tells what it is; tests have files of their own."""

    cpuinfo: Path = Path("/proc/cpuinfo")
    driver: Path = Path("/proc/driver/nvidia/version")
    cgroup_root: Path = cgroups.ROOT
    membership: Path = cgroups.MEMBERSHIP


THIS_MACHINE = Machine()


def run_manifest(
    config: dict[str, Any],
    *,
    dataset_root: Path,
    world_size: int,
    device: torch.device,
    protocol: Any,
    first_step: int = 1,
    earlier: Record | None = None,
    started_at: float | None = None,
    machine: Machine = THIS_MACHINE,
) -> Record:
    """Return the record of a run whose newest part begins now; all of it are plain values.

    ``config``, ``seed``, ``protocol``, ``dataset``, ``code``, ``versions``, ``hardware`` and ``environment``
    are of the newest part. ``parts`` has an entry for each start of the run: when, at which step, with how
    many processes, what of the above was another then, and how it has ended.

    Args:
        config: the run's configuration as plain values.
        dataset_root: of the unified dataset.
        world_size: processes that train together.
        device: of this process.
        protocol: of the validation, as plain values.
        first_step: the next step of the run; 1 in a new one.
        earlier: what `read_manifest` found of the parts before.
        started_at: Unix seconds; now by default.
        machine: what is read for the hardware.
    """
    now: Record = {
        "schema": SCHEMA,
        "config": config,
        "seed": config.get("SEED"),
        "protocol": protocol,
        "dataset": dataset_identity(dataset_root),
        "code": code_identity(_PACKAGE),
        "versions": _versions(device, machine),
        "hardware": _hardware(device, machine),
        "environment": {name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
    }
    part: Record = {
        "status": "running",
        "started_at": _moment(time.time() if started_at is None else started_at),
        "ended_at": None,
        "first_step": first_step,
        "last_step": None,
        "world_size": world_size,
        "device": str(device),
        "hostname": now["hardware"]["hostname"],
        "code": now["code"],
        "versions": now["versions"],
        "dataset_sha256": (now["dataset"] or {}).get("manifest_sha256"),
        "config_changes": _config_changes(earlier, config),
        "error": None,
    }
    return {**now, "parts": [*_parts_before(earlier), part]}


@contextlib.contextmanager
def recorded(
    path: Path, manifest: Record, *, last_step: Callable[[], int], now: Callable[[], float] = time.time
) -> Iterator[Callable[[Record], None]]:
    """Write ``manifest`` to ``path``, and again at the end of the block with how its newest part has ended.

    What the block gets adds entries to the newest part, at once.

    ``status`` is ``running`` until then, and ``finished``, ``interrupted`` (by a signal, and saved) or
    ``failed`` (``error`` has the first line) after it; a part that was killed is called so by the next one.

    Args:
        path: of ``run.json``.
        manifest: as `run_manifest` gives it.
        last_step: gives the last step that was done.
        now: gives Unix seconds.
    """
    write_manifest(path, manifest)
    added: Record = {}

    def with_newest(more: Record) -> Record:
        newest = {**manifest["parts"][-1], **added, **more}
        return {**manifest, "parts": [*manifest["parts"][:-1], newest]}

    def add(more: Record) -> None:
        added.update(more)
        with contextlib.suppress(OSError):  # a record must not end a run
            write_manifest(path, with_newest({}))

    def ended(status: str, error: str | None) -> Record:
        end = {"status": status, "ended_at": _moment(now()), "last_step": last_step(), "error": error}
        return with_newest(end)

    try:
        yield add
    except BaseException as error:
        status = "interrupted" if isinstance(error, InterruptedRun) else "failed"
        with contextlib.suppress(OSError):  # a full disk, for one, is what the error tells of
            write_manifest(path, ended(status, first_line(error)))
        raise
    write_manifest(path, ended("finished", None))


def write_manifest(path: Path, manifest: Record) -> None:
    """Write ``run.json`` in one piece."""
    write_text(path, json.dumps(manifest, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_manifest(path: Path) -> Record | None:
    """Return the record of a run; None where there is none that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    is_ours = isinstance(content, dict) and content.get("schema") == SCHEMA
    return content if is_ours and isinstance(content.get("parts"), list) else None


def dataset_identity(root: Path) -> Record | None:
    """Return what tells a dataset from any other: the SHA-256 of its manifest, which has one of every file.

    None where there is no manifest.
    """
    try:
        text = (root / MANIFEST).read_bytes()
        content = json.loads(text)
        return {
            "root": str(root),
            "name": content["name"],
            "storage": content.get("storage", "png"),
            "files": len(content["files"]),
            "bytes": sum(record["bytes"] for record in content["files"].values()),
            "manifest_sha256": hashlib.sha256(text).hexdigest(),
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def code_identity(package: Path) -> Record | None:
    """Return the git ``commit`` that holds ``package`` and whether its files differ from it (``dirty``).

    None where it is no part of a git working copy: an installed package may lie in the repository of others.
    """
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    commit = _git(package, "rev-parse", "HEAD")
    changed = _git(package, "status", "--porcelain", "--", ".")
    if commit is None or changed is None:
        return None
    return {"commit": commit.strip(), "dirty": bool(changed.strip())}


def _git(folder: Path, *arguments: str) -> str | None:
    """Return what git says in ``folder``; None where it fails, takes too long or is not there."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment["GIT_OPTIONAL_LOCKS"] = "0"  # leave the user's index alone
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=_GIT_PATIENCE,
            env=environment,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout if done.returncode == 0 else None


def _versions(device: torch.device, machine: Machine) -> Record:
    found = {name: _version(name) for name in _PACKAGES}
    uses_cuda = device.type == "cuda"  # asking wakes the GPU, which a run on the CPU leaves alone
    return {
        "deblurkit": __version__,
        "python": platform.python_version(),
        **found,
        "torch": torch.__version__,  # with the kind of build
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if uses_cuda else None,
        "nccl": ".".join(map(str, torch.cuda.nccl.version())) if uses_cuda else None,
        "nvidia_driver": driver_version(machine.driver),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def driver_version(path: Path) -> str | None:
    """Return the version of NVIDIA's driver, None without one."""
    try:
        found = re.search(r"\b\d{3,}\.\d+(\.\d+)?\b", path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None
    return found[0] if found else None


def _hardware(device: torch.device, machine: Machine) -> Record:
    count = torch.cuda.device_count() if device.type == "cuda" else 0
    gpus = [torch.cuda.get_device_properties(number) for number in range(count)]
    return {
        "hostname": platform.node(),
        "platform": platform.platform(),
        "cpu": cpu_model(machine.cpuinfo),
        "cpus": available_cpus(cgroup_root=machine.cgroup_root, membership=machine.membership),
        "memory_bytes": memory_bytes(machine),
        "gpus": [{"name": gpu.name, "memory_bytes": gpu.total_memory} for gpu in gpus],
    }


def cpu_model(cpuinfo: Path) -> str | None:
    """Return the processors' name, or else their kind; None where nothing tells."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"^model name\s*:\s*(.+)$", text, flags=re.MULTILINE)
    return found[1] if found else platform.machine()


def memory_bytes(machine: Machine) -> int:
    """Return the memory that this process may use: the machine's, or less where a cgroup says so."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for group in cgroups.own_cgroups("memory", root=machine.cgroup_root, membership=machine.membership):
        file = group.folder / ("memory.max" if group.version == 2 else "memory.limit_in_bytes")
        with contextlib.suppress(OSError, ValueError):  # not there, or max
            sizes.append(int(file.read_text()))
    return min(sizes)


def _parts_before(earlier: Record | None) -> list[Record]:
    """Return the parts of a record; one that has not told its end was killed."""
    parts = earlier["parts"] if earlier else []
    return [part | {"status": "killed"} if part.get("status") == "running" else part for part in parts]


def _config_changes(earlier: Record | None, config: dict[str, Any]) -> list[Record]:
    """Return the keys that change a run's numbers and are others than in the part before."""
    before = earlier.get("config") if earlier else None
    return [change._asdict() for change in changes(before, config)] if isinstance(before, dict) else []


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or else its kind."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _moment(unix_seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(unix_seconds, tz=datetime.timezone.utc)
    return moment.isoformat(timespec="seconds")
