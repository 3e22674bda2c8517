from dataclasses import replace

from rich.cells import cell_len
from rich.console import Group

from deblurkit.render.memory import WIDTH
from deblurkit.render.memory_prediction import (
    host_lines,
    host_table,
    owner_table,
    prediction_sections,
    price_of,
    settings_of,
)
from deblurkit.render.text import as_text


def shown(*parts):
    return as_text(Group(*parts), width=WIDTH)


def line_with(text, word):
    (found,) = [line for line in text.splitlines() if word in line]
    return found


def test_a_verdict_for_each_resource_with_its_margin(run):
    text = shown(*prediction_sections(run))
    assert line_with(text, "15.00 GiB").split()[1:] == [
        *("20.00", "GiB", "5.00", "GiB", "15.00", "GiB", "fits")
    ]
    gpu = line_with(text, "-13.50 GiB")
    assert gpu.split() == ["GPU", "0", "7.50", "GiB", "21.00", "GiB", "-13.50", "GiB", "does", "not", "fit"]
    assert "GPU 0: 13.50 GiB too much: PyTorch ends with out of memory" in text
    assert "/dev/shm: 3.94 GiB too much: a bus error" in text


def test_a_step_by_owner_and_phase_adds_up(run):
    text = shown(*prediction_sections(run))
    owners = shown(owner_table(run.step))
    assert line_with(owners, "VRT处理").split()[2:] == ["16.00", "GiB", "80.0", "%", "16.00", "GiB"]
    assert line_with(owners, "smaller ones").split()[2:5] == ["2.0", "MiB", "0.0"]
    assert line_with(owners, "together").split()[1:5] == ["20.00", "GiB", "100.0", "%"]
    assert line_with(text, "forward  ").split()[:3] == ["forward", "16.00", "GiB"]
    assert line_with(text, "cuDNN").split()[:3] == ["cuDNN", "workspaces", "-"]


def test_chinese_names_keep_the_columns(run):
    owners = shown(owner_table(run.step))
    ends = {
        cell_len(line[: line.index("iB") + 2])
        for line in owners.splitlines()
        if "GiB" in line or "MiB" in line
    }
    assert len(ends) == 1


def test_the_host_by_kind_beside_a_cache_for_each_process(run):
    text = shown(host_table(run.host), *host_lines(run.host))
    assert line_with(text, "node cache").split()[2:10] == [
        *("4.00", "GiB", "1", "4.00", "GiB", "shared", "memory", "DATA.CACHE_SIZE_GB")
    ]
    lines = list(host_lines(run.host))
    assert lines[0].startswith("5.00 GiB of RAM or of a cgroup; of it 4.00 GiB in /dev/shm and 0 B pinned")
    assert lines[1].startswith("30.00 GiB of page cache")
    assert lines[2].startswith("17.00 GiB, 3.4 x as much")  # 5 + 4 x (4 workers - 1)


def test_changes_are_ready_to_be_typed(run):
    first, second = run.changes
    assert settings_of(first) == "--set TRAIN.BATCH_SIZE=1 --set 'X=[1, 2]'"
    assert (price_of(first), price_of(second)) == ("twice the launches", "fewer digits; another result")
    text = shown(*prediction_sections(run))
    assert "What frees most of the GPU" in text
    assert "  9.00 GiB  --set TRAIN.BATCH_SIZE=1 --set 'X=[1, 2]'\n    twice the launches\n" in text


def test_settings_that_fit_together_stand_apart(run):
    assert "fits together" not in shown(*prediction_sections(run))
    combined = replace(run.changes[0], is_combined=True)
    lines = shown(*prediction_sections(replace(run, changes=(*run.changes, combined)))).splitlines()
    at = lines.index("What fits together, where none does alone")
    assert lines[at + 1].startswith("  9.00 GiB  --set TRAIN.BATCH_SIZE=1") and not lines[at - 1]


def test_without_changes_it_says_so(run):
    text = shown(*prediction_sections(replace(run, changes=(), resource="ram")))
    assert "No change of a single setting frees more than 1 % of RAM." in text
