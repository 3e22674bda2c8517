"""How far two images look apart to a frozen ImageNet network: distances of VGG features, and LPIPS."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes as disable_modes

from deblurkit.errors import CheckpointError, DeblurkitError
from deblurkit.models.pretrained import read_weights

LpipsNet = Literal["alex", "vgg"]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Classifier:
    """A network of torchvision that was trained on ImageNet.

    Attributes:
        name: of the function that builds it.
        weights: the member of torchvision's enum that stands for the weights.
        least_side: rows and columns below which nothing is left for its last layer.
    """

    name: str
    weights: str
    least_side: int

    @property
    def file_name(self) -> str:
        """Name under which torchvision keeps the weights."""
        from torchvision.models import get_weight

        return str(get_weight(self.weights).url).rpartition("/")[2]


VGG19 = Classifier("vgg19", "VGG19_Weights.IMAGENET1K_V1", least_side=16)
LPIPS_NETS: dict[LpipsNet, Classifier] = {
    "alex": Classifier("alexnet", "AlexNet_Weights.IMAGENET1K_V1", least_side=31),
    "vgg": Classifier("vgg16", "VGG16_Weights.IMAGENET1K_V1", least_side=16),
}
LPIPS_LAYERS: dict[LpipsNet, tuple[str, ...]] = {
    "alex": ("relu1_1", "relu2_1", "relu3_1", "relu3_2", "relu3_3"),
    "vgg": ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3"),
}


class Backbone(nn.Module):
    """The first layers of a classifier, frozen; gives what some of them put out.

    Args:
        layers: run one after the other, in float32; on a GPU in TF32 where PyTorch's convolutions do.
        taps: indices of the layers whose output is wanted, each once.
        mean: of an image's channels, in the range that the images come in.
        std: as mean.
        least_side: rows and columns that the layers need.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        layers: nn.Sequential,
        *,
        taps: Sequence[int],
        mean: Sequence[float],
        std: Sequence[float],
        least_side: int,
    ) -> None:
        super().__init__()
        self.layers = layers.eval().requires_grad_(False)
        self.least_side = least_side
        self._taps = tuple(taps)
        device = next(layers.parameters()).device
        for name, values in (("mean", mean), ("std", std)):
            column = torch.tensor(values, dtype=torch.float32, device=device)[:, None, None]
            self.register_buffer(name, column)

    @property
    def widths(self) -> list[int]:
        """Channels of the output of each tap."""
        found = [0]
        for layer in self.layers:
            found.append(layer.out_channels if isinstance(layer, nn.Conv2d) else found[-1])
        return [found[tap + 1] for tap in self._taps]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the output of each tap, in the order of the taps: (N, 3, H, W) -> (N, C, h, w) of each.

        Raises:
            DeblurkitError: if the images are too small for the layers.
        """
        if min(images.shape[-2:]) < self.least_side:
            raise DeblurkitError(
                f"perceptual distance: expected images of at least {self.least_side} x {self.least_side} px"
                f" for this network, got {' x '.join(map(str, images.shape[-2:]))};"
                " take larger images, or another network"
            )
        x = (images.float() - self.mean) / self.std
        found = {}
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index in self._taps:
                found[index] = x
        return [found[index] for index in self._taps]


class VggDistance(nn.Module):
    """The mean absolute difference of VGG features, summed over layers.

    The feature reconstruction loss of Johnson et al. (ECCV 2016, eq. 2) with the absolute difference in place
    of its square: squared activations reach hundreds, and one bright edge would outweigh a clip.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, restored: Tensor, sharp: Tensor) -> Tensor:
        """Return the distance of each pair: 2 x (N, 3, H, W) in [0, 1] -> (N,); no gradient goes to sharp."""
        with torch.no_grad():
            wanted = self.backbone(sharp)
        pairs = zip(self.backbone(restored), wanted, strict=True)
        return torch.stack([(a - b).abs().mean(dim=(1, 2, 3)) for a, b in pairs]).sum(dim=0)


