"""The steps of logs as a table for spreadsheets."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from deblurkit.analysis.report import Report
from deblurkit.files import replaced_file

FIRST_COLUMNS = ("source", "rank", "step", "epoch", "unix_s", "count", "total_ms")
UNACCOUNTED_COLUMN = "unaccounted_ms"
_FORMULA = ("=", "+", "-", "@", "\t")


def write_csv(reports: Sequence[Report], path: Path) -> None:
    """Write a line per step of every log, in one piece (RFC 4180, UTF-8).

    The file begins with a byte-order mark: without it Excel takes the bytes for the machine's own code page,
    and Chinese names are lost. pandas, polars and LibreOffice skip it; ``csv`` wants ``utf-8-sig``.

    Columns: ``source`` (the log), ``rank``, ``step``, ``epoch``, ``unix_s`` (seconds, its end), ``count``
    (steps that the line is the mean of), ``total_ms`` (the step's length), for each row its inclusive
    ``{name}_ms`` in its place of the partition (``forward/Stage1_ms`` lies inside ``forward_ms``), and
    ``unaccounted_ms``. The rows without a slash and ``unaccounted_ms`` add up to ``total_ms``. What is not
    known, or was not measured in a step, is empty. A name that a spreadsheet would take for a formula has a
    ``'`` before it.
    """
    names = list(dict.fromkeys(str(name) for report in reports for name in report.partition.times.columns))
    columns = [*FIRST_COLUMNS, *map(_column, names), UNACCOUNTED_COLUMN]
    with replaced_file(path) as file:
        file.write(codecs.BOM_UTF8)
        for number, report in enumerate(reports):
            frame = _table(report).reindex(columns=columns)
            frame.to_csv(
                file,
                mode="wb",
                errors="replace",  # names of files may be no UTF-8
                header=number == 0,
                index=False,
                float_format="%.4f",
                lineterminator="\r\n",
            )


def _table(report: Report) -> pd.DataFrame:
    log, partition = report.log, report.partition
    steps = log.steps
    fixed = pd.DataFrame(
        {
            "source": _as_text(report.source),
            "rank": _whole(pd.Series(np.nan if log.rank is None else float(log.rank), index=steps.index)),
            "step": steps["step"].to_numpy(),
            "epoch": _whole(steps["epoch"]),
            "unix_s": steps["unix_s"].to_numpy(),
            "count": steps["count"].to_numpy(),
            "total_ms": partition.step_ms.to_numpy(),
        },
        index=partition.times.index,
    )
    rows = partition.times.rename(columns=_column)
    left = partition.unaccounted_ms
    return pd.concat([fixed, rows], axis=1).assign(
        **{UNACCOUNTED_COLUMN: np.nan if left is None else left.to_numpy()}
    )


def _column(name: str) -> str:
    column = _as_text(f"{name}_ms")
    return f"{name} (row)_ms" if column in (*FIRST_COLUMNS, UNACCOUNTED_COLUMN) else column


def _whole(values: pd.Series[float]) -> pd.Series[int]:
    """Return whole numbers of which some are unknown."""
    return values.round().astype("Int64")


def _as_text(text: str) -> str:
    """Return a text that a spreadsheet does not work out."""
    return f"'{text}" if text.startswith(_FORMULA) else text
