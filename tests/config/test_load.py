from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deblurkit.config.layers import layer_of_overrides, layer_of_text
from deblurkit.config.load import combine, load_config, load_with_origins
from deblurkit.config.schema import Config, as_values, flat_values
from deblurkit.errors import ConfigError, DeblurkitError, UsageError

COMPLETE_EXAMPLE = """\
SEED: 123
DATA:
  ROOT: data/processed/gopro_spike_unified
  TRAIN_SPLIT: train
  VAL_SPLIT: test
  CROP_SIZE: 256
  CLIP_LEN: 5
  K: 32
  NUM_VOXEL_BINS: 32
  USE_PRECOMPUTED_VOXELS: true
  USE_RAM_CACHE: true
  CACHE_SIZE_GB: 4.0
MODEL:
  USE_SPIKE: true
  VRT_CFG: third_party/VRT/options/deblur/vrt_base.yaml
  CHANNELS_PER_SCALE: [96, 96, 96, 96]
  LAYERS: 4
  SPIKE_TSA:
    HEADS: 4
    ADAPTIVE_CHUNK: true
    MAX_BATCH_TOKENS: 49152
  FUSE:
    TYPE: TemporalCrossAttn
    HEADS: 4
    ADAPTIVE_CHUNK: true
    MAX_BATCH_TOKENS: 49152
DATALOADER:
  TOTAL_WORKERS: "auto"
  TRAIN_PREFETCH_FACTOR: 4
  VAL_PREFETCH_FACTOR: 2
  PIN_MEMORY: true
  PERSISTENT_WORKERS: true
TRAIN:
  EPOCHS: 40
  BATCH_SIZE: 1
  VAL_BATCH_SIZE: 1
  GRADIENT_ACCUMULATION_STEPS: 6
  MAX_GRAD_NORM: 1.0
  COMPILE_MODEL: false
  OPTIM:
    LR: 0.0002
    BETAS: [0.9, 0.99]
    WEIGHT_DECAY: 0.0001
  SCHED:
    TYPE: cosine
    WARMUP_STEPS: 256
LOSS:
  CHARBONNIER:
    DELTA: 0.001
    WEIGHT: 1.0
  VGG_PERCEPTUAL:
    LAYERS: [relu3_3]
    WEIGHT: 0.1
LOG:
  TENSORBOARD: true
  SAVE_DIR: outputs
  VAL_EVERY_STEPS: 1000
  ENABLE_TIMING_LOG: true
  TIMING_CONSOLE: true
  TIMING_FILE: true
  TIMING_CONSOLE_INTERVAL: 10
  TIMING_FILE_INTERVAL: 50
TEST:
  BATCH_SIZE: 1
  NUM_WORKERS: 2
"""  # seed 003, sec. 4

FRAGMENTS = (
    # seed 003, sec. 1, 2.5, 3 and 5
    "DATALOADER: {TOTAL_WORKERS: auto, TRAIN_WORKERS: auto, VAL_WORKERS: auto}",
    "DATALOADER: {TOTAL_WORKERS: 'cpu*0.6', TRAIN_PREFETCH_FACTOR: 2, PERSISTENT_WORKERS: false}",
    "MODEL: {VRT: {USE_CHECKPOINT_ATTN: true, USE_CHECKPOINT_FFN: true}}",
    "TRAIN: {OPTIM: {TYPE: adamw8bit}, BATCH_SIZE: 2, GRADIENT_ACCUMULATION_STEPS: 3}",
    # seed 002: AMP, windows, chunks, progressive training, loader, schemes
    "TRAIN: {AMP_ENABLED: true, AMP_OPT_LEVEL: 'O1', COMPILE_MODEL: true}",
    "MODEL: {WINDOW_SIZE: 6, VRT_DEPTHS: [8, 7, 8, 8, 4, 4, 4, 6]}",
    "MODEL: {FUSE: {HEADS: 4, MAX_BATCH_TOKENS: 65536, CHUNK_SIZE: 96, CHUNK_SHAPE: square}}",
    "MODEL: {SPIKE_TSA: {CHUNK_SIZE: 96, CHUNK_SHAPE: 'square'}}",
    "DATA: {TRAIN_CROP_SIZE: 128, USE_RAM_CACHE: true, CACHE_SIZE_GB: 50.0}",
    "DATALOADER: {TOTAL_WORKERS: 12, DROP_LAST: true}",
    # seed 000
    "MODEL: {VRT: {use_checkpoint_attn: false, use_checkpoint_ffn: false}}",
)


