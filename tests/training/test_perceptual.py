"""Weights are drawn at random: no test may need the network, and a distance is right or wrong with any."""

import re
import warnings

import lpips
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torchvision.models import get_model

from deblurkit.errors import CheckpointError, DeblurkitError
from deblurkit.training import perceptual
from deblurkit.training.perceptual import LPIPS_NETS, VGG19, load_lpips, load_vgg, relu_indices

CPU = torch.device("cpu")
MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]  # torchvision's documentation of its weights
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


def drawn_weights(name, *, layers, seed=0):
    """Return random weights of the first layers of a classifier, under the names of its own file."""
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        features = get_model(name, weights=None).features[:layers]
    return {
        f"features.{key}": torch.randn(tensor.shape, generator=generator)
        * (2 / tensor[0].numel() if tensor.dim() > 1 else 0.01) ** 0.5
        for key, tensor in features.state_dict().items()
    }


def pair(*, side=32, count=2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, side, side, generator=generator), torch.rand(
        count, 3, side, side, generator=generator
    )


@pytest.fixture
def vgg_file(tmp_path):
    path = tmp_path / "vgg19.pth"
    torch.save(drawn_weights("vgg19", layers=9), path)  # up to relu2_2
    return path


def test_vgg_is_a_plain_loop_over_the_layers(vgg_file):
    weights = torch.load(vgg_file, weights_only=True)

    def conv(x, number):
        return F.relu(
            F.conv2d(x, weights[f"features.{number}.weight"], weights[f"features.{number}.bias"], padding=1)
        )

    def features(x):  # Simonyan and Zisserman, 2015, table 1, column E: two convolutions, pooling, two more
        early = conv((x - MEAN) / STD, 0)
        late = conv(conv(F.max_pool2d(conv(early, 2), 2), 5), 7)
        return early, late

    restored, sharp = pair()
    restored.requires_grad_()
    pairs = list(zip(features(restored), features(sharp), strict=True))
    expected = sum((a - b).abs().mean(dim=(1, 2, 3)) for a, b in pairs)
    (gradient,) = torch.autograd.grad(expected.sum(), restored)
    for layers in (["relu1_1", "relu2_2"], ["relu2_2", "relu1_1"], ["relu2_2", "relu1_1", "relu1_1"]):
        distance = load_vgg(layers, vgg_file, CPU)(restored, sharp)
        torch.testing.assert_close(distance, expected)
        torch.testing.assert_close(torch.autograd.grad(distance.sum(), restored)[0], gradient)


def test_relus_are_named_by_block_and_number():
    with torch.device("meta"):
        names = relu_indices(get_model("vgg19", weights=None).features)
    blocks = {1: 2, 2: 2, 3: 4, 4: 4, 5: 4}  # table 1, column E
    assert list(names) == [f"relu{block}_{i}" for block, count in blocks.items() for i in range(1, count + 1)]
    assert names["relu3_3"] == 15 and names["relu5_4"] == 35


