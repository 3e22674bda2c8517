"""The Chinese table is the seed's, for its own example of 40 cores and 3 GPUs."""

from dataclasses import replace
from pathlib import Path

import pytest

from deblurkit.data.workers import WorkerPlan
from deblurkit.language import resolve_language
from deblurkit.render.startup import data_loading_table, run_line
from deblurkit.training.observer import RunPlan

PLAN = RunPlan(
    folder=Path("outputs"),
    device="cuda:0",
    architecture="vrt",
    parameters=18_300_000,
    clips=2000,
    total_steps=8880,
    first_step=1,
    batch_size=1,
    accumulation=6,
    workers=WorkerPlan(cpus=40, gpus=3, total=32, train=10, val=5),
    train_prefetch_factor=4,
    val_prefetch_factor=2,
)

SEED = """\
[train] ========== 数据加载配置 ==========
[train] CPU核心数: 40
[train] 总worker数: 32 (建议值，用于所有3个GPU)
[train] 训练DataLoader:
[train]   - batch_size: 1 (每GPU)
[train]   - num_workers: 10 (每GPU)
[train]   - prefetch_factor: 4
[train] 验证DataLoader:
[train]   - num_workers: 5 (每GPU)
[train]   - prefetch_factor: 2
[train] 总计: 30 个训练workers 利用CPU资源
[train] ======================================
"""


def test_the_table_is_the_seed_s():
    assert data_loading_table(PLAN, language="zh") == SEED


def test_the_english_table_says_the_same_numbers():
    digits = [[c for c in line if c.isdigit()] for line in SEED.splitlines()]
    english = data_loading_table(PLAN, language="en").splitlines()
    assert [[c for c in line if c.isdigit()] for line in english] == digits


@pytest.mark.parametrize(
    ("setting", "environment", "language"),
    [
        ("zh", {}, "zh"),
        ("auto", {"LANG": "zh_CN.UTF-8"}, "zh"),
        ("auto", {"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, "en"),
        ("auto", {}, "en"),
    ],
)
def test_the_language_follows_the_setting_or_the_locale(setting, environment, language):
    assert resolve_language(setting, environment=environment) == language


def test_one_line_says_what_is_trained():
    assert run_line(PLAN) == (
        "vrt (18.3 M parameters) on cuda:0: steps 1 to 8880, batch 1 x 6, 2,000 clips -> outputs"
    )


def test_a_run_that_is_at_its_end_says_how_to_go_on():
    line = run_line(replace(PLAN, total_steps=4, first_step=5))
    assert line == (
        "vrt (18.3 M parameters) on cuda:0: already at step 4 of 4; raise TRAIN.MAX_STEPS (or TRAIN.EPOCHS)"
        " to go on -> outputs"
    )


def test_on_a_cpu_the_chinese_table_speaks_of_processes():
    one = replace(PLAN, device="cpu", workers=WorkerPlan(cpus=2, gpus=1, total=1, train=1, val=0))
    table = data_loading_table(one, language="zh")
    assert "用于所有1个进程" in table and "num_workers: 1 (每进程)" in table and "GPU" not in table


def test_one_of_a_thing_has_no_s():
    one = replace(PLAN, clips=1, workers=WorkerPlan(cpus=2, gpus=1, total=1, train=1, val=0))
    table = data_loading_table(one, language="en")
    assert "(suggested, for 1 training process)" in table and "together: 1 training worker\n" in table
    assert "1 clip ->" in run_line(one)


def test_several_processes_are_counted_in_the_batch():
    line = run_line(replace(PLAN, batch_size=2, accumulation=3, world_size=4))
    assert "on 4 processes, " in line and "batch 2 x 3 x 4," in line
    assert "batch 2 x 4," in run_line(replace(PLAN, batch_size=2, accumulation=1, world_size=4))
