import dataclasses
import json
from pathlib import Path

import pytest

from deblurkit.memory.rows import LastMemory
from deblurkit.render.memory_json import memory_as_json
from deblurkit.tuning.memory_report import MemoryReport

GIB = 2**30


def document_of(*args):
    return json.loads(memory_as_json(MemoryReport(*args)))


def test_resources_changes_and_holders_have_exactly_their_fields(server, run):
    document = document_of(server, run)
    assert {tuple(each) for each in document["resources"]} == {
        ("name", "available_bytes", "predicted_bytes", "verdict")
    }
    assert {tuple(each) for each in document["changes"]} == {("set", "frees_bytes", "costs")}
    assert {tuple(each) for each in document["holders"]} == {("of", "user", "pid", "name", "bytes")}
    assert document["changes"][0] == {
        "set": ["TRAIN.BATCH_SIZE=1", "X=[1, 2]"],
        "frees_bytes": 9 * GIB,
        "costs": "twice the launches",
    }


def test_every_resource_is_there_once(server, run):
    document = document_of(server, run)
    rows = {each["name"]: each for each in document["resources"]}
    assert len(rows) == len(document["resources"])
    group = "cgroup memory.max of /slurm/job_7"
    assert set(rows) == {"RAM", group, "/dev/shm", "GPU 0", "GPU 1", "GPU 2"}
    assert rows["GPU 0"]["verdict"] == "does not fit" and rows["GPU 0"]["predicted_bytes"] == 21 * GIB + 2**21
    assert (rows["GPU 2"]["verdict"], rows["GPU 2"]["predicted_bytes"]) == (None, None)


def test_holders_are_users_processes_and_those_of_gpus_and_shared_memory(server):
    holders = document_of(server)["holders"]
    assert {"of": "RAM", "user": "王小明", "pid": None, "name": None, "bytes": 30 * GIB} in holders
    assert {"of": "GPU 0", "user": "王小明", "pid": 4242, "name": None, "bytes": 40 * GIB} in holders
    assert {each["of"] for each in holders} == {"RAM", "GPU 0", "GPU 1", "shared memory"}


def test_what_else_is_known(server, run, past):
    document = document_of(server, run, past)
    assert document["run"]["host"]["naive_bytes"] == 17 * GIB
    assert document["run"]["step"]["total_bytes"] == 21 * GIB + 2**21
    assert document["run"]["verdicts"][0]["margin_bytes"] == 15 * GIB
    assert document["past"]["causes"][0]["kind"] == "cgroup-limit"
    assert document["trees"][0]["groups"][2]["members"] == [20, 21, 22, 23]
    assert document["remains"][0]["remove"] == "rm -r -- /dev/shm/torch_5_ab"
    assert document["pressure"][0]["some"]["share_10s"] == 0.125
    assert document["limits"][2]["source"] == "/sys/fs/cgroup/slurm/job_7/memory.max"


def test_the_manual_names_every_field_of_a_past_run(server, past):
    document = document_of(server, None, past)["past"]
    manual = (Path(__file__).parents[2] / "docs/memory.md").read_text(encoding="utf-8")
    (row,) = [line for line in manual.splitlines() if line.startswith("| `past` |")]
    assert [name for name in document if f"`{name}`" not in row and f"`{name}[]`" not in row] == []
    memory = [field.name for field in dataclasses.fields(LastMemory)]
    assert [name for name in memory if f"`{name}`" not in row and f"`{name}[]`" not in row] == []


@pytest.mark.parametrize("look", ["server", "bare"])
def test_without_a_configuration_verdicts_are_null(look, request):
    document = document_of(request.getfixturevalue(look))
    assert {each["verdict"] for each in document["resources"]} == {None}
    assert (document["run"], document["past"], document["changes"]) == (None, None, [])
