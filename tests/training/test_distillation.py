import contextlib
import math

import pytest
import torch
from torch import nn

from deblurkit.config.schema import as_values
from deblurkit.config.sections.data import DataSection
from deblurkit.config.sections.train import DistillSection
from deblurkit.errors import CheckpointError
from deblurkit.models.registry import build_model
from deblurkit.training.checkpoint import checkpoint_path, save_checkpoint
from deblurkit.training.distillation import Distillation, distillation_terms
from deblurkit.training.losses import Inputs
from deblurkit.training.precision import Precision

CPU = torch.device("cpu")


class Dimmer(nn.Module):
    """A teacher that multiplies by its weight, notes what it is called with, and drops out when training."""

    num_voxel_bins = 0

    def __init__(self, factor=0.5):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))
        self.dropout = nn.Dropout(0.9)
        self.calls = []

    def forward(self, blurry, spikes):
        self.calls.append((spikes, torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")))
        return self.dropout(blurry * self.factor)


def inputs(*, bins=4, side=16):
    generator = torch.Generator().manual_seed(0)
    frames = torch.rand(1, 3, 3, side, side, generator=generator)
    voxels = torch.rand(1, 3, bins, side // 2, side // 2, generator=generator) if bins else None
    return Inputs(blurry=frames, voxels=voxels, sharp=frames * 0)


def test_the_loss_is_charbonnier_s_distance_to_the_teacher_s_clip():
    teacher, given = Dimmer().train(), inputs()
    loss = Distillation(teacher, delta=0.3, autocast=contextlib.nullcontext)
    restored = given.blurry * 0.5 + 0.4  # 0.4 from what the teacher makes: sqrt(0.4^2 + 0.3^2) = 0.5
    assert loss(restored, given).item() == pytest.approx(0.5, rel=1e-5)
    assert teacher.calls == [(None, False, False)]


def test_the_teacher_takes_the_spikes_if_it_was_trained_with_them():
    teacher, given = Dimmer(), inputs()
    teacher.num_voxel_bins = 4
    Distillation(teacher, delta=0.1, autocast=contextlib.nullcontext)(given.blurry, given)
    assert teacher.calls[0][0] is given.voxels


def test_only_the_restored_clip_gets_gradients():
    teacher, given = Dimmer(), inputs()
    restored = (given.blurry + 0.2).requires_grad_()
    Distillation(teacher, delta=1e-3, autocast=contextlib.nullcontext)(restored, given).backward()
    assert teacher.factor.grad is None and not teacher.factor.requires_grad
    difference = restored.detach() - given.blurry * 0.5
    expected = difference / (difference.square() + 1e-6).sqrt() / difference.numel()
    torch.testing.assert_close(restored.grad, expected)


def test_the_teacher_runs_in_the_autocast_of_the_run_and_the_loss_in_float32():
    teacher, given = Dimmer(), inputs()
    loss = Distillation(teacher, delta=1e-3, autocast=Precision(CPU, torch.bfloat16).autocast)
    assert loss(given.blurry, given).dtype == torch.float32
    assert teacher.calls == [(None, False, True)]


@pytest.fixture
def checkpoint(tiny_config, tmp_path):
    """Return a function that writes a checkpoint of an untrained network; it returns path and network."""

    def write(*overrides):
        config = tiny_config(*overrides)
        torch.manual_seed(5)
        model = build_model(config.model, num_voxel_bins=config.data.num_voxel_bins)
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.1)  # or the network would give back what it was given
        path = checkpoint_path(tmp_path / "teacher" / "checkpoints", 3)
        save_checkpoint(
            path,
            step=3,
            config=as_values(config),
            model=model,
            optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
            precision=Precision(CPU, None),
            extra={},
        )
        return path, model

    return write


def terms_of(teacher, *, bins=4, weight=1.0, every=1, **data):
    student = nn.Identity()
    student.num_voxel_bins = bins
    section = DistillSection.model_validate(
        {"TEACHER": str(teacher), "WEIGHT": weight, "EVERY_N_STEPS": every}
    )
    return distillation_terms(
        section,
        data=DataSection.model_validate({"CLIP_LEN": 3, "CROP_SIZE": 64, **data}),
        student=student,
        delta=1e-3,
        precision=Precision(CPU, None),
        warn=pytest.fail,
    )


@pytest.mark.parametrize("of_folder", [False, True])
def test_the_teacher_is_the_network_of_a_checkpoint_or_of_a_run_s_newest(checkpoint, of_folder):
    path, network = checkpoint()
    (term,) = terms_of(path.parents[1] if of_folder else path, weight=0.7)
    assert (term.name, term.weight, term.every_n_steps) == ("distillation", 0.7, 1)
    given = inputs(bins=4, side=32)
    with torch.no_grad():
        target = network.eval()(given.blurry, given.voxels)
    difference = (given.sharp - target).double()
    expected = (difference.square() + 1e-6).sqrt().mean().item()
    assert expected > 1e-2
    assert term.loss(given.sharp, given).item() == pytest.approx(expected, rel=1e-5)


def test_a_teacher_may_be_asked_in_every_few_steps(checkpoint):
    (term,) = terms_of(checkpoint()[0], every=4)
    assert term.every_n_steps == 4


def test_a_teacher_without_spikes_teaches_a_network_with_any(checkpoint):
    path, _ = checkpoint("MODEL.USE_SPIKE=false")
    (term,) = terms_of(path, bins=8)
    given = inputs(bins=8, side=32)
    assert math.isfinite(term.loss(given.blurry, given).item())


@pytest.mark.parametrize(
    ("bins", "what"),
    [
        (8, r"the run gives 8 \(DATA.NUM_VOXEL_BINS\); set DATA.NUM_VOXEL_BINS=4"),
        (0, r"the run gives none \(MODEL.USE_SPIKE\); train with spikes and DATA.NUM_VOXEL_BINS=4"),
    ],
)
def test_a_teacher_that_needs_other_spikes_is_refused(checkpoint, bins, what):
    path, _ = checkpoint()
    with pytest.raises(CheckpointError, match=f"TEACHER: {path}: this teacher takes 4 voxel bins and {what}"):
        terms_of(path, bins=bins)


SMALL_VRT = [
    "MODEL.ARCH=vrt",
    "MODEL.USE_SPIKE=false",
    "MODEL.VRT_DEPTHS=[1,1,1,1,1,1,1,1]",
    "MODEL.VRT.EMBED_DIMS=[8,8]",
    "MODEL.VRT.NUM_HEADS=2",
    "MODEL.VRT.DEFORMABLE_GROUPS=2",
    "DATA.CROP_SIZE=64",
]


@pytest.mark.parametrize(
    ("clips", "got"),
    [
        ({"CROP_SIZE": 128, "TRAIN_CROP_SIZE": 48}, "3 frames.*48 px"),
        ({"CLIP_LEN": 1}, "1 frame .*64 px"),
        ({"CLIP_LEN": 3, "TRAIN_CLIP_LEN": 1}, "1 frame .*64 px"),
    ],
)
def test_a_teacher_that_needs_larger_clips_is_refused(checkpoint, clips, got):
    path, _ = checkpoint(*SMALL_VRT)  # its windows of 8 are 64 px wide at the coarsest scale
    with pytest.raises(CheckpointError, match=f"needs clips of 2 frames and 64 px at least, got {got}"):
        terms_of(path, **clips)
    assert terms_of(path)


def test_without_a_teacher_or_a_weight_there_is_no_term(tmp_path):
    options = {"student": nn.Identity(), "delta": 1e-3, "precision": Precision(CPU, None)}
    assert distillation_terms(DistillSection(), data=DataSection(), **options, warn=pytest.fail) == []
    assert terms_of(tmp_path / "none.pt", weight=0.0) == []


def test_a_missing_teacher_is_told_by_its_key(tmp_path):
    with pytest.raises(CheckpointError, match="TRAIN.DISTILL.TEACHER: .*none.pt: expected a checkpoint"):
        terms_of(tmp_path / "none.pt")


def test_a_teacher_leaves_what_a_run_draws_as_it_was(checkpoint):
    path, _ = checkpoint()
    before = torch.get_rng_state()
    terms_of(path)
    assert torch.equal(torch.get_rng_state(), before)
