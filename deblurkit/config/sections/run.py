"""LOG, TEST and PROMISE: what a run writes, how it is judged, and what was said of it before."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from deblurkit.config.sections.values import (
    Count,
    CountOrZero,
    FilePath,
    Flag,
    Pixels,
    Positive,
    Section,
    Text,
)


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
