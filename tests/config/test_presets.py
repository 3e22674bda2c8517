import itertools
import re

import pytest

from deblurkit.config import presets
from deblurkit.config.load import load_config
from deblurkit.config.presets import find_presets, preset_path, preset_summary
from deblurkit.errors import ConfigError

NAMES = [
    "aggressive",
    "baseline",
    "conservative",
    "fast",
    "low_memory",
    "quickstart",
    "quickstart_vrt",
    "shared_server",
]


def fail(warning):
    raise AssertionError(warning)


def load(name):
    return load_config(name, warn=fail)


def test_the_presets_are_there():
    assert list(find_presets()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_is_valid_and_opens_with_its_command_and_hardware(name):
    config = load(name)
    assert config.model.arch == ("baseline" if name == "quickstart" else "vrt")
    command, hardware, *_ = preset_summary(preset_path(name))
    assert command == f"deblurkit train --preset {name}"
    assert hardware


def test_presets_are_what_the_seed_says():
    fast, low = load("fast"), load("low_memory")  # seed 003, sec. 0
    assert not fast.model.vrt.use_checkpoint_attn and not fast.model.vrt.use_checkpoint_ffn
    assert fast.train.optim.type == "adamw"
    assert low.model.vrt.use_checkpoint_attn and low.train.optim.type == "adamw8bit"
    schemes = {
        name: load(name) for name in ("conservative", "aggressive", "shared_server")
    }  # seed 002, A B C
    assert {name: list(config.model.vrt_depths) for name, config in schemes.items()} == {
        "conservative": [8, 7, 8, 8, 4, 4, 4, 6],
        "aggressive": [8, 6, 6, 8, 4, 4, 4, 4],
        "shared_server": [8, 7, 8, 8, 4, 4, 4, 6],
    }
    assert [config.model.window_size for config in schemes.values()] == [7, 6, 7]
    assert [config.model.fuse.chunk_size for config in schemes.values()] == [80, 96, 64]
    assert [config.data.cache_size_gb for config in schemes.values()] == [50.0, 50.0, 20.0]
    assert schemes["aggressive"].data.train_crop == 128
    assert schemes["shared_server"].dataloader.total_workers == 8


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_ends_with_what_it_needs_of_memory(name):
    """A block that benchmarks/preset_tables.py writes; making it again would take minutes."""
    text = preset_path(name).read_text(encoding="utf-8")
    begin, *lines, end = text[text.index("# measured by: benchmarks/preset_tables.py, ") :].splitlines()
    assert re.search(r", 20\d\d-\d\d-\d\d, deblurkit \d+\.\d+.*, torch \d+\.\d+", begin)
    needs = [*itertools.takewhile(lambda line: not line.startswith("# made by: "), lines)]
    assert end == "# end of what was measured" and all(line.startswith("# |") for line in needs)
    clips, peak, unit = re.search(r"training step, clips ([\d x]+) \| ([\d.]+) (.iB) \|", text).groups()
    data, train = load(name).data, load(name).train
    side = max(side for _, side in data.crops_by_epoch)
    assert clips == f"{train.batch_size} x {data.clip_len} x {side} x {side}"
    frames = train.batch_size * data.clip_len * 2 * 3 * side * side * 4  # float32, blurry and sharp
    assert frames < float(peak) * {"MiB": 2**20, "GiB": 2**30}[unit] < 200 * 2**30


@pytest.mark.parametrize("name", ["quickstart", "quickstart_vrt"])
def test_a_preset_for_a_cpu_has_the_steps_to_what_is_recommended(name):
    """What `recommend-config` has written: samples/s times the seconds of a step are its clips."""
    text = preset_path(name).read_text(encoding="utf-8")
    _, _, made = text.partition(f"# made by: deblurkit recommend-config --preset {name}\n")
    rows = [[cell.strip() for cell in line.strip("# |").split(" | ")] for line in made.splitlines()[3:-1]]
    assert rows[0][0] == "start"
    train = load(name).train
    for _, _, step, rate, interval, *_ in rows:
        seconds = float(step.split(" ")[0].replace(",", "")) / 1000
        clips = train.batch_size * train.gradient_accumulation_steps
        assert float(rate) * seconds == pytest.approx(clips, rel=0.01)
        low, high = map(float, interval.split(" to "))
        assert low < float(rate) < high


def test_an_unknown_preset_is_told_with_the_nearest_and_all():
    with pytest.raises(
        ConfigError, match="--preset lowmemory: no such preset; did you mean low_memory.* there are: a"
    ):
        preset_path("lowmemory")
    with pytest.raises(ConfigError, match=r"\(a file is given with --config\).*aggressive, baseline"):
        preset_path("my/run.yaml")


def test_an_installed_package_has_its_own_presets(tmp_path, monkeypatch):
    module = tmp_path / "deblurkit" / "config" / "presets.py"
    (tmp_path / "deblurkit" / "configs").mkdir(parents=True)
    (tmp_path / "deblurkit" / "configs" / "only.yaml").write_text("SEED: 1\n")
    monkeypatch.setattr(presets, "__file__", str(module))
    assert list(find_presets()) == ["only"]
    (tmp_path / "deblurkit" / "configs" / "only.yaml").unlink()
    assert find_presets() == {}
