"""The figures' numbers: from ended jobs to rows, and rows as CSV and as a table. Pure."""
from __future__ import annotations

import csv
import dataclasses
import io
import math
from typing import Sequence

from attnprune.reproduce.plan import Axis, FigureJob, Options, Place, number
from attnprune.v1 import job_pb2

COLUMNS = ("figure", "axis", "x", "k", "method", "seed", "calibration_error", "held_out_error",
           "seconds")
ERRORS = ("calibration", "held_out")


@dataclasses.dataclass(frozen=True)
class Row:
    """One method's result at one point with one seed. Errors are relative ones of the binary mask;
    NaN: there is none."""

    place: Place
    k: int
    seed: int
    method: str
    calibration: float
    held_out: float
    seconds: float  # of solving


@dataclasses.dataclass(frozen=True)
class Spread:
    """Of the seeds at one point; NaN without any."""

    mean: float
    low: float
    high: float


def rows_of(job: FigureJob, ended: job_pb2.Job) -> list[Row]:
    """Its results are in the order of job.runs. Methods that failed or did not run have no rows."""
    rows = []
    for run, result in zip(job.runs, ended.results):
        if result.HasField("failure"):
            continue
        errors = result.relative_error
        held_out = errors.held_out if errors.HasField("held_out") else math.nan
        rows += [Row(place, job.k, job.seed, run.text, errors.calibration, held_out, result.seconds)
                 for place in run.places]
    return rows


def of_axis(options: Options, axis: str, rows: Sequence[Row]) -> list[Row]:
    """Ordered by k, x, method (in the order of the options) and seed."""
    return sorted((row for row in rows if row.place.axis == axis),
                  key=lambda row: (row.k, row.place.x, options.methods.index(row.method), row.seed))


def csv_text(figure: str, rows: Sequence[Row]) -> str:
    """With a heading (RFC 4180, but for its line ends)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([figure, row.place.axis, number(row.place.x), row.k, row.method, row.seed,
                         _error_cell(row.calibration), _error_cell(row.held_out),
                         f"{row.seconds:.3f}"])
    return text.getvalue()


def _error_cell(error: float) -> str:
    return f"{error:.6g}" if math.isfinite(error) else ""


def read_csv(text: str) -> list[Row]:
    """What csv_text has written."""
    return [Row(Place(one["axis"], float(one["x"])), int(one["k"]), int(one["seed"]), one["method"],
                float(one["calibration_error"] or math.nan), float(one["held_out_error"] or math.nan),
                float(one["seconds"])) for one in csv.DictReader(io.StringIO(text))]


def spread_of(rows: Sequence[Row], place: Place, k: int, method: str, kind: str) -> Spread:
    """kind: of ERRORS."""
    errors = [getattr(row, kind) for row in rows
              if row.place == place and row.k == k and row.method == method]
    errors = [error for error in errors if math.isfinite(error)]
    if not errors:
        return Spread(math.nan, math.nan, math.nan)
    return Spread(sum(errors) / len(errors), min(errors), max(errors))


def table(options: Options, axis: Axis, rows: Sequence[Row]) -> str:
    """A line for each k and x: every method's mean error over the seeds, calibration / held out."""
    lines = [["k", axis.name, *options.methods]]
    for k in options.ks:
        for x in axis.points:
            means = [[spread_of(rows, Place(axis.name, x), k, method, kind).mean for kind in ERRORS]
                     for method in options.methods]
            lines.append([str(k), number(x), *(" / ".join(map(_mean_cell, two)) for two in means)])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "".join("  ".join([line[0].ljust(widths[0]),
                              *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:]))])
                   + "\n" for line in lines)


def _mean_cell(error: float) -> str:
    return f"{error:.3g}" if math.isfinite(error) else "-"
