"""What a machine gives of memory and who holds it, as tables and sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from deblurkit.memory.gpu import GpuLook, GpuState
from deblurkit.memory.limits import Resource
from deblurkit.memory.look import Look, name_of, printable, program_of, removal_of
from deblurkit.memory.pressure import OomCount, Pressure
from deblurkit.memory.processes import Group, Holders, Tree
from deblurkit.memory.remains import Remain
from deblurkit.render.text import figure_table, indented
from deblurkit.units import format_bytes, format_share, plural

NOTHING = "-"
_ROLES = {
    "main": "main process",
    "launcher": "launcher",
    "rank": "rank",
    "worker": "loader worker",
    "helper": "helper process",
    "other": "other process",
}
_PROGRAM = 44  # columns of a program's name
_MOST_REMAINS = 12


def machine_sections(look: Look) -> Iterator[RenderableType]:
    """Yield what a machine gives, who holds it, and what is not seen of it."""
    yield Text("\nWhat this machine gives")
    yield limits_table(look.limits)
    yield from (indented(line) for line in shortage_lines(look))
    yield from gpu_sections(look.gpus)
    yield from _remains(look)
    yield Text("\nWho holds most memory")
    yield users_table(look.holders)
    yield processes_table(look.holders)
    for tree in look.trees:
        yield Text(f"\n{program_of(tree.root)} (process {tree.root.pid})")
        yield tree_table(tree)
    told = () if look.gpus.gpus else look.gpus.unseen  # where the GPUs would stand
    unseen = [line for line in look.unseen if line not in told]
    if unseen:
        yield Text("\nNot seen")
        yield from map(indented, unseen)


def size(count: int | None) -> str:
    """Return bytes as text; a dash for what is not known."""
    return NOTHING if count is None else format_bytes(count)


def limits_table(limits: Sequence[Resource]) -> Table:
    """Return what bounds memory; what is not bounded stands below the table."""
    table = figure_table("Limit", "in all", "used", "available")
    table.add_column("who asks for more", overflow="fold")
    for limit in limits:
        if limit.limit_bytes or _is_unread(limit):
            figures = (limit.limit_bytes, limit.used_bytes, limit.available_bytes)
            table.add_row(Text(name_of(limit)), *map(size, figures), Text(limit.beyond))
    unbounded = [limit.name for limit in limits if limit.limit_bytes is None and not _is_unread(limit)]
    if unbounded:
        table.caption = Text(f"No limit is set: {', '.join(dict.fromkeys(unbounded))}.")
    return table


def shortage_lines(look: Look) -> Iterator[str]:
    """Yield whether memory is short now, and how often it has run out."""
    for each in look.pressure:
        yield f"{_where(each)}: tasks waited for memory {_waited(each)}"
    if not look.pressure:
        yield "whether tasks wait for memory (PSI) this kernel does not tell"
    killed = [count for count in look.oom_counts if count.kills]
    yield from map(_kills, killed)
    if look.oom_counts and not killed:
        yield "no process was killed for want of memory since it is up"


def gpu_sections(gpus: GpuLook) -> Iterator[RenderableType]:
    """Yield a table of the GPUs and of the processes that hold them, and what is wrong with them."""
    if not gpus.gpus:
        yield Text(f"\nGPUs: none is seen ({'; '.join(gpus.unseen) or 'there is none'})")
        return
    yield Text("\nGPUs")
    table = figure_table("GPU", "in all", "used", "free", "busy", "°C")
    for gpu in gpus.gpus:
        _add_gpu(table, gpu)
    yield table
    yield from (indented(line) for gpu in gpus.gpus for line in gpu_faults(gpu))


def gpu_faults(gpu: GpuState) -> Iterator[str]:
    """Yield what is wrong with a GPU: memory errors, and what slows it down."""
    if gpu.ecc_errors or gpu.ecc_errors_ever:
        ever = "" if gpu.ecc_errors_ever is None else f", {gpu.ecc_errors_ever:,} since it was made"
        yield f"GPU {gpu.index}: {gpu.ecc_errors or 0:,} uncorrected memory errors since boot{ever}"
    if gpu.slowed_by:
        yield f"GPU {gpu.index}: its clocks are kept down by {', '.join(gpu.slowed_by)}"


def users_table(holders: Holders) -> Table:
    """Return the users that hold most."""
    table = figure_table("User", "processes", "RSS")
    for user in holders.users:
        table.add_row(Text(user.user), f"{user.processes:,}", format_bytes(user.rss_bytes))
    return table


def processes_table(holders: Holders) -> Table:
    """Return the processes that hold most."""
    table = figure_table("Process", "number", "RSS", "PSS", "USS", "swapped")
    table.add_column("of", overflow="fold")
    for process in holders.largest:
        name = Text(program_of(process))
        name.truncate(_PROGRAM, overflow="ellipsis")
        figures = (process.rss_bytes, process.pss_bytes, process.uss_bytes, process.swap_bytes)
        table.add_row(name, str(process.pid), *map(size, figures), Text(process.user or "unknown"))
    table.caption = Text("RSS counts shared pages in each process, PSS adds up, USS ends with the process.")
    return table


def tree_table(tree: Tree) -> Table:
    """Return a run's processes, the workers of a rank together."""
    table = figure_table("Of it", "processes", "RSS", "PSS", "USS")
    for group in tree.groups:
        table.add_row(Text(group_name(group)), *_figures(group))
    if len(tree.groups) > 1:
        table.add_section()
        table.add_row("together", *_figures(tree.total))
    return table