def load(text, *overrides):
    return combine([layer_of_text(text, name="run.yaml"), layer_of_overrides(overrides)])


def problems(text, *overrides):
    with pytest.raises(ConfigError) as caught:
        load(text, *overrides)
    return caught.value.problems


def test_the_seed_s_complete_example_is_taken_as_it_is():
    config = load(COMPLETE_EXAMPLE).config
    assert config.data.use_precomputed_voxels
    assert config.loss.vgg_perceptual.weight == 0.1
    assert config.model.vrt_cfg == "third_party/VRT/options/deblur/vrt_base.yaml"


@pytest.mark.parametrize("text", FRAGMENTS)
def test_every_key_of_the_seeds_is_known(text):
    assert load(text).config


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "TRAIN:\n  BATCH_SIZE: true\n",
            "run.yaml:2: TRAIN.BATCH_SIZE: expected a whole number of at least 1, got true",
        ),
        (
            "TRAIN: {BATCH_SIZE: 0}",
            "run.yaml:1: TRAIN.BATCH_SIZE: expected a whole number of at least 1, got 0",
        ),
        (
            "TRAIN: {BATCH_SIZE: 2.0}",
            "run.yaml:1: TRAIN.BATCH_SIZE: expected a whole number of at least 1, got 2.0",
        ),
        (
            'TRAIN: {BATCH_SIZE: "2"}',
            'run.yaml:1: TRAIN.BATCH_SIZE: expected a whole number of at least 1, got "2"',
        ),
        (
            "TRAIN: {OPTIM: {LR: -1}}",
            "run.yaml:1: TRAIN.OPTIM.LR: expected a number above 0 and of at most 1, got -1",
        ),
        (
            "TRAIN: {OPTIM: {LR: .inf}}",
            "run.yaml:1: TRAIN.OPTIM.LR: expected a number above 0 and of at most 1, got Infinity",
        ),
        ("TRAIN: {AMP_DTYPE: f16}", 'run.yaml:1: TRAIN.AMP_DTYPE: expected one of bf16, fp16, got "f16"'),
        ("LOG: {TENSORBOARD: 1}", "run.yaml:1: LOG.TENSORBOARD: expected true or false, got 1"),
        ("LOG: {SAVE_DIR: ''}", 'run.yaml:1: LOG.SAVE_DIR: expected a path, got ""'),
        ("LOG: {SAVE_DIR: 3}", "run.yaml:1: LOG.SAVE_DIR: expected a path, got 3"),
        (
            "DATA: {CROP_SIZE: 100}",
            "run.yaml:1: DATA.CROP_SIZE: expected a whole number of at least 16, divisible by 8",
        ),
        (
            "MODEL: {WINDOW_SIZE: [8, 8]}",
            "run.yaml:1: MODEL.WINDOW_SIZE: expected a whole number of at least 1 or a",
        ),
        (
            "TRAIN: {OPTIM: {BETAS: [0.9, 1]}}",
            "run.yaml:1: TRAIN.OPTIM.BETAS: expected a list of 2 values, each a",
        ),
        (
            "DATALOADER: {TOTAL_WORKERS: cpu*1.5}",
            "run.yaml:1: DATALOADER.TOTAL_WORKERS: expected a whole number of",
        ),
        (
            "DATALOADER: {TOTAL_WORKERS: cpu*0.0}",
            "run.yaml:1: DATALOADER.TOTAL_WORKERS: expected a whole number of",
        ),
        (
            "LOSS: {VGG_PERCEPTUAL: {LAYERS: [x]}}",
            "run.yaml:1: LOSS.VGG_PERCEPTUAL.LAYERS: expected a list of",
        ),
        ("SEED: null", "run.yaml:1: SEED: expected a whole number from 0 to 4,294,967,295, got null"),
    ],
)
def test_a_wrong_value_is_told_with_its_line_what_was_expected_and_what_came(text, problem):
    (only,) = problems(text)
    assert only.startswith(problem)


