"""TRAIN and LOSS: how the network is trained; every key with its default, unit, range and reason."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from deblurkit.config.sections.values import (
    Count,
    CountOrZero,
    Decay,
    FilePath,
    Flag,
    NotNegative,
    Positive,
    Section,
)

VggLayer = Annotated[str, Field(strict=True, pattern=r"^relu([12]_[12]|[345]_[1-4])$", examples=["relu3_3"])]


class OptimSection(Section):
    """TRAIN.OPTIM: the optimiser."""

    type: Literal["adamw", "adamw8bit"] = Field(
        "adamw", description="adamw8bit keeps its states in 8 bits: a quarter of the memory, a slower step."
    )
    lr: Annotated[Positive, Field(le=1)] = Field(2e-4, description="Peak learning rate.")
    betas: tuple[Decay, Decay] = Field((0.9, 0.99), description="Decay of Adam's two moments.")
    weight_decay: NotNegative = Field(1e-4, description="Decoupled weight decay; norms and biases have none.")
    flow_lr_factor: Annotated[Positive, Field(le=1)] = Field(
        0.125, description="Rate of optical flow and alignment (SpyNet, deformable), as a share of LR."
    )
    spike_lr_factor: Positive = Field(1.0, description="Rate of VRT's spike branch, as a share of LR.")
    lr_scaling: Literal["none", "linear"] = Field(
        "none", description="linear multiplies LR by effective batch / BASE_BATCH_SIZE."
    )
    base_batch_size: Count = Field(8, description="Effective batch [clips] at which LR holds as written.")


class SchedSection(Section):
    """TRAIN.SCHED: the learning rate over the run."""

    type: Literal["cosine", "constant"] = Field("cosine", description="Course after the warm-up.")
    warmup_steps: CountOrZero = Field(256, description="Steps in which the rate rises from 0 to LR.")
    min_lr: NotNegative = Field(1e-7, description="Rate at the end of a cosine.")


_EVERY_N_STEPS = "Steps from one that has this term to the next; its weight is not raised for that."


class DistillSection(Section):
    """TRAIN.DISTILL: learning from what a trained network makes of the same clips."""

    teacher: FilePath | None = Field(
        None, description="Checkpoint, or a run's folder, of the network to learn from; null: none."
    )
    weight: NotNegative = Field(1.0, description="Weight of the distance to the teacher in the loss.")
    every_n_steps: Count = Field(1, description=_EVERY_N_STEPS)


class TrainSection(Section):
    """TRAIN: length of the run, batch, precision."""

    epochs: Count = Field(40, description="Passes over the training split.")
    max_steps: Count | None = Field(None, description="Ends the run before EPOCHS do [optimiser steps].")
    batch_size: Count = Field(1, description="Clips of a micro-step on each GPU.")
    val_batch_size: Count = Field(1, description="Clips of a validation batch; whole frames.")
    gradient_accumulation_steps: Count = Field(
        6, description="Micro-steps per optimiser step: effective batch = BATCH_SIZE x this x GPUs."
    )
    max_grad_norm: NotNegative = Field(1.0, description="Total norm that gradients are clipped to; 0: never.")
    compile_model: Flag = Field(False, description="torch.compile: a slow start for faster steps.")
    compile_mode: Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"] = Field(
        "default", description="Mode of torch.compile."
    )
    amp_enabled: Flag = Field(False, description="Mixed precision; off until the user has compared accuracy.")
    amp_dtype: Literal["bf16", "fp16"] = Field(
        "bf16", description="bf16 has the range of float32 and needs no loss scaling."
    )
    amp_opt_level: Literal["O0", "O1", "O2"] = Field(
        "O1", description="O0 is float32; O1 and O2 both mean autocast."
    )
    nonfinite_guard: Flag = Field(
        True, description="Skip steps whose gradients are NaN or infinite, and say whose they are."
    )
    max_skipped_steps: CountOrZero = Field(
        10, description="Skipped steps in a row that do not end the run; 0: the first one does."
    )
    ema_decay: Decay = Field(
        0.0, description="Decay of a running mean of the weights, which is validated instead; 0: none."
    )
    auto_halve_batch: Flag = Field(
        False,
        description="Out of memory: halve BATCH_SIZE, double GRADIENT_ACCUMULATION_STEPS, and go on.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: the GPU where there is one.")
    parallel: Literal["ddp", "fsdp"] = Field(
        "ddp",
        description="Each rank has a copy of all (ddp) or, for large networks, a part of it (fsdp).",
    )
    rank_timeout_minutes: Positive = Field(
        30.0, description="How long a rank waits for the others before the run ends [min]."
    )
    optim: OptimSection = Field(default_factory=OptimSection, description="Optimiser.")
    sched: SchedSection = Field(default_factory=SchedSection, description="Learning-rate schedule.")
    distill: DistillSection = Field(default_factory=DistillSection, description="Knowledge distillation.")


class CharbonnierSection(Section):
    """LOSS.CHARBONNIER: sqrt(error^2 + DELTA^2)."""

    delta: Positive = Field(1e-3, description="Error [of 0..1] below which the loss turns from L1 to L2.")
    weight: NotNegative = Field(1.0, description="Weight in the sum of losses.")
    every_n_steps: Count = Field(1, description=_EVERY_N_STEPS)


class VggPerceptualSection(Section):
    """LOSS.VGG_PERCEPTUAL: distance between VGG-19 features."""

    layers: tuple[VggLayer, ...] = Field(("relu3_3",), min_length=1, description="VGG layers compared.")
    weight: NotNegative = Field(
        0.0, description="Weight in the sum of losses; 0, as it needs VGG weights and its own memory."
    )
    every_n_steps: Count = Field(1, description=_EVERY_N_STEPS)
    weights: FilePath | None = Field(
        None, description="torchvision's VGG-19 weights; null: in torch's cache. Never downloaded by a run."
    )


class LpipsSection(Section):
    """LOSS.LPIPS: learned perceptual distance between images."""

    weight: NotNegative = Field(
        0.0, description="Weight in the sum of losses; 0, as it needs weights and its own memory."
    )
    net: Literal["alex", "vgg"] = Field(
        "alex",
        description="Network; alex is the lightest, and usual as a metric; vgg is VGG-16.",
    )
    every_n_steps: Count = Field(1, description=_EVERY_N_STEPS)
    weights: FilePath | None = Field(
        None,
        description="torchvision's AlexNet or VGG-16 weights; null: in torch's cache. Never downloaded.",
    )


class LossSection(Section):
    """LOSS: a weighted sum."""

    charbonnier: CharbonnierSection = Field(default_factory=CharbonnierSection, description="Pixel loss.")
    vgg_perceptual: VggPerceptualSection = Field(
        default_factory=VggPerceptualSection, description="Perceptual loss."
    )
    lpips: LpipsSection = Field(default_factory=LpipsSection, description="Learned perceptual loss.")