def group_name(group: Group) -> str:
    """Return what the processes of a group are: ``loader workers of rank 0``."""
    if group.role == "rank":
        return f"rank {group.rank}"
    name = _ROLES[group.role]
    if len(group.members) > 1:
        name += "es" if name.endswith("s") else "s"
    return name if group.rank is None else f"{name} of rank {group.rank}"


def _figures(group: Group) -> tuple[str, ...]:
    sizes = (group.rss_bytes, group.pss_bytes, group.uss_bytes)
    return (str(len(group.members)), *map(size, sizes))


def _add_gpu(table: Table, gpu: GpuState) -> None:
    busy = NOTHING if gpu.busy_percent is None else f"{gpu.busy_percent:.0f} %"
    degrees = NOTHING if gpu.temperature_celsius is None else f"{gpu.temperature_celsius:.0f}"
    sizes = map(size, (gpu.total_bytes, gpu.used_bytes, gpu.free_bytes))
    table.add_row(Text(f"{gpu.index}  {gpu.name or 'GPU'}"), *sizes, busy, degrees)
    for holder in gpu.holders:
        name = f"     {holder.user or 'unknown'}, process {holder.pid}"
        table.add_row(Text(name + (", this one" if holder.is_this_process else "")), "", size(holder.bytes))
    if gpu.unaccounted_bytes:
        name = "     driver, and who is not seen" if gpu.unseen else "     driver"
        table.add_row(name, "", format_bytes(gpu.unaccounted_bytes))


def _remains(look: Look) -> Iterator[RenderableType]:
    if not look.remains:
        return
    yield Text("\nIn shared memory")
    table = figure_table("What", "size")
    for title in ("of", "state"):
        table.add_column(title, overflow="fold")
    for remain in look.remains[:_MOST_REMAINS]:
        state = f"{remain.state}: {remain.why}"
        table.add_row(Text(_remain_name(remain)), size(remain.bytes), Text(remain.user), Text(state))
    hidden = len(look.remains) - _MOST_REMAINS
    if hidden > 0:
        table.caption = Text(f"{plural(hidden, 'smaller one')} not shown; --json has them all.")
    yield table
    commands = [removal_of(remain, user=look.user) for remain in look.remains]
    if any(commands):
        yield Text("Nobody holds these any more; they are removed by")
        yield from (indented(command) for command in dict.fromkeys(commands) if command is not None)


def _remain_name(remain: Remain) -> str:
    return remain.what if remain.path is None else printable(f"{remain.path}: {remain.what}")


def _where(each: Pressure) -> str:
    return "machine" if each.source.name == "memory" else f"cgroup {each.source.parent}"


def _waited(each: Pressure) -> str:
    some = each.some
    shares = ((some.share_10s, "10 s"), (some.share_60s, "60 s"), (some.share_300s, "5 min"))
    return ", ".join(f"{format_share(share)} of {span}" for share, span in shares)


def _kills(count: OomCount) -> str:
    where = "machine" if count.is_machine else f"cgroup {count.source.parent}"
    met = "" if not count.refusals else f"; its limit was met {plural(count.refusals, 'time')}"
    return f"{where}: {plural(count.kills, 'process')} killed for want of memory since it is up{met}"


def _is_unread(limit: Resource) -> bool:
    return limit.limit_bytes is None and limit.used_bytes is None and bool(limit.unseen)
