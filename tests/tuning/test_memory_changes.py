"""Changes against predictors whose bytes are worked out by hand, and against the real one."""

import dataclasses
import functools

import pytest

from deblurkit.config.changed import changed
from deblurkit.config.load import load_config
from deblurkit.errors import CheckpointError
from deblurkit.tuning.host_memory import HostMemory, HostRow
from deblurkit.tuning.memory_changes import changes_for
from deblurkit.tuning.overheads import MemoryRow
from deblurkit.tuning.shared_states import as_shared
from deblurkit.tuning.step_memory import EMA, STATES, VALIDATION, StepMemory, predict_step

KIB = 1024
WEIGHTS = 64 * KIB
PIXEL = 10  # bytes for each pixel of each frame of a batch
BASE = ["TRAIN.BATCH_SIZE=2", "DATALOADER.TRAIN_WORKERS=4", "DATALOADER.VAL_WORKERS=0"]
CLIPS = 2 * 5 * 256 * 256 * PIXEL  # 6,553,600

SMALL = ["TRAIN.DEVICE=cpu", "DATA.NUM_VOXEL_BINS=2", "DATA.CLIP_LEN=4"]
TINY_VRT = [
    *SMALL,
    "DATA.CROP_SIZE=64",
    "DATA.CLIP_LEN=2",
    "TRAIN.BATCH_SIZE=1",
    "MODEL.VRT_DEPTHS=[1, 1, 1, 1, 1, 1, 1, 1]",
    "MODEL.VRT.EMBED_DIMS=[8, 8]",
    "MODEL.VRT.NUM_HEADS=1",
    "MODEL.CHANNELS_PER_SCALE=[4, 4, 4, 4]",
]


def config(*overrides, preset=None):
    chosen = overrides if preset else [*BASE, *overrides]
    return load_config(preset, None, chosen, warn=lambda text: None)


def made_step(config, rows, validation=0):
    held = tuple(MemoryRow(name, count, "by hand") for name, count in rows.items() if count)
    phases = {"backward": sum(rows.values())} | ({VALIDATION: validation} if validation else {})
    shape = (config.train.batch_size, config.data.clip_len, 3, config.data.crop_size, config.data.crop_size)
    return StepMemory("cuda", "by hand", shape, held, held, phases, ())


