import os
import pickle
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from deblurkit.errors import CheckpointError
from deblurkit.models.blocks import ResidualBlock
from deblurkit.models.pretrained import load_pretrained
from deblurkit.models.unet import ClipUNet
from deblurkit.models.vrt.network import VRT
from deblurkit.training.checkpoint import save_checkpoint
from deblurkit.training.precision import Precision

SIZES = {
    "window_size": (2, 4, 4),
    "depths": [1] * 9,
    "embed_dims": [8] * 9,
    "num_heads": [2] * 9,
    "deformable_groups": 2,
    "indep_reconsts": [8],
}
COMPUTED = ("relative_position_index", "position_bias", "spynet.mean", "spynet.std")


class WithSpikes(VRT):
    """A network with a branch that no published file holds."""

    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.fusion = nn.Linear(3, 2)


class Code:
    """Stands in a pickle as a call; loading it would leave a folder behind."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


def network(seed=0, kind=VRT, **sizes):
    torch.manual_seed(seed)
    return kind(**{**SIZES, **sizes})


@pytest.fixture(scope="module")
def published():
    """The state dict of a trained network: of another seed, and no weight is zero."""
    return {
        key: value if key.endswith(COMPUTED) else value + 0.01
        for key, value in network(1).state_dict().items()
    }


def assert_equal(state, expected):
    assert state.keys() == expected.keys()
    assert [key for key in state if not torch.equal(state[key], expected[key])] == []


def refusal(path, model=None):
    """Return why a file is refused, in one line; the model is as it was."""
    model = model or network()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_pretrained(model, path)
    assert_equal(model.state_dict(), before)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message.removeprefix(f"{path}: ")


def saved(state, folder, name="weights.pth"):
    torch.save(state, folder / name)
    return folder / name


FORMS = {
    "bare": lambda state, folder: saved(state, folder),
    "older kind of file": lambda state, folder: (
        torch.save(state, folder / "w.pt", _use_new_zipfile_serialization=False),
        folder / "w.pt",
    )[1],
    "params": lambda state, folder: saved({"params": state}, folder),
    "params_ema": lambda state, folder: saved(
        {"params": {key: value * 0 for key, value in state.items()}, "params_ema": state, "iter": 3}, folder
    ),
    "state_dict": lambda state, folder: saved({"state_dict": state, "epoch": 7}, folder),
    "module.": lambda state, folder: saved({f"module.{key}": value for key, value in state.items()}, folder),
    "safetensors": lambda state, folder: (
        save_file(state, folder / "w.safetensors"),
        folder / "w.safetensors",
    )[1],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_file_loads_exactly(published, tmp_path, form):
    model, path = network(), FORMS[form](published, tmp_path)
    report = load_pretrained(model, path)
    assert_equal(model.state_dict(), published)
    assert report.as_line() == f"{path}: {len(published)} tensors loaded"


def test_a_checkpoint_of_ours_is_a_file_of_weights_too(published, tmp_path):
    model, path = network(), tmp_path / "step_00000001.pt"
    model.load_state_dict(published)
    save_checkpoint(
        path,
        step=1,
        config={},
        model=model,
        optimizer=torch.optim.AdamW(model.parameters()),
        precision=Precision(torch.device("cpu"), None),
        extra={},
    )
    assert load_pretrained(fresh := network(), path).missing == ()
    assert_equal(fresh.state_dict(), published)


def test_weights_take_the_type_of_the_network_and_the_file_may_go(published, tmp_path):
    model, path = network().double(), saved({key: v.half() for key, v in published.items()}, tmp_path)
    load_pretrained(model, path)
    path.write_bytes(b"")
    assert all(value.dtype in (torch.float64, torch.int64) for value in model.state_dict().values())
    assert torch.equal(model.conv_first.weight, published["conv_first.weight"].half().double())


def test_what_is_computed_from_the_sizes_may_be_missing(published, tmp_path):
    state = {key: value for key, value in published.items() if not key.endswith(COMPUTED)}
    model = network()
    assert load_pretrained(model, saved(state, tmp_path)).loaded == len(state)
    assert_equal(model.state_dict(), published)


def test_the_spike_branch_keeps_its_values_and_the_user_is_told(published, tmp_path):
    model, path = network(kind=WithSpikes), saved(published, tmp_path)
    before = model.fusion.weight.clone()
    report = load_pretrained(model, path)
    assert report.missing == ("fusion.weight", "fusion.bias")
    assert report.as_line() == (
        f"{path}: {len(published)} tensors loaded; 2 of the spike branch are not in the file and keep their"
        " initial values (fusion.weight, fusion.bias)"
    )
    assert torch.equal(model.fusion.weight, before)
    assert torch.equal(model.conv_first.weight, published["conv_first.weight"])


def test_a_spike_branch_that_is_in_the_file_is_loaded(tmp_path):
    trained = network(1, kind=WithSpikes)
    report = load_pretrained(model := network(kind=WithSpikes), saved(trained.state_dict(), tmp_path))
    assert report.missing == ()
    assert_equal(model.state_dict(), trained.state_dict())


def test_a_file_that_is_not_there_or_of_another_kind(tmp_path):
    assert refusal(tmp_path / "none.pth") == (
        "expected a file of weights (.pth, .pt or .safetensors), found none"
    )
    (tmp_path / "weights.zip").touch()
    assert refusal(tmp_path / "weights.zip") == "expected a .pth, .pt or .safetensors, got .zip"


@pytest.mark.parametrize("form", ["bare", "older kind of file", "safetensors"])
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_truncated_file(published, tmp_path, form, kept):
    path = FORMS[form](published, tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    reason = refusal(path)
    assert reason.startswith("damaged") and reason.endswith("; fetch it again") and len(reason) < 160
    if form == "bare" and kept:
        assert reason == "damaged: its end is missing; fetch it again"


def test_a_byte_that_flipped(published, tmp_path):
    path = saved(published, tmp_path)
    with zipfile.ZipFile(path) as archive:
        data = max(archive.infolist(), key=lambda entry: entry.file_size)
    content = bytearray(path.read_bytes())
    content[data.header_offset + data.file_size // 2] ^= 0xFF
    path.write_bytes(content)
    assert "does not match its checksum" in refusal(path) or "Bad CRC" in refusal(path)


def test_a_web_page_under_the_name_of_weights(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_text("<html>404</html>")
    assert refusal(path) == "expected a file of weights, got a web page; fetch the file itself"


def test_safetensors_under_another_name(published, tmp_path):
    path = tmp_path / "weights.pth"
    save_file(published, path)
    assert refusal(path) == "a .safetensors under another name; rename it to weights.safetensors"


def test_code_in_a_file_is_never_run(published, tmp_path):
    path = saved({**published, "x": Code(tmp_path / "trace")}, tmp_path)
    assert refusal(path).startswith(
        "expected tensors alone, found posix.mkdir, and code from a file is never"
    )
    path.write_bytes(pickle.dumps({"x": Code(tmp_path / "trace")}))
    refusal(path)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("content", [{}, [1], {"params": {"epoch": 3}}, torch.ones(3)])
def test_a_file_without_named_tensors(tmp_path, content):
    assert refusal(saved(content, tmp_path)).startswith(
        "expected tensors by name, alone or under one of params_ema, params, state_dict, model, found none"
    )


def test_tensors_under_another_name_than_ours(published, tmp_path):
    message = refusal(saved({"net_g": published, "iter": 3}, tmp_path))
    assert message.endswith("state_dict, model, found none; its keys are net_g, iter")


@pytest.mark.parametrize(
    ("sizes", "key"),
    [
        ({"window_size": (2, 8, 8)}, "MODEL.WINDOW_SIZE=[2,8,8]"),
        ({"window_size": (2, 2, 8)}, "MODEL.WINDOW_SIZE=[2,2,8]"),  # as many tokens
        ({"depths": [4] + [1] * 8}, "MODEL.VRT_DEPTHS=[4,1,1,1,1,1,1,1,1]"),
        ({"depths": [1] * 7 + [1, 3]}, "MODEL.VRT_DEPTHS=[1,1,1,1,1,1,1,1,3]"),
        ({"embed_dims": [16] * 7 + [8] * 2}, "MODEL.VRT.EMBED_DIMS=[16,8]"),
        ({"embed_dims": [8] * 7 + [16] * 2}, "MODEL.VRT.EMBED_DIMS=[8,16]"),
        ({"num_heads": [4] * 9}, "MODEL.VRT.NUM_HEADS=4"),
        ({"pa_frames": 4}, "MODEL.VRT.PA_FRAMES=4"),
        ({"deformable_groups": 4}, "MODEL.VRT.DEFORMABLE_GROUPS=4"),
        ({"indep_reconsts": []}, "MODEL.VRT.INDEP_RECONSTS=[]"),
        (
            {"depths": [1] * 11, "embed_dims": [8] * 11, "num_heads": [2] * 11},
            "MODEL.VRT_DEPTHS=[1,1,1,1,1,1,1,1,1,1,1]",
        ),
    ],
)
def test_another_network_is_refused_with_the_key_to_change(tmp_path, sizes, key):
    message = refusal(saved(network(**sizes).state_dict(), tmp_path))
    assert message.endswith(f"; set {key} as in the file")
    other_way_round = refusal(saved(network().state_dict(), tmp_path), network(**sizes))
    assert f"; set {key.partition('=')[0]}" in other_way_round and other_way_round.count("MODEL.") == 1


def test_all_keys_that_differ_are_named_with_the_values_of_the_file(tmp_path):
    wider = {"embed_dims": [16] * 9, "num_heads": [4] * 9, "window_size": (6, 4, 4), "pa_frames": 4}
    assert refusal(saved(network(**wider).state_dict(), tmp_path)).endswith(
        "; set MODEL.VRT.EMBED_DIMS=[16,16] and MODEL.WINDOW_SIZE=[6,4,4] and MODEL.VRT.NUM_HEADS=4"
        " and MODEL.VRT.PA_FRAMES=4 as in the file"
    )


def test_a_window_that_the_tables_alone_do_not_tell_is_named_without_its_sides(tmp_path):
    state = network(window_size=(2, 8, 8)).state_dict()
    state = {key: value for key, value in state.items() if not key.endswith(COMPUTED)}
    assert refusal(saved(state, tmp_path)).endswith("; set MODEL.WINDOW_SIZE as in the file")


def test_a_file_that_lacks_a_tensor_is_incomplete_and_no_other_network(published, tmp_path):
    state = {key: value for key, value in published.items() if key != "stage3.linear1.bias"}
    assert refusal(saved(state, tmp_path)) == (
        "incomplete: 1 tensor of the network in the MODEL section is missing from it (stage3.linear1.bias);"
        " fetch it again"
    )


def test_sizes_are_named_three_times_and_then_counted(published, tmp_path):
    """The file's size stands first; stages 1 to 7 have a table each, and so has every group of stage 8."""
    state = {
        key: torch.ones(5, 4) if key.endswith("bias_table") else value for key, value in published.items()
    }
    message = refusal(saved(state, tmp_path))
    assert "got 9 of other sizes (" in message and " and 6 more)" in message
    assert "attn.relative_position_bias_table (5, 4) for (147, 2)" in message


