"""Keys that are fine one by one and contradict each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from deblurkit.config.sections.data import DataSection, SensorNoiseSection
from deblurkit.config.sections.model import ModelSection, VrtSection
from deblurkit.config.sections.run import PromiseSection
from deblurkit.config.sections.train import LossSection, TrainSection

VRT_DEPTH_COUNTS = (8, 11, 13)  # 7 stages, and 1, 4 or 6 groups of the reconstruction stage
VRT_SMALLEST_CROP = 40  # at 32 px the coarsest level of VRT's flow pyramid has no pixel
VRT_COARSEST = 8  # stage 4 sees every eighth pixel, and there a window has to fit
VRT_STAGES = 7  # before the groups of stage 8
SPIKE_SCALES = 4  # VRT takes spikes in after stages 1 to 4


@dataclass(frozen=True)
class Contradiction:
    """What does not go together.

    Attributes:
        keys: the keys concerned, dotted; a message stands where one of them was written.
        message: what is wrong and what to do.
    """

    keys: tuple[str, ...]
    message: str


def contradictions(
    data: DataSection,
    model: ModelSection,
    train: TrainSection,
    loss: LossSection,
    promise: PromiseSection,
) -> list[Contradiction]:
    """Return all that does not go together, in the order of the keys."""
    return [
        *_in_data(data),
        *_in_model(model),
        *_in_train(train),
        *_in_loss(loss, train),
        *_for_vrt(data, model),
        *_in_promise(promise),
    ]


def _in_data(data: DataSection) -> Iterator[Contradiction]:
    if data.k is not None and data.k != data.num_voxel_bins:
        yield Contradiction(
            ("DATA.K", "DATA.NUM_VOXEL_BINS"),
            f"K is the older name of NUM_VOXEL_BINS and has to agree with it, but K is {data.k}"
            f" and NUM_VOXEL_BINS {data.num_voxel_bins}; give NUM_VOXEL_BINS only",
        )
    yield from _schedule(
        data.train_crops,
        data.crop_size,
        epochs=data.train_crop_epochs,
        keys=("TRAIN_CROP_SIZE", "TRAIN_CROP_EPOCHS", "CROP_SIZE"),
        what="smaller crops",
    )
    yield from _schedule(
        data.train_clips,
        data.clip_len,
        epochs=data.train_clip_epochs,
        keys=("TRAIN_CLIP_LEN", "TRAIN_CLIP_EPOCHS", "CLIP_LEN"),
        what="shorter clips",
    )
    if data.use_precomputed_voxels and data.sensor_noise != SensorNoiseSection():
        yield Contradiction(
            ("DATA.SENSOR_NOISE", "DATA.USE_PRECOMPUTED_VOXELS"),
            "expected no noise: it changes spikes, and voxels that were made before have none;"
            " set DATA.USE_PRECOMPUTED_VOXELS=false",
        )
    for key, (low, high) in (("GAIN", data.sensor_noise.gain), ("THRESHOLD", data.sensor_noise.threshold)):
        if low > high:
            yield Contradiction(
                (f"DATA.SENSOR_NOISE.{key}",), f"expected the smaller factor first, got {low} and {high}"
            )


def _schedule(
    early: tuple[int, ...], last: int, *, epochs: int, keys: tuple[str, str, str], what: str
) -> Iterator[Contradiction]:
    """Yield what is wrong with sizes that grow during training; ``keys`` are of sizes, epochs, last size."""
    sizes_key, epochs_key, last_key = (f"DATA.{key}" for key in keys)
    largest = max(early, default=0)
    if largest > last:
        yield Contradiction(
            (sizes_key, last_key),
            f"expected at most {keys[2]} ({last}), got {largest};"
            f" training begins with {what}, so raise {keys[2]} or leave {keys[0]} out",
        )
    if len(early) > 1 and not epochs:
        yield Contradiction(
            (epochs_key, sizes_key), f"expected the epochs that each of {len(early)} sizes lasts, got 0"
        )


def _in_model(model: ModelSection) -> Iterator[Contradiction]:
    if len(model.vrt_depths) not in VRT_DEPTH_COUNTS:
        yield Contradiction(
            ("MODEL.VRT_DEPTHS",),
            "expected 8, 11 or 13 values (7 stages, and 1, 4 or 6 groups of the reconstruction stage),"
            f" got {len(model.vrt_depths)}",
        )
    if len(model.channels_per_scale) != model.layers:
        yield Contradiction(
            ("MODEL.CHANNELS_PER_SCALE", "MODEL.LAYERS"),
            f"expected one value for each of the {model.layers} LAYERS, got {len(model.channels_per_scale)}",
        )
    for name, section in (("SPIKE_TSA", model.spike_tsa), ("FUSE", model.fuse)):
        undivided = [width for width in model.channels_per_scale if width % section.heads]
        if undivided:
            yield Contradiction(
                (f"MODEL.{name}.HEADS", "MODEL.CHANNELS_PER_SCALE"),
                f"expected a divisor of every entry of CHANNELS_PER_SCALE, got {section.heads},"
                f" which does not divide {undivided[0]}",
            )


def _in_train(train: TrainSection) -> Iterator[Contradiction]:
    warmup = train.sched.warmup_steps
    if train.max_steps is not None and warmup > train.max_steps:
        yield Contradiction(
            ("TRAIN.SCHED.WARMUP_STEPS", "TRAIN.MAX_STEPS"),
            f"the warm-up of {warmup} steps is longer than the run of MAX_STEPS {train.max_steps};"
            f" set WARMUP_STEPS to at most that",
        )
    if train.sched.min_lr > train.optim.lr:
        yield Contradiction(
            ("TRAIN.SCHED.MIN_LR", "TRAIN.OPTIM.LR"),
            f"expected at most TRAIN.OPTIM.LR ({train.optim.lr:g}), got {train.sched.min_lr:g}",
        )


def _in_loss(loss: LossSection, train: TrainSection) -> Iterator[Contradiction]:
    """Yield that there are steps without any loss; a teacher is a term too."""
    distill = train.distill
    terms = [
        (part.weight, part.every_n_steps) for part in (loss.charbonnier, loss.vgg_perceptual, loss.lpips)
    ]
    if distill.teacher is not None:
        terms.append((distill.weight, distill.every_n_steps))
    present = [every for weight, every in terms if weight > 0]
    if 1 in present:
        return
    key = "EVERY_N_STEPS" if loss.charbonnier.weight > 0 else "WEIGHT"
    got = "only in every few steps" if present else "not at all"
    yield Contradiction(
        (f"LOSS.CHARBONNIER.{key}", "LOSS.CHARBONNIER.WEIGHT"),
        f"expected a term of the loss in every step, got terms {got}; set LOSS.CHARBONNIER.WEIGHT above 0,"
        " or EVERY_N_STEPS of another term with a WEIGHT (LOSS, TRAIN.DISTILL) to 1",
    )


def _for_vrt(data: DataSection, model: ModelSection) -> Iterator[Contradiction]:
    if model.arch != "vrt":
        return
    if data.train_clip < 2:
        yield Contradiction(
            ("DATA.CLIP_LEN" if data.train_clip_len is None else "DATA.TRAIN_CLIP_LEN", "MODEL.ARCH"),
            f"expected at least 2 frames for MODEL.ARCH vrt, which aligns neighbours, got {data.train_clip}",
        )
    window = model.window_size if isinstance(model.window_size, int) else max(model.window_size[1:])
    key = "DATA.CROP_SIZE" if data.train_crop_size is None else "DATA.TRAIN_CROP_SIZE"
    if data.train_crop < VRT_SMALLEST_CROP:
        yield Contradiction(
            (key, "MODEL.ARCH"),
            f"expected at least {VRT_SMALLEST_CROP} px for MODEL.ARCH vrt, whose flow pyramid has six levels,"
            f" got {data.train_crop}",
        )
    elif data.train_crop < VRT_COARSEST * window:
        yield Contradiction(
            (key, "MODEL.WINDOW_SIZE"),
            f"expected at least {VRT_COARSEST * window} px, {VRT_COARSEST} times the window of {window},"
            f" got {data.train_crop}",
        )
    yield from _vrt_sizes(model)


def _alignment(vrt: VrtSection) -> Iterator[Contradiction]:
    """Yield what keeps the deformable convolution from sharing channels and taps among its neighbours."""
    neighbours, width, groups = vrt.pa_frames // 2, vrt.embed_dims[0], vrt.deformable_groups
    if width % neighbours:
        yield Contradiction(
            ("MODEL.VRT.EMBED_DIMS", "MODEL.VRT.PA_FRAMES"),
            f"expected a multiple of {neighbours}, the frames PA_FRAMES aligns on a side, got {width}",
        )
    if neighbours * width % groups:
        yield Contradiction(
            ("MODEL.VRT.DEFORMABLE_GROUPS", "MODEL.VRT.PA_FRAMES", "MODEL.VRT.EMBED_DIMS"),
            f"expected a divisor of the {neighbours} x {width} channels that are aligned, got {groups}",
        )
    if 9 * groups % neighbours:
        yield Contradiction(
            ("MODEL.VRT.DEFORMABLE_GROUPS", "MODEL.VRT.PA_FRAMES"),
            f"expected a multiple of {neighbours}, so that each of the frames on a side moves as many taps,"
            f" got {groups}",
        )


def _vrt_sizes(model: ModelSection) -> Iterator[Contradiction]:
    vrt = model.vrt
    odd = [width for width in vrt.embed_dims if width % vrt.num_heads or width % 4]
    if odd:
        yield Contradiction(
            ("MODEL.VRT.EMBED_DIMS", "MODEL.VRT.NUM_HEADS"),
            f"expected multiples of 4 and of NUM_HEADS ({vrt.num_heads}), got {odd[0]}",
        )
    yield from _alignment(vrt)
    last = len(model.vrt_depths) - 1
    outside = [index for index in vrt.indep_reconsts or () if not VRT_STAGES <= index <= last]
    if outside:
        groups = str(last) if last == VRT_STAGES else f"{VRT_STAGES} to {last}"
        yield Contradiction(
            ("MODEL.VRT.INDEP_RECONSTS", "MODEL.VRT_DEPTHS"),
            f"expected indices of stage 8's groups, {groups}, got {outside[0]}",
        )
    if model.use_spike and model.layers == len(model.channels_per_scale) != SPIKE_SCALES:
        yield Contradiction(
            ("MODEL.LAYERS", "MODEL.USE_SPIKE"),
            f"expected {SPIKE_SCALES} for MODEL.ARCH vrt, which takes spikes in after stages 1 to"
            f" {SPIKE_SCALES}, got {model.layers}",
        )


def _in_promise(promise: PromiseSection) -> Iterator[Contradiction]:
    """Yield that a rate has no interval, an interval no rate, or that the rate is outside of it."""
    rates = {"LOW": promise.low, "SAMPLES_PER_SECOND": promise.samples_per_second, "HIGH": promise.high}
    known = {f"PROMISE.{name}": rate for name, rate in rates.items() if rate is not None}
    if len(known) not in (0, len(rates)):
        yield Contradiction(
            tuple(known),
            "expected LOW, SAMPLES_PER_SECOND and HIGH together, as `recommend-config` writes them; give the"
            " other values too, or leave PROMISE out",
        )
    elif list(known.values()) != sorted(known.values()):
        told = ", ".join(f"{rate:g}" for rate in known.values())
        yield Contradiction(
            tuple(known), f"expected LOW <= SAMPLES_PER_SECOND <= HIGH, got {told}; leave PROMISE out"
        )
