"""The sections of the configuration: every key with its default, unit, range and reason beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

# Strict scalars: YAML says what type a value has, and a boolean or a quoted number is a slip, not a number.
Flag = Annotated[bool, Field(strict=True)]
Count = Annotated[int, Field(strict=True, ge=1)]
CountOrZero = Annotated[int, Field(strict=True, ge=0)]
Pixels = Annotated[int, Field(strict=True, ge=16, multiple_of=8)]
Positive = Annotated[float, Field(strict=True, gt=0)]
NotNegative = Annotated[float, Field(strict=True, ge=0)]
Decay = Annotated[float, Field(strict=True, ge=0, lt=1)]
Text = Annotated[str, Field(strict=True, min_length=1)]
VggLayer = Annotated[str, Field(strict=True, pattern=r"^relu([12]_[12]|[345]_[1-4])$", examples=["relu3_3"])]
CpuShare = Annotated[
    str,
    Field(strict=True, pattern=r"^cpu\*(0?\.[0-9]*[1-9][0-9]*|1(\.0*)?)$", examples=["cpu*0.9"]),
]


def _path(value: Any) -> Any:
    """Return the path with ``~`` resolved; YAML is not read by a shell that would do it."""
    if not isinstance(value, str):
        return value
    if not value or "\0" in value:
        raise ValueError("a path is never empty")
    try:
        return Path(value).expanduser()
    except RuntimeError as error:  # ~name of a user whom this machine does not know
        raise ValueError(str(error)) from error


FilePath = Annotated[Path, BeforeValidator(_path)]


class Section(BaseModel):
    """A part of the configuration: attributes in snake_case, YAML keys in upper case, nothing unknown."""

    model_config = ConfigDict(alias_generator=str.upper, extra="forbid", frozen=True, allow_inf_nan=False)


Share = Annotated[float, Field(strict=True, ge=0, lt=1)]


class SensorNoiseSection(Section):
    """DATA.SENSOR_NOISE: spikes as another sensor might have given them; nothing is changed by default."""

    gain: tuple[Positive, Positive] = Field(
        (1.0, 1.0), description="Smallest and largest factor on the charge of light."
    )
    threshold: tuple[Positive, Positive] = Field(
        (1.0, 1.0), description="Smallest and largest factor on the charge at which a pixel fires."
    )
    false_spikes: Share = Field(0.0, description="Largest share of spike frames with a spike of no light.")
    dropout: Share = Field(0.0, description="Largest share of spikes that are lost.")
    shift: CountOrZero = Field(0, description="Most spike frames by which the recording is early or late.")


class DataSection(Section):
    """DATA: which recordings, and how samples are cut from them."""

    root: FilePath = Field(
        Path("data/processed/gopro_spike_unified"),
        description="Prepared dataset; a relative path counts from the working directory.",
    )
    train_split: Literal["train", "test"] = Field("train", description="Split that is trained on.")
    val_split: Literal["train", "test"] = Field(
        "test", description="Split that is validated on; GoPro has no third one."
    )
    crop_size: Pixels = Field(
        256, description="Side of the square crop [px]; a multiple of 8, the coarsest scale of the networks."
    )
    train_crop_size: Pixels | Annotated[tuple[Pixels, ...], Field(min_length=1)] | None = Field(
        None,
        description="Training crop [px] where smaller than CROP_SIZE; several for progressive training.",
    )
    train_crop_epochs: CountOrZero = Field(
        0, description="Epochs that each of TRAIN_CROP_SIZE lasts, before CROP_SIZE; 0: to the end."
    )
    clip_len: Count = Field(5, description="Frames of a clip.")
    train_clip_len: Count | Annotated[tuple[Count, ...], Field(min_length=1)] | None = Field(
        None,
        description="Frames of a training clip where fewer than CLIP_LEN; several for progressive training.",
    )
    train_clip_epochs: CountOrZero = Field(
        0, description="Epochs that each of TRAIN_CLIP_LEN lasts, before CLIP_LEN; 0: to the end."
    )
    num_voxel_bins: Count = Field(32, description="Time bins into which the spikes of a frame are counted.")
    k: Count | None = Field(
        None, description="Older name of NUM_VOXEL_BINS; where both are given they agree."
    )
    use_precomputed_voxels: Flag = Field(
        False,
        description="Read voxels from disk. Off: 32 float32 bins per pixel are far larger than the spikes.",
    )
    use_ram_cache: Flag = Field(
        False, description="Cache decoded samples. Off: on a shared server memory is given, not taken."
    )
    cache_size_gb: Positive = Field(4.0, description="Upper bound of the cache [GiB] where it is on.")
    voxels_on: Literal["auto", "worker", "device"] = Field(
        "auto",
        description="Where spike bits become voxels; auto is the GPU where there is one. The same numbers.",
    )
    sensor_noise: SensorNoiseSection = Field(
        default_factory=SensorNoiseSection, description="How training changes the spikes at random."
    )
    auto_synthetic: Flag = Field(
        False, description="Draw the built-in synthetic dataset at ROOT where nothing is there."
    )

    @property
    def train_crops(self) -> tuple[int, ...]:
        """Sides of the training crops [px] before CROP_SIZE takes over: TRAIN_CROP_SIZE as a list."""
        return _as_list(self.train_crop_size)

    @property
    def train_clips(self) -> tuple[int, ...]:
        """Frames of the training clips before CLIP_LEN takes over: TRAIN_CLIP_LEN as a list."""
        return _as_list(self.train_clip_len)

    @property
    def crops_by_epoch(self) -> tuple[tuple[int, int], ...]:
        """The training crops [px], each with the epoch from which it holds."""
        return _by_epoch(self.train_crops, self.crop_size, epochs=self.train_crop_epochs)

    @property
    def clips_by_epoch(self) -> tuple[tuple[int, int], ...]:
        """The frames of a training clip, each with the epoch from which it holds."""
        return _by_epoch(self.train_clips, self.clip_len, epochs=self.train_clip_epochs)

    @property
    def train_crop(self) -> int:
        """Side of the smallest training crop [px]."""
        return min(size for _, size in self.crops_by_epoch)

    @property
    def train_clip(self) -> int:
        """Frames of the shortest training clip."""
        return min(length for _, length in self.clips_by_epoch)

    @model_validator(mode="before")
    @classmethod
    def _take_k(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("K") is not None and "NUM_VOXEL_BINS" not in values:
            return {**values, "NUM_VOXEL_BINS": values["K"]}
        return values


def _as_list(sizes: int | tuple[int, ...] | None) -> tuple[int, ...]:
    return (sizes,) if isinstance(sizes, int) else sizes or ()


def _by_epoch(early: tuple[int, ...], last: int, *, epochs: int) -> tuple[tuple[int, int], ...]:
    """Return (first epoch, size) of each of ``early``, which last ``epochs`` each, and of ``last``."""
    if early and not epochs:
        return ((0, early[0]),)
    return tuple((epochs * number, size) for number, size in enumerate((*early, last)))


StageFlags = Flag | Annotated[tuple[Flag, ...], Field(min_length=8, max_length=8)]


class VrtSection(Section):
    """MODEL.VRT: sizes of the VRT backbone, and what it recomputes in the backward pass."""

    use_checkpoint_attn: StageFlags = Field(
        True, description="Recompute attention instead of keeping it; one flag, or one for each of 8 stages."
    )
    use_checkpoint_ffn: StageFlags = Field(
        True, description="Recompute the feed-forward layers as well; one flag, or one for each of 8 stages."
    )
    embed_dims: tuple[Count, Count] = Field(
        (96, 120), description="Channels of stages 1 to 7, and of stage 8; the published weights have these."
    )
    num_heads: Count = Field(6, description="Attention heads; a divisor of both EMBED_DIMS.")
    pa_frames: Literal[2, 4, 6] = Field(
        2, description="Frames aligned with each frame, both sides together; 2 in the deblurring weights."
    )
    deformable_groups: Count = Field(16, description="Groups of the deformable alignment.")
    indep_reconsts: tuple[CountOrZero, ...] | None = Field(
        None,
        description="Indices into VRT_DEPTHS of the groups of stage 8 that look at single frames;"
        " null: the last two where there are four or more, as published.",
    )
    drop_path_rate: Annotated[float, Field(strict=True, ge=0, lt=1)] = Field(
        0.2, description="Probability at which training skips the last block's branches; it rises from 0."
    )


class AttentionSection(Section):
    """Attention over time at every scale, taken in chunks so that its memory has a bound."""

    heads: Count = Field(4, description="Attention heads; divides every entry of CHANNELS_PER_SCALE.")
    adaptive_chunk: Flag = Field(True, description="Let the chunk grow until MAX_BATCH_TOKENS are in it.")
    max_batch_tokens: Count = Field(
        49152, description="Tokens attended to in one go: more is faster and needs more memory."
    )
    chunk_size: Count = Field(64, description="Side of a chunk [feature pixels].")
    chunk_shape: Literal["square", "row"] = Field("square", description="How the plane is cut into chunks.")


class SpikeTsaSection(AttentionSection):
    """MODEL.SPIKE_TSA: self-attention over time among the spike features."""


class FuseSection(AttentionSection):
    """MODEL.FUSE: how spike features enter the frame features."""

    type: Literal["TemporalCrossAttn"] = Field("TemporalCrossAttn", description="Kind of fusion.")


class ModelSection(Section):
    """MODEL: the network."""

    arch: Literal["baseline", "convnext", "vrt"] = Field(
        "vrt", description="Network; baseline is the lightest, vrt the published transformer with spikes."
    )
    base_channels: Count = Field(64, description="Channels at the finest level of baseline and convnext.")
    num_blocks: Count = Field(4, description="Blocks per level of baseline and convnext.")
    use_spike: Flag = Field(True, description="Feed the spikes; off trains on frames alone, to compare.")
    vrt_cfg: Text | None = Field(
        None, description="Accepted and not used: the network is built from the MODEL keys."
    )
    channels_per_scale: tuple[Count, ...] = Field(
        (96, 96, 96, 96), min_length=1, description="Channels of the spike features, finest scale first."
    )
    layers: Count = Field(
        4, description="Scales of the spike encoder; CHANNELS_PER_SCALE has one entry each."
    )
    vrt_depths: tuple[Count, ...] = Field(
        (8, 8, 8, 8, 4, 4, 4, 8),
        description="Blocks of each VRT stage: 7 stages and 1, 4 or 6 groups of the reconstruction stage.",
    )
    window_size: Count | tuple[Count, Count, Count] = Field(
        8, description="Attention window: height and width [tokens], or [frames, height, width]."
    )
    vrt: VrtSection = Field(default_factory=VrtSection, description="Sizes and recomputation of VRT.")
    spike_tsa: SpikeTsaSection = Field(
        default_factory=SpikeTsaSection, description="Attention over time among spike features."
    )
    fuse: FuseSection = Field(default_factory=FuseSection, description="Fusion of spikes into frames.")
    pretrained: FilePath | None = Field(
        None,
        description="Weights that a new run starts from: published ones of VRT, or a checkpoint of ours.",
    )
    freeze_flow_steps: CountOrZero = Field(
        0,
        description="Steps in which optical flow and alignment keep their weights; VRT took 20000 from a"
        " trained SpyNet. 0: never, as an untrained flow has to learn.",
    )


class DataLoaderSection(Section):
    """DATALOADER: worker processes and what they keep ready."""

    total_workers: CountOrZero | Literal["auto"] | CpuShare = Field(
        "auto", description="Training workers of the node, shared by its GPUs; auto is 80 % of the CPUs."
    )
    train_workers: CountOrZero | Literal["auto"] = Field(
        "auto", description="Training workers per GPU; auto is an equal part of TOTAL_WORKERS."
    )
    val_workers: CountOrZero | Literal["auto"] = Field(
        "auto", description="Validation workers per GPU; auto is half of the training workers."
    )
    train_prefetch_factor: Count = Field(4, description="Batches that each training worker keeps ready.")
    val_prefetch_factor: Count = Field(
        2, description="Batches that each validation worker keeps ready; whole frames are large."
    )
    pin_memory: Flag = Field(True, description="Page-locked batches, so that copies to the GPU overlap.")
    persistent_workers: Flag = Field(
        True, description="Keep workers from epoch to epoch; training's always live as long as the run."
    )
    group_by_sequence: Flag = Field(
        False,
        description="Train on all clips of a sequence, then on the next one's: a small cache is hit more.",
    )
    drop_last: Flag = Field(
        True, description="Leave out the clips of an epoch that do not fill a batch; off, those weigh more."
    )


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


class LogSection(Section):
    """LOG: what a run writes, and when."""

    tensorboard: Flag = Field(True, description="Write TensorBoard events.")
    save_dir: FilePath = Field(Path("outputs"), description="Folder that runs are written to.")
    val_every_steps: CountOrZero = Field(
        1000, description="Optimiser steps from one validation to the next; 0: only at the end."
    )
    quick_val_every_steps: CountOrZero = Field(
        0, description="Steps between looks at TEST.QUICK_SEQUENCES alone, beside full validations; 0: never."
    )
    save_every_steps: CountOrZero = Field(
        1000, description="Optimiser steps from one checkpoint to the next; 0: only at the end."
    )
    keep_checkpoints: Count = Field(
        2, description="Newest checkpoints kept; one may be damaged, two are not."
    )
    metrics_every_epochs: CountOrZero = Field(
        0,
        description="Epochs between validations that measure LPIPS too (LOSS.LPIPS.NET, WEIGHTS), as the last"
        " one then does; 0: never.",
    )
    pictures_every_epochs: CountOrZero = Field(0, description="Epochs between pictures; 0: never.")
    enable_timing_log: Flag = Field(True, description="Measure phases and modules; main switch.")
    timing_console: Flag = Field(True, description="Show the timing in place on the terminal.")
    timing_file: Flag = Field(True, description="Write SAVE_DIR/logs/timing_*.log.")
    timing_console_interval: Count = Field(10, description="Steps between terminal updates.")
    timing_file_interval: Count = Field(50, description="Steps between flushes of the file.")
    timing_csv: Flag = Field(False, description="Write SAVE_DIR/logs/timing_*.csv too, for spreadsheets.")
    timing_trace_steps: CountOrZero = Field(
        0, description="Steps after the first five that go to a trace for ui.perfetto.dev; 0: none."
    )
    timing_module_depth: CountOrZero = Field(
        2, description="Levels of modules that are timed; 2 is VRT/Stage1, 0 is phases only."
    )
    timing_module_pattern: Text | None = Field(
        None, description="Instead of a depth: a regular expression that finds modules by path or row."
    )
    timing_language: Literal["auto", "en", "zh"] = Field(
        "auto", description="Language of the rows of timing logs; auto: that of LANGUAGE."
    )
    timing_budget_percent: Positive = Field(
        1.0, description="Percent of a step that timing itself may cost; above it, fewer modules are timed."
    )
    memory_every_steps: CountOrZero = Field(
        100,
        description="Steps from one line on memory in the timing logs to the next; 0: none, and no warning of"
        " memory that leaks or runs out.",
    )
    memory_snapshot: Flag = Field(
        False,
        description="Where a GPU runs out of memory, write what PyTorch has allocated in it:"
        " SAVE_DIR/logs/memory_*.pickle.",
    )
    language: Literal["auto", "en", "zh"] = Field(
        "auto", description="Language of names in reports; auto: the terminal's."
    )


class TestSection(Section):
    """TEST: evaluation of a checkpoint."""

    __test__: ClassVar[bool] = False  # not a test of pytest's

    batch_size: Count = Field(1, description="Clips of a batch; whole frames.")
    num_workers: CountOrZero = Field(2, description="Loader workers.")
    tile: tuple[Pixels, Pixels] | tuple[Count, Pixels, Pixels] | None = Field(
        None,
        description="Restore held-out frames in tiles, which bounds the memory: [height, width] px or"
        " [frames, height, width]; VRT was tested with [18, 192, 192]. null: whole frames.",
    )
    tile_overlap: tuple[CountOrZero, CountOrZero, CountOrZero] = Field(
        (2, 20, 20), description="Least overlap of tiles [frames, px, px], at most half of them; VRT's."
    )
    protocol: Literal["vrt", "y", "pooled"] = Field(
        "vrt", description="How PSNR and SSIM are taken; numbers of two protocols do not compare."
    )
    quick_sequences: Count = Field(
        3, description="Sequences of a quick validation between full ones; evenly spaced, always the same."
    )


class PromiseSection(Section):
    """PROMISE: what `recommend-config` has said of this configuration; `train` looks whether it is so."""

    samples_per_second: Positive | None = Field(
        None, description="Clips in a second, of all GPUs together; null: none is promised."
    )
    low: Positive | None = Field(None, description="Lower end of its 90 % interval [samples/s].")
    high: Positive | None = Field(None, description="Upper end of its 90 % interval [samples/s].")
    gain: Positive | None = Field(
        None, description="How many times as fast as the configuration that the search started from."
    )
    peak_bytes: Count | None = Field(
        None, description="Most that a GPU holds [bytes]; a CPU's is not compared."
    )
    hardware: Text | None = Field(None, description="What it was measured on, or is a prediction for.")

    @property
    def is_given(self) -> bool:
        """Whether there is something that a run can be measured by."""
        return self.samples_per_second is not None or self.peak_bytes is not None