class Predictor:
    """A network of activations by the pixel, halved in autocast by three tenths, and what it was asked."""

    def __init__(self, *, weights=WEIGHTS, validation=0):
        self.asked = []
        self._weights, self._validation = weights, validation

    def __call__(self, config, *, device_kind="cuda", world_size=1, frame_shape=None):
        self.asked.append(config)
        train, data = config.train, config.data
        pixels = train.batch_size * data.clip_len * data.crop_size**2
        rows = {
            "activations: VRT/Stage1": pixels * PIXEL * (7 if train.amp_enabled else 10) // 10,
            "parameters": self._weights,
            STATES: self._weights // (2 if train.optim.type == "adamw8bit" else 1) * 2,
            EMA: self._weights if train.ema_decay else 0,
        }
        tile = config.test.tile
        validation = 0 if tile else self._validation * train.val_batch_size
        step = made_step(config, rows, validation or self._validation // 10)
        return dataclasses.replace(step, device_kind=device_kind)


class HostPredictor:
    """Workers of 1 MiB, ready batches of a byte a pixel, the cache; on a CPU the step too."""

    def __init__(self):
        self.asked = []

    def __call__(self, config, *, device_kind="cuda", world_size=1, step=None):
        self.asked.append((config, step))
        workers = config.dataloader.train_workers
        ready = workers * config.dataloader.train_prefetch_factor
        batch = config.train.batch_size * config.data.crop_size**2
        cache = int(config.data.cache_size_gb * 2**30) if config.data.use_ram_cache else 0
        rows = [
            HostRow("interpreter", KIB**2, world_size, "private", ""),
            HostRow("workers", KIB**2, workers * world_size, "private", ""),
            HostRow("batches", batch, ready * world_size, "shared memory", ""),
            HostRow("cache", cache, 1, "shared memory", ""),
        ]
        if device_kind == "cpu" and step is not None:
            rows.append(HostRow("step", step.total_bytes, world_size, "private", ""))
        return HostMemory(tuple(rows), world_size, workers)


def of_device(config, *, predictor=None, world_size=1, kind="cuda", **more):
    predictor = predictor or Predictor()
    step = as_shared(predictor(config, device_kind=kind), config, ranks=world_size)
    predictor.asked.clear()
    host = HostMemory((), world_size, 0)
    return changes_for(config, step=step, host=host, resource="device", predict=predictor, **more)


def of_host(config, resource, *, kind="cuda", world_size=1, predictor=None, of_host=None, **more):
    predictor, of_host = predictor or Predictor(), of_host or HostPredictor()
    step = predictor(config, device_kind=kind)
    predictor.asked.clear()
    host = of_host(config, device_kind=kind, world_size=world_size, step=step)
    return changes_for(
        config, step=step, host=host, resource=resource, predict=predictor, predict_host=of_host, **more
    )


def as_pairs(changes):
    return [(change.settings, change.frees_bytes) for change in changes]


def test_the_three_that_free_most_come_first_with_their_bytes():
    found = of_device(config())
    assert as_pairs(found) == [
        (("TRAIN.BATCH_SIZE=1", "TRAIN.GRADIENT_ACCUMULATION_STEPS=12"), CLIPS // 2),
        (("DATA.CROP_SIZE=192",), CLIPS * 7 // 16),
        (("DATA.CLIP_LEN=3",), CLIPS * 2 // 5),
    ]
    assert [change.keeps_result for change in found] == [True, False, False]
    assert {change.resource for change in found} == {"device"}
    assert "1 x 12 instead of 2 x 6" in found[0].costs
    assert of_device(config(), most=1) == found[:1]


def test_what_cannot_be_among_them_is_not_predicted():
    predictor = Predictor()
    of_device(config(), predictor=predictor)
    assert len(predictor.asked) == 4  # batch and autocast (half at most), crop, clip; not an 8-bit optimiser
    assert all(asked.train.optim.type == "adamw" for asked in predictor.asked)


def test_what_frees_less_than_a_hundredth_is_no_change():
    heavy = Predictor(weights=10**9)  # 3 GB of them; clips are 0.2 % of all
    (only,) = of_device(config(), predictor=heavy)
    assert only.settings == ("TRAIN.OPTIM.TYPE=adamw8bit",)
    assert only.frees_bytes == 10**9
    assert of_device(config("TRAIN.OPTIM.TYPE=adamw8bit"), predictor=heavy) == []


def test_only_another_valid_configuration_is_a_change():
    smallest = config("DATA.CROP_SIZE=64", "DATA.CLIP_LEN=2", "TRAIN.BATCH_SIZE=1", "TRAIN.AMP_ENABLED=true")
    predictor = Predictor(weights=0)
    assert of_device(smallest, predictor=predictor) == []  # 48 px are too few for windows of 8
    assert predictor.asked == []


def test_ranks_may_share_the_states_of_the_optimiser_where_nothing_needs_whole_weights():
    heavy = Predictor(weights=10**9)
    found = of_device(config(), predictor=heavy, world_size=4)
    assert as_pairs(found) == [
        (("TRAIN.PARALLEL=fsdp",), 2 * 10**9 * 3 // 4),
        (("TRAIN.OPTIM.TYPE=adamw8bit",), 10**9),
    ]
    found = of_device(config("TRAIN.EMA_DECAY=0.9"), predictor=heavy, world_size=4)
    assert as_pairs(found) == [
        (("TRAIN.EMA_DECAY=0.0",), 10**9),
        (("TRAIN.OPTIM.TYPE=adamw8bit",), 10**9),
    ]
    found = of_device(config("TRAIN.PARALLEL=fsdp"), predictor=heavy, world_size=4)
    assert found == []  # 8 bits do not go with fsdp


def test_where_ranks_share_already_a_smaller_batch_frees_its_clips():
    """A third of what is held are states, of which each rank keeps a quarter now and with any change."""
    found = of_device(config("TRAIN.PARALLEL=fsdp"), predictor=Predictor(weights=CLIPS), world_size=4)
    batch = ("TRAIN.BATCH_SIZE=1", "TRAIN.GRADIENT_ACCUMULATION_STEPS=12")
    assert as_pairs(found)[0] == (batch, CLIPS // 2)


def test_where_a_validation_holds_most_it_is_what_is_made_smaller():
    predictor = Predictor(validation=8 * CLIPS)
    found = of_device(config("TRAIN.VAL_BATCH_SIZE=2"), predictor=predictor, frame_shape=(720, 1280))
    whole, step = 16 * CLIPS, CLIPS + 3 * WEIGHTS
    assert as_pairs(found) == [
        (("TEST.TILE=[256, 256]",), whole - step),
        (("TRAIN.VAL_BATCH_SIZE=1",), whole // 2),
    ]
    assert "18 tiles" in found[0].costs
    assert all(asked.data.crop_size == 256 for asked in predictor.asked)


def test_a_validation_that_is_not_predicted_again_counts_as_it_was():
    def without(config, **known):
        found = predictor(config, **known)
        return dataclasses.replace(found, phases={"backward": found.phases["backward"]})

    predictor = Predictor(validation=20 * CLIPS)
    step = predictor(config())
    host = HostMemory((), 1, 0)
    assert changes_for(config(), step=step, host=host, resource="device", predict=without) == []


@pytest.mark.parametrize(
    "error", [CheckpointError("this teacher needs 256 px"), RuntimeError("pooling 2 x 2")]
)
def test_a_change_that_another_network_rules_out_is_left_out(error):
    def strict(config, **known):
        if config.data.crop_size < 256:
            raise error
        return predictor(config, **known)

    predictor = Predictor()
    chosen = config()
    host = HostMemory((), 1, 0)
    found = changes_for(chosen, step=predictor(chosen), host=host, resource="device", predict=strict)
    names = [change.settings[0].partition("=")[0] for change in found]
    assert names == ["TRAIN.BATCH_SIZE", "DATA.CLIP_LEN", "TRAIN.AMP_ENABLED"]


def test_settings_that_only_together_make_it_fit_come_last():
    kept = 3 * WEIGHTS
    wanted = kept + CLIPS // 4  # half of the batch leaves 1/2, crops of 192 px another 9/16: 0.281
    wanted += CLIPS // 25
    found = of_device(config(), available_bytes=int(wanted / 0.9) + 2)
    assert len(found) == 4
    assert found[-1].settings == (*found[0].settings, *found[1].settings)
    assert found[-1].frees_bytes == CLIPS - CLIPS * 9 // 32
    assert found[-1].costs == f"{found[0].costs}; {found[1].costs}"
    assert not found[-1].keeps_result
    assert [change.is_combined for change in found] == [*[False] * (len(found) - 1), True]


@pytest.mark.parametrize("share", [0.1, 0.8, 1.2])
def test_no_combination_where_it_cannot_fit_one_suffices_or_nothing_is_missing(share):
    needed = CLIPS + 3 * WEIGHTS
    assert len(of_device(config(), available_bytes=int(share * needed))) == 3


def test_fewer_workers_and_batches_free_the_memory_of_the_host():
    predictor = Predictor()
    found = of_host(config(), "ram", predictor=predictor)
    batch = 2 * 256 * 256
    assert as_pairs(found) == [
        (("DATALOADER.TRAIN_WORKERS=2",), 2 * KIB**2 + 2 * 4 * batch),
        (("DATALOADER.TRAIN_PREFETCH_FACTOR=2",), 4 * 2 * batch),
        (("TRAIN.BATCH_SIZE=1", "TRAIN.GRADIENT_ACCUMULATION_STEPS=12"), 4 * 4 * batch // 2),
    ]
    assert all(change.keeps_result for change in found)
    assert predictor.asked == []  # a GPU's tensors are not in RAM


def test_a_cache_is_halved_or_done_without():
    found = of_host(config("DATA.USE_RAM_CACHE=true", "DATA.CACHE_SIZE_GB=3.0"), "shm", most=2)
    assert as_pairs(found) == [
        (("DATA.USE_RAM_CACHE=false",), 3 * 2**30),
        (("DATA.CACHE_SIZE_GB=1.5",), 3 * 2**29),
    ]


def test_without_workers_nothing_lies_in_shared_memory():
    found = of_host(config(), "shm", world_size=2)
    everything = 2 * 16 * 2 * 256 * 256
    assert as_pairs(found)[0] == (
        ("DATALOADER.TRAIN_WORKERS=0", "DATALOADER.VAL_WORKERS=0"),
        everything,
    )
    assert "0 of 4 workers" in found[0].costs
    assert {change.frees_bytes for change in found[1:]} == {everything // 2}


def test_the_step_of_a_cpu_is_in_ram_as_often_as_there_are_ranks():
    host = HostPredictor()
    found = of_host(config(), "ram", kind="cpu", world_size=2, of_host=host)
    batches = 2 * 16 * 2 * 256 * 256
    assert as_pairs(found)[:2] == [
        (("TRAIN.BATCH_SIZE=1", "TRAIN.GRADIENT_ACCUMULATION_STEPS=12"), CLIPS + batches // 2),
        (("DATA.CROP_SIZE=192",), (CLIPS * 2 + batches) * 7 // 16),
    ]
    halves = [step.total_bytes for asked, step in host.asked if asked.train.batch_size == 1]
    assert halves == [CLIPS // 2 + 3 * WEIGHTS]


def test_what_is_known_of_the_data_stays_the_predictors_own():
    """The one that is handed over may know more than this module: frames, storage."""

    def of_data(config, *, frames, **known):
        asked.append(frames)
        return HostPredictor()(config, **known)

    asked = []
    of_host(config(), "ram", of_host=functools.partial(of_data, frames=7))
    assert set(asked) == {7}


def test_progress_ends_with_all_that_was_planned():
    told = []
    of_device(config(), on_progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]


@pytest.mark.parametrize(
    ("preset", "chosen", "most"),
    [("quickstart", SMALL, 3), ("quickstart_vrt", TINY_VRT, 1)],
    ids=["U-Net", "VRT"],
)
def test_changes_of_a_real_network_come_true(preset, chosen, most):
    before = config(*chosen, preset=preset)
    now = predict_step(before)
    found = changes_for(before, step=now, host=None, resource="device", most=most)
    freed = [change.frees_bytes for change in found]
    assert len(found) == most
    assert freed == sorted(freed, reverse=True)
    for change in found:
        after = predict_step(config(*chosen, *change.settings, preset=preset))
        assert now.total_bytes - after.total_bytes == change.frees_bytes


def test_changed_and_the_command_line_agree():
    before = config()
    for change in of_device(before):
        after = load_config(None, None, [*BASE, *change.settings], warn=lambda text: None)
        values = dict(text.split("=") for text in change.settings)
        assert after == changed(before, {key: int(value) for key, value in values.items()})