def test_a_contradiction_stands_where_it_was_written_last():
    (only,) = problems("TRAIN:\n  SCHED: {WARMUP_STEPS: 20}\n", "TRAIN.MAX_STEPS=10")
    assert only.startswith("TRAIN.SCHED.WARMUP_STEPS: the warm-up of 20 steps is longer")
    assert only.endswith("[TRAIN.SCHED.WARMUP_STEPS: run.yaml:2, --set TRAIN.MAX_STEPS]")
    (other,) = problems("TRAIN: {MAX_STEPS: 10}\n", "TRAIN.SCHED.WARMUP_STEPS=20")
    assert other.startswith("--set TRAIN.SCHED.WARMUP_STEPS: the warm-up of 20 steps is longer")
    assert other.endswith("[TRAIN.MAX_STEPS: run.yaml:1]")


def test_a_contradiction_with_a_default_stands_at_the_line_that_makes_it():
    (only,) = problems("SEED: 1\nTRAIN: {MAX_STEPS: 10}\n")
    assert only.startswith("run.yaml:2: TRAIN.SCHED.WARMUP_STEPS: the warm-up of 256 steps is longer")
    assert only.endswith("[TRAIN.SCHED.WARMUP_STEPS: default, TRAIN.MAX_STEPS: run.yaml:2]")


def test_all_kinds_of_problems_are_told_at_once_in_order(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        "LOG: {TENSORBOARD: true}\nTRAIN:\n  BATCH_SIZE: true\n  EPOCH: 3\n  USE_AMP: true\n"
        "  AMP_ENABLED: true\n"
        "LOG: {TIMING_FILE: 3}\nMODEL: {VRT_DEPTHS: [1]}\n",
        encoding="utf-8",
    )
    with pytest.raises(ConfigError) as caught:
        load_config("fst", path, ["SEED", "DATA.CLIPLEN=3", "TEST.NUM_WORKERS=-1"], warn=lambda _: None)
    told = [problem.replace(str(path), "run.yaml") for problem in caught.value.problems]
    starts = [
        "--preset fst: no such preset; did you mean fast?",
        "run.yaml:3: TRAIN.BATCH_SIZE: expected",
        "run.yaml:4: TRAIN.EPOCH: unknown key; did you mean TRAIN.EPOCHS?",
        "run.yaml:5: TRAIN.USE_AMP: sets the same as TRAIN.AMP_ENABLED (run.yaml:6)",
        "run.yaml:7: LOG is given a second time, first on line 1",
        "run.yaml:7: LOG.TIMING_FILE: expected true or false, got 3",
        "run.yaml:8: MODEL.VRT_DEPTHS: expected 8, 11 or 13 values",
        "--set: expected KEY=VALUE such as TRAIN.BATCH_SIZE=2, got 'SEED'",
        "--set DATA.CLIPLEN: unknown key; did you mean DATA.CLIP_LEN or DATA.TRAIN_CLIP_LEN?",
        "--set TEST.NUM_WORKERS: expected a whole number of at least 0, got -1",
    ]
    assert len(told) == len(starts), told
    assert all(problem.startswith(start) for problem, start in zip(told, starts, strict=True)), told


