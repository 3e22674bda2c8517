"""What a run says before its first step."""

from __future__ import annotations

from deblurkit.training.observer import RunPlan
from deblurkit.units import format_count, plural

_TABLES = {
    "zh": """\
[train] ========== 数据加载配置 ==========
[train] CPU核心数: {cpus}
[train] 总worker数: {total} (建议值，用于所有{gpus}个{unit})
[train] 训练DataLoader:
[train]   - batch_size: {batch_size} (每{unit})
[train]   - num_workers: {train} (每{unit})
[train]   - prefetch_factor: {train_prefetch}
[train] 验证DataLoader:
[train]   - num_workers: {val} (每{unit})
[train]   - prefetch_factor: {val_prefetch}
[train] 总计: {all_train} 个训练workers 利用CPU资源
[train] ======================================
""",
    "en": """\
[train] ========== data loading ==========
[train] CPUs: {cpus}
[train] workers in all: {total} (suggested, for {processes})
[train] training DataLoader:
[train]   - batch_size: {batch_size} (per process)
[train]   - num_workers: {train} (per process)
[train]   - prefetch_factor: {train_prefetch}
[train] validation DataLoader:
[train]   - num_workers: {val} (per process)
[train]   - prefetch_factor: {val_prefetch}
[train] together: {training_workers}
[train] ==================================
""",
}


def data_loading_table(plan: RunPlan, *, language: str) -> str:
    """Return the start-up table of the seeds: CPUs, workers and prefetch, in Chinese or English."""
    workers = plan.workers
    all_train = workers.train * workers.gpus
    return _TABLES[language].format(
        cpus=workers.cpus,
        total=workers.total,
        gpus=workers.gpus,
        batch_size=plan.batch_size,
        train=workers.train,
        val=workers.val,
        train_prefetch=plan.train_prefetch_factor,
        val_prefetch=plan.val_prefetch_factor,
        all_train=all_train,
        unit="GPU" if plan.device.startswith("cuda") else "进程",
        processes=plural(workers.gpus, "training process"),
        training_workers=plural(all_train, "training worker"),
    )


def run_line(plan: RunPlan) -> str:
    """Return one line that says what is trained, on what, for how long."""
    several = f"{plan.world_size} processes, " if plan.world_size > 1 else ""
    head = f"{plan.architecture} ({format_count(plan.parameters)} parameters) on {several}{plan.device}"
    done = plan.first_step - 1
    if done >= plan.total_steps:
        return (
            f"{head}: already at step {done} of {plan.total_steps}; raise TRAIN.MAX_STEPS (or TRAIN.EPOCHS)"
            f" to go on -> {plan.folder}"
        )
    factors = [plan.batch_size, *(factor for factor in (plan.accumulation, plan.world_size) if factor > 1)]
    batch = " x ".join(map(str, factors))
    return (
        f"{head}: steps {plan.first_step} to {plan.total_steps}, batch {batch}, {plural(plan.clips, 'clip')}"
        f" -> {plan.folder}"
    )