class LpipsDistance(nn.Module):
    """LPIPS 0.1 with calibrated heads: Zhang et al., CVPR 2018, eq. 1; 0 for equal images.

    The numbers of package ``lpips``, whose heads it takes. Its own class is not used: it fills a whole
    classifier with random numbers first (vgg: a second, half a GiB) and asks torchvision in a way that warns.

    Args:
        backbone: gives the features of each head.
        heads: for each layer, what the channels count: (C,).
    """

    def __init__(self, backbone: Backbone, heads: Sequence[Tensor]) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ParameterList(
            [nn.Parameter(head[:, None, None], requires_grad=False) for head in heads]
        )

    def forward(self, restored: Tensor, sharp: Tensor) -> Tensor:
        """Return the distance of each pair: 2 x (N, 3, H, W) in [0, 1] -> (N,); no gradient goes to sharp."""
        with torch.no_grad():
            wanted = self.backbone(sharp)
        triples = zip(self.heads, self.backbone(restored), wanted, strict=True)
        return torch.stack([_headed_distance(head, a, b) for head, a, b in triples]).sum(dim=0)


def _headed_distance(head: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return the squared difference of unit features, weighted and averaged over the plane: (N,)."""
    difference = nn.functional.normalize(a, dim=1, eps=1e-10) - nn.functional.normalize(b, dim=1, eps=1e-10)
    return (difference.square() * head).sum(dim=1).mean(dim=(1, 2))


def load_vgg(
    layers: Sequence[str],
    weights: Path | None,
    device: torch.device,
    *,
    option: str = "--set LOSS.VGG_PERCEPTUAL.WEIGHTS=PATH",
) -> VggDistance:
    """Return the distance of VGG-19 features at ``layers``, named ``relu3_3`` for the third of block 3.

    Args:
        layers: at least one.
        weights: a file of torchvision's VGG-19; None for the one in torch's cache.
        device: where it is computed.
        option: of the command line by which a user gives ``weights``; named in errors.

    Raises:
        CheckpointError: if the file is missing or holds other weights. Nothing is ever downloaded.
    """
    return VggDistance(
        _load_backbone(
            VGG19, layers, mean=IMAGENET_MEAN, std=IMAGENET_STD, weights=weights, device=device, option=option
        )
    )


def load_lpips(
    net: LpipsNet,
    weights: Path | None,
    device: torch.device,
    *,
    option: str = "--set LOSS.LPIPS.WEIGHTS=PATH",
) -> LpipsDistance:
    """Return LPIPS on AlexNet (``alex``) or VGG-16 (``vgg``).

    Args:
        net: which one.
        weights: a file of torchvision's AlexNet or VGG-16; None for the one in torch's cache.
        device: where it is computed.
        option: of the command line by which a user gives ``weights``; named in errors.

    Raises:
        CheckpointError: if the file is missing or holds other weights. Nothing is ever downloaded.
        DeblurkitError: if package lpips, which the heads come with, is not installed.
    """
    heads = [head.to(device) for head in _read_heads(net)]
    backbone = _load_backbone(
        LPIPS_NETS[net],
        LPIPS_LAYERS[net],
        # The package scales [-1, 1] by these; here images are in [0, 1].
        mean=[(1 + shift) / 2 for shift in (-0.030, -0.088, -0.188)],
        std=[scale / 2 for scale in (0.458, 0.448, 0.450)],
        weights=weights,
        device=device,
        option=option,
    )
    return LpipsDistance(backbone, heads)


def untrained_vgg(layers: Sequence[str], device: torch.device) -> VggDistance:
    """Return `load_vgg`'s network without its weights: what it takes in memory needs no file."""
    return VggDistance(
        _untrained_backbone(VGG19, layers, mean=IMAGENET_MEAN, std=IMAGENET_STD, device=device)
    )


def untrained_lpips(net: LpipsNet, device: torch.device) -> LpipsDistance:
    """Return `load_lpips`'s network without its weights: what it takes in memory needs no file."""
    backbone = _untrained_backbone(
        LPIPS_NETS[net], LPIPS_LAYERS[net], mean=IMAGENET_MEAN, std=IMAGENET_STD, device=device
    )
    return LpipsDistance(backbone, [torch.empty(width, device=device) for width in backbone.widths])


def _read_heads(net: LpipsNet) -> list[Tensor]:
    """Return the calibrated weights that come with package lpips: (C,) for each of five layers."""
    package = importlib.util.find_spec("lpips")
    if package is None or not package.submodule_search_locations:
        raise DeblurkitError("LPIPS needs the package lpips, which is not installed: pip install lpips")
    saved = read_weights(Path(package.submodule_search_locations[0]) / "weights" / "v0.1" / f"{net}.pth")
    return [saved[f"lin{number}.model.1.weight"].flatten() for number in range(len(LPIPS_LAYERS[net]))]


def _load_backbone(
    classifier: Classifier,
    names: Sequence[str],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    weights: Path | None,
    device: torch.device,
    option: str,
) -> Backbone:
    """Return the layers of a classifier up to the deepest of ``names``, with the weights of a file."""
    layers, taps, known = _bare_layers(classifier, names)
    path = _weights_file(classifier, weights, option=option)
    _fill(layers, path, classifier, known=known, device=device)
    return Backbone(layers, taps=taps, mean=mean, std=std, least_side=classifier.least_side)


def _untrained_backbone(
    classifier: Classifier,
    names: Sequence[str],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device,
) -> Backbone:
    """Return the layers of a classifier up to the deepest of ``names``, with any weights."""
    with disable_modes():  # a mode that is on may know no tensors without a device
        layers, taps, _ = _bare_layers(classifier, names)
    layers.to_empty(device=device)
    return Backbone(layers, taps=taps, mean=mean, std=std, least_side=classifier.least_side)


def _bare_layers(
    classifier: Classifier, names: Sequence[str]
) -> tuple[nn.Sequential, list[int], Collection[str]]:
    """Return a classifier's layers on the device meta, which of them are ``names``, and all its weights'."""
    from torchvision.models import get_model  # 1 s, which runs without such a loss need not wait

    with torch.device("meta"):  # no memory and no random numbers for what the file replaces
        features = get_model(classifier.name, weights=None).features
    indices = relu_indices(features)
    unknown = [name for name in names if name not in indices]
    if unknown:
        raise DeblurkitError(
            f"{classifier.name} has no layer {unknown[0]}; its layers are {', '.join(indices)}"
        )
    taps = [indices[name] for name in dict.fromkeys(names)]
    return features[: max(taps) + 1], taps, features.state_dict().keys()


def relu_indices(features: nn.Sequential) -> dict[str, int]:
    """Return the index of each ReLU by name: ``relu3_2`` is the second one after the second pooling."""
    found, block, number = {}, 1, 0
    for index, layer in enumerate(features):
        if isinstance(layer, nn.MaxPool2d):
            block, number = block + 1, 0
        elif isinstance(layer, nn.ReLU):
            number += 1
            found[f"relu{block}_{number}"] = index
    return found


def _weights_file(classifier: Classifier, given: Path | None, *, option: str) -> Path:
    """Return the file to read: the given one, or that of torch's cache.

    Raises:
        CheckpointError: if it is not there, with all that is needed to bring it there.
    """
    kept = Path(torch.hub.get_dir()) / "checkpoints" / classifier.file_name
    path = kept if given is None else given
    if path.is_file():
        return path
    key = option.removeprefix("--set ").partition("=PATH")[0].removesuffix(" PATH")
    raise CheckpointError(
        f"{key}: no file {path}; expected torchvision's {classifier.weights}, and a run downloads nothing:"
        ' where there is a network run `python -c "from torchvision.models import get_weight;'
        f" get_weight('{classifier.weights}').get_state_dict()\"`, then put its {classifier.file_name} into"
        f" {kept.parent}, or name it by {option}"
    )


def _fill(
    layers: nn.Sequential,
    path: Path,
    classifier: Classifier,
    *,
    known: Collection[str],
    device: torch.device,
) -> None:
    """Give layers on the device meta a classifier's weights.

    The file may lack those of later layers. Where it has some that the classifier has not (``known``), it is
    of another one: the first layers of VGG-16 have the names and sizes of VGG-19's.
    """
    saved, own = read_weights(path), layers.state_dict()
    foreign = [
        name for name in saved if name.startswith("features.") and name[len("features.") :] not in known
    ]
    if foreign:
        raise CheckpointError(
            f"{path}: expected torchvision's {classifier.weights}, which has no {foreign[0]}; fetch"
            f" {classifier.file_name}"
        )
    for name, tensor in own.items():
        held = saved.get(f"features.{name}")
        if held is None or held.shape != tensor.shape:
            raise CheckpointError(
                f"{path}: expected torchvision's {classifier.weights}, with features.{name} of"
                f" {tuple(tensor.shape)}, got {'none' if held is None else tuple(held.shape)};"
                f" fetch {classifier.file_name}"
            )
    taken = {
        name: saved[f"features.{name}"].to(device, torch.float32, copy=True)  # the file may be mapped
        for name in own
    }
    layers.load_state_dict(taken, assign=True)
