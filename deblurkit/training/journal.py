"""What a run leaves behind beside its checkpoints: a log that people read, and TensorBoard's numbers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from deblurkit.training.validate import Frames, Validation

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Journal:
    """Writes ``logs/train_{unix time}.log`` and, if asked to, TensorBoard events beside it.

    Args:
        folder: of the logs; None, as on all ranks but the first, writes nothing.
        tensorboard: whether to write events.
    """

    def __init__(self, folder: Path | None, *, tensorboard: bool) -> None:
        self._file: TextIO | None = None
        self._writer: SummaryWriter | None = None
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / f"train_{int(time.time())}.log").open("a", encoding="utf-8")
        self._writer = _summary_writer(folder / "tensorboard") if tensorboard else None

    def line(self, text: str) -> None:
        """Append a line with the time of day; the log is readable while the run goes on."""
        if self._file is None:
            return
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        self._file.write("".join(f"{stamp} {part}\n" for part in text.splitlines()))
        self._file.flush()

    def scalars(self, step: int, values: dict[str, float | None]) -> None:
        """Add numbers of a step to TensorBoard, leaving out those that are not known."""
        if self._writer is not None:
            for name, value in values.items():
                if value is not None:
                    self._call("add_scalar", name, value, step)

    def validation(self, step: int, result: Validation) -> None:
        """Note the scores of a validation."""
        score = result.score
        few = result.split_sequences is not None
        which = f"quick look at {len(result.sequences)} of {result.split_sequences}" if few else "validation"
        self.line(f"{which} after step {step} ({result.way}): {result.as_words()}")
        tag = "quick_look" if few else "validation"
        numbers = {"psnr_db": score.psnr_db, "ssim": score.ssim, "lpips": score.lpips}
        self.scalars(step, {f"{tag}/{name}": value for name, value in numbers.items()})

    def picture(self, step: int, image: Frames) -> None:
        """Add a picture, (H, W, 3) uint8 RGB, to TensorBoard."""
        if self._writer is not None:
            self._call("add_image", "validation/blurry-restored-sharp", image, step, dataformats="HWC")

    def close(self) -> None:
        """Write out what is buffered; closing twice does no harm."""
        if self._file is not None:
            self._file.close()
        if self._writer is not None:
            self._call("close")

    def _call(self, method: str, *arguments: Any, **named: Any) -> None:
        getattr(self._writer, method)(*arguments, **named)  # TensorBoard's methods carry no types


def _summary_writer(folder: Path) -> SummaryWriter:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder))
