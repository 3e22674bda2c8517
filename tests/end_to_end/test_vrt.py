"""`deblurkit train --preset low_memory` with VRT and spikes at its smallest, from the command line."""

import json
import re

import pytest
import yaml

SMALL = [
    "DATA.CROP_SIZE=40",
    "DATA.CLIP_LEN=2",
    "DATA.NUM_VOXEL_BINS=3",
    "DATALOADER.TRAIN_WORKERS=0",
    "DATALOADER.VAL_WORKERS=0",
    "MODEL.WINDOW_SIZE=[2,4,4]",
    "MODEL.VRT_DEPTHS=[2,2,2,2,2,2,2,1]",
    "MODEL.CHANNELS_PER_SCALE=[8,8,8,8]",
    "MODEL.VRT.EMBED_DIMS=[8,8]",
    "MODEL.VRT.NUM_HEADS=2",
    "MODEL.VRT.DEFORMABLE_GROUPS=4",
    "TRAIN.GRADIENT_ACCUMULATION_STEPS=1",
    "TRAIN.OPTIM.LR=0.001",
    "TRAIN.SCHED.WARMUP_STEPS=0",
    "LOG.TIMING_CONSOLE_INTERVAL=1",
]


def run(deblurkit, *arguments, steps, **more):
    settings = [item for key in (*SMALL, f"TRAIN.MAX_STEPS={steps}") for item in ("--set", key)]
    return deblurkit("train", "--preset", "low_memory", *arguments, *settings, **more)


@pytest.fixture
def deblurkit():
    from typer.testing import CliRunner

    from deblurkit.cli.app import app

    def call(*arguments):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == 0, result.output
        return result.output

    return call


def test_vrt_trains_resumes_and_restores_with_the_low_memory_preset(deblurkit, dataset_root, tmp_path):
    data = ["--set", f"DATA.ROOT={dataset_root}", "--output", tmp_path / "run"]
    run(deblurkit, *data, steps=2)
    run(deblurkit, *data, "--resume", "auto", steps=3)
    (log, *_) = sorted((tmp_path / "run" / "logs").glob("train_*.log"))
    assert re.findall(r"step (\d)/2", log.read_text(encoding="utf-8")) == ["1", "2"]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))
    assert summary["steps"] == 3
    written = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text(encoding="utf-8"))
    assert written["MODEL"]["VRT"]["EMBED_DIMS"] == [8, 8]
    scores = json.loads(deblurkit("evaluate", tmp_path / "run", "--ablate-spikes", "--json"))
    assert scores  # restored and with the spikes zeroed, by the same network read back


@pytest.mark.slow
def test_twenty_steps_lower_the_loss(deblurkit, dataset_root, tmp_path):
    """The mean of the last five losses against that of the first five."""
    run(deblurkit, "--set", f"DATA.ROOT={dataset_root}", "--output", tmp_path / "run", steps=20)
    (log,) = (tmp_path / "run" / "logs").glob("train_*.log")
    losses = [float(value) for value in re.findall(r"loss=([0-9.]+)", log.read_text(encoding="utf-8"))]
    assert len(losses) == 20
    assert sum(losses[-5:]) < sum(losses[:5])