def test_only_the_layers_asked_for_are_read_and_built(vgg_file):
    built = load_vgg(["relu1_2"], vgg_file, CPU).backbone.layers
    assert list(built.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    with pytest.raises(CheckpointError, match=r"with features.10.weight of \(256, 128, 3, 3\), got none"):
        load_vgg(["relu3_1"], vgg_file, CPU)


def test_the_network_learns_nothing_and_the_restored_frames_do(vgg_file):
    distance = load_vgg(["relu2_2"], vgg_file, CPU)
    restored, sharp = (images.requires_grad_() for images in pair(count=1))
    distance(restored, sharp).sum().backward()
    assert all(not parameter.requires_grad for parameter in distance.parameters())
    assert sharp.grad is None
    assert restored.grad.abs().max() > 0


@pytest.fixture(scope="module")
def lpips_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lpips")
    for net, layers in (("alex", 12), ("vgg", 30)):
        name = LPIPS_NETS[net].name
        save_file(drawn_weights(name, layers=layers), folder / f"{name}.safetensors")
    return {net: folder / f"{classifier.name}.safetensors" for net, classifier in LPIPS_NETS.items()}


def of_the_package(net, path):
    """Return the package's own module on the backbone of a file: its layers are numbered as torchvision's."""
    saved = load_file(path)
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")  # it asks torchvision in a way of long ago
        module = lpips.LPIPS(net=net, pretrained=False, pnet_rand=True, verbose=False)
    backbone = {
        key: saved[f"features.{key.split('.', 2)[2]}"] for key in module.state_dict() if "slice" in key
    }
    heads = f"{lpips.__path__[0]}/weights/v0.1/{net}.pth"
    heads = torch.load(heads, map_location="cpu", weights_only=True)
    module.load_state_dict({**backbone, **heads}, strict=False, assign=True)
    assert not any(tensor.is_meta for tensor in module.state_dict().values())
    return module.eval()


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_lpips_is_the_package_s(net, lpips_files):
    restored, sharp = pair(side=40)
    restored.requires_grad_()
    own = load_lpips(net, lpips_files[net], CPU)(restored, sharp)
    theirs = of_the_package(net, lpips_files[net])(restored * 2 - 1, sharp * 2 - 1).flatten()
    assert theirs.min() > 1e-3  # or the comparison would say nothing
    torch.testing.assert_close(own, theirs, rtol=1e-5, atol=1e-7)
    for_own, for_theirs = (torch.autograd.grad(value.sum(), restored)[0] for value in (own, theirs))
    torch.testing.assert_close(for_own, for_theirs, rtol=1e-4, atol=1e-7)


def test_equal_images_are_at_no_distance_and_pull_nowhere(lpips_files):
    images, _ = pair(side=32)
    restored = images.clone().requires_grad_()
    distance = load_lpips("alex", lpips_files["alex"], CPU)(restored, images)
    assert distance.tolist() == [0.0, 0.0]
    distance.sum().backward()
    assert restored.grad.abs().max() == 0


def test_lpips_needs_images_that_alexnet_can_pool(lpips_files):
    distance = load_lpips("alex", lpips_files["alex"], CPU)
    assert distance(*pair(side=31)).isfinite().all()
    with pytest.raises(DeblurkitError, match="at least 31 x 31 px for this network, got 24 x 24") as error:
        distance(*pair(side=24))
    assert "DATA." not in str(error.value)  # it may be that nothing is trained


def test_vgg_takes_the_smallest_crop_that_a_run_may_have(lpips_files):
    assert load_lpips("vgg", lpips_files["vgg"], CPU)(*pair(side=16)).isfinite().all()


def test_weights_come_from_torch_s_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    with pytest.raises(CheckpointError) as error:
        load_vgg(["relu1_1"], None, CPU)
    text = str(error.value)
    assert text.startswith(f"LOSS.VGG_PERCEPTUAL.WEIGHTS: no file {folder}/vgg19-dcbb9e9d.pth; expected")
    assert "VGG19_Weights.IMAGENET1K_V1" in text and f"put its vgg19-dcbb9e9d.pth into {folder}," in text
    assert text.endswith("or name it by --set LOSS.VGG_PERCEPTUAL.WEIGHTS=PATH") and "\n" not in text
    folder.mkdir(parents=True)
    torch.save(drawn_weights("vgg19", layers=2), folder / "vgg19-dcbb9e9d.pth")
    assert load_vgg(["relu1_1"], None, CPU)(*pair()).shape == (2,)


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_the_command_in_the_message_is_one_that_torchvision_understands(net, tmp_path):
    missing = tmp_path / "none.pth"
    with pytest.raises(CheckpointError, match=f"^X.WEIGHTS: no file {missing};") as error:
        load_lpips(net, missing, CPU, option="--set X.WEIGHTS=PATH")
    assert str(error.value).endswith("or name it by --set X.WEIGHTS=PATH")
    code = re.search(r'python -c "(.+)"', str(error.value))[1]
    assert code.endswith(".get_state_dict()")
    scope = {}
    exec(code.removesuffix(".get_state_dict()").replace("; ", "; weights = "), scope)
    assert scope["weights"].url.endswith(LPIPS_NETS[net].file_name)


def test_an_option_of_another_command_is_named_as_it_is_given(tmp_path):
    missing = tmp_path / "none.pth"
    with pytest.raises(CheckpointError, match=f"^--lpips-weights: no file {missing};") as error:
        load_lpips("alex", missing, CPU, option="--lpips-weights PATH")
    assert str(error.value).endswith("or name it by --lpips-weights PATH")


def test_vgg_16_is_no_vgg_19_though_its_first_layers_are_alike(tmp_path):
    """Up to relu3_3 both have the same names and sizes; only VGG-16 has a convolution at 17."""
    path = tmp_path / "vgg16.pth"
    torch.save(drawn_weights("vgg16", layers=30), path)
    wanted = (
        r"vgg16.pth: expected torchvision's VGG19_Weights.*, which has no features.17.weight; fetch vgg19-"
    )
    with pytest.raises(CheckpointError, match=wanted):
        load_vgg(["relu3_3"], path, CPU)
    torch.save(drawn_weights("vgg19", layers=37), path)
    assert load_vgg(["relu3_3"], path, CPU)
    with pytest.raises(CheckpointError, match="VGG16_Weights"):
        load_lpips("vgg", path, CPU)


def test_a_classifier_s_last_layers_are_no_matter(tmp_path):
    path = tmp_path / "vgg19.pth"
    weights = {**drawn_weights("vgg19", layers=2), "classifier.0.weight": torch.ones(2, 2)}
    torch.save(weights, path)
    assert load_vgg(["relu1_1"], path, CPU)


def test_weights_of_another_network_are_refused(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(drawn_weights("alexnet", layers=2), path)
    wanted = (
        r"expected torchvision's VGG19_.*, with features.0.weight of \(64, 3, 3, 3\), got \(64, 3, 11, 11\)"
    )
    with pytest.raises(CheckpointError, match=wanted):
        load_vgg(["relu1_1"], path, CPU)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_layers_are_float32_and_the_file_is_let_go(dtype, tmp_path):
    path = tmp_path / "weights.pth"
    weights = {key: tensor.to(dtype) for key, tensor in drawn_weights("vgg19", layers=2).items()}
    torch.save(weights, path)
    kept = load_vgg(["relu1_1"], path, CPU).backbone.layers[0].weight
    path.write_bytes(bytes(path.stat().st_size))  # what were still mapped would be zeros now
    assert torch.equal(kept, weights["features.0.weight"].float())


def test_an_unknown_layer_is_told_with_the_known_ones(vgg_file):
    with pytest.raises(DeblurkitError, match="vgg19 has no layer relu1_3; its layers are relu1_1, relu1_2"):
        load_vgg(["relu1_3"], vgg_file, CPU)


def test_nothing_random_is_drawn(vgg_file, lpips_files):
    before = torch.get_rng_state()
    load_vgg(["relu1_1"], vgg_file, CPU)
    load_lpips("alex", lpips_files["alex"], CPU)
    assert torch.equal(torch.get_rng_state(), before)


def test_lpips_without_its_package_says_what_to_install(monkeypatch, lpips_files):
    monkeypatch.setattr(perceptual.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DeblurkitError, match="needs the package lpips.*: pip install lpips"):
        load_lpips("alex", lpips_files["alex"], CPU)


def test_the_file_names_are_torchvision_s():
    assert VGG19.file_name == "vgg19-dcbb9e9d.pth"  # as its documentation and hub caches have them
    assert [LPIPS_NETS[net].file_name for net in ("alex", "vgg")] == [
        "alexnet-owt-7be5be79.pth",
        "vgg16-397923af.pth",
    ]