def test_a_wrong_value_hides_no_contradiction_and_makes_none():
    told = problems("TRAIN: {MAX_STEPS: 5, SCHED: {WARMUP_STEPS: many}}\nMODEL: {LAYERS: 3}\n")
    assert len(told) == 2
    assert "WARMUP_STEPS: expected a whole number" in told[0]
    assert "each of the 3 LAYERS" in told[1]


def test_only_a_malformed_override_is_a_fault_of_usage():
    with pytest.raises(UsageError, match="expected KEY=VALUE"):
        load("SEED: 1", "SEED")
    with pytest.raises(ConfigError, match="unknown key"):
        load("SEED: 1", "SEEED=3")
    with pytest.raises(ConfigError, match="(?s)run.yaml:1: SEED.*KEY=VALUE"):
        load("SEED: x", "SEED")


def test_layers_lie_over_each_other_key_by_key(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("TRAIN:\n  EPOCHS: 7\n  OPTIM:\n    LR: 2e-3\n", encoding="utf-8")
    loaded = load_with_origins("fast", path, ["TRAIN.OPTIM.LR=3e-3"], warn=lambda _: None)
    train = loaded.config.train
    assert (train.batch_size, train.epochs, train.optim.lr, train.optim.base_batch_size) == (2, 7, 3e-3, 8)
    assert str(loaded.origins["TRAIN.EPOCHS"]) == f"{path}:2"
    assert str(loaded.origins["TRAIN.OPTIM.LR"]) == "--set"
    assert str(loaded.origins["TRAIN.BATCH_SIZE"]).startswith("preset fast:")
    assert "TRAIN.OPTIM.BASE_BATCH_SIZE" not in loaded.origins


def test_nothing_given_are_the_defaults():
    assert load_config(warn=lambda _: None) == Config()


def test_what_a_run_writes_can_be_loaded_again(tmp_path):
    import yaml

    config = load_config("quickstart", warn=lambda _: None)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(as_values(config)), encoding="utf-8")
    assert load_config(path=tmp_path / "config.yaml", warn=lambda _: None) == config


def test_warnings_reach_the_caller(tmp_path):
    (tmp_path / "old.yaml").write_text("use_amp: true\n", encoding="utf-8")
    told = []
    assert load_config(path=tmp_path / "old.yaml", warn=told.append).train.amp_enabled
    assert told == [f"{tmp_path / 'old.yaml'}:1: use_amp is an older name; write TRAIN.AMP_ENABLED"]


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(ConfigError, match="none.yaml: no such file"):
        load_config(path=Path(tmp_path / "none.yaml"), warn=lambda _: None)


YAML_LIKE = st.lists(
    st.sampled_from(
        [
            *"{}[]:,&*!|>'\"%@`#?-\n \t",
            ": ",
            "\n  ",
            "- ",
            "<<: ",
            "*a",
            "&a ",
            "TRAIN",
            "LOG",
            "BATCH_SIZE",
            "K",
        ]
        + [
            "!!int ",
            "!!python/name:os.system ",
            "1",
            "2e-4",
            ".nan",
            "~",
            "true",
            "\x00",
            "\ud800",
            "深",
            "\\U",
        ]
    )
).map("".join)


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.text(), YAML_LIKE), st.lists(YAML_LIKE, max_size=2))
def test_no_text_raises_anything_but_our_errors(text, overrides):
    try:
        values = flat_values(load(text, *overrides).config)
    except DeblurkitError as error:
        str(error).encode("utf-8")
    else:
        assert values.keys() == flat_values(Config()).keys()


@settings(max_examples=50, deadline=None)
@given(st.binary())
def test_no_bytes_raise_anything_but_our_errors(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("bytes") / "run.yaml"
    path.write_bytes(content)
    try:
        load_config(path=path, warn=lambda _: None)
    except DeblurkitError as error:
        assert str(path) in str(error)