def test_a_window_of_as_many_tokens_with_other_sides_is_another_network(tmp_path):
    """(2, 4, 8) and (2, 8, 4) agree in every size."""
    path = saved(network(window_size=(2, 4, 8)).state_dict(), tmp_path)
    message = refusal(path, network(window_size=(2, 8, 4)))
    assert "got one with other sides; set MODEL.WINDOW_SIZE=[2,4,8] as in the file" in message


def test_unknown_and_missing_names_are_told(published, tmp_path):
    state = {key.replace("conv_first", "conv_zero"): value for key, value in published.items()}
    message = refusal(saved(state, tmp_path))
    assert "2 unknown to the network (conv_zero.weight, conv_zero.bias)" in message
    assert "2 missing from the file (conv_first.weight, conv_first.bias)" in message
    assert message.endswith("set MODEL.ARCH as in the file")


def test_a_file_with_spikes_does_not_fit_a_network_without(tmp_path):
    message = refusal(saved(network(kind=WithSpikes).state_dict(), tmp_path))
    assert (
        "2 unknown to the network (fusion.weight, fusion.bias); set MODEL.USE_SPIKE=true as in the file"
        in message
    )


def test_published_weights_do_not_fit_a_light_network(published, tmp_path):
    light = ClipUNet(block=ResidualBlock, base_channels=4, num_blocks=1, num_voxel_bins=0)
    assert refusal(saved(published, tmp_path), light).endswith("set MODEL.ARCH=vrt as in the file")
    wider = ClipUNet(block=ResidualBlock, base_channels=8, num_blocks=1, num_voxel_bins=0)
    message = refusal(saved(wider.state_dict(), tmp_path), light)
    assert message.endswith("set MODEL.BASE_CHANNELS=8 as in the file")


def test_a_tensor_that_holds_no_numbers_is_named(published, tmp_path):
    state = {**published, "conv_last.bias": torch.empty(3, device="meta")}
    assert refusal(saved(state, tmp_path)).startswith("expected conv_last.bias as a dense tensor, got")


def test_a_network_without_memory_is_refused(published, tmp_path):
    path = saved(published, tmp_path)
    with torch.device("meta"):
        model = network()
    with pytest.raises(ValueError, match="on meta holds no weights"):
        load_pretrained(model, path)


def test_a_text_under_the_name_of_weights(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_text("hallo\n")
    assert "damaged, or no file of weights (KeyError)" in refusal(path)
