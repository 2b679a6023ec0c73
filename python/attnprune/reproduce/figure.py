"""A figure's jobs on a server, one after the other, and the files that come of them."""
from __future__ import annotations

import pathlib
import sys

from attnprune.client import Client
from attnprune.errors import JobFailed
from attnprune.jobs import Job
from attnprune.reproduce import drawing
from attnprune.reproduce.data import Source
from attnprune.reproduce.plan import FigureJob, Options, plan
from attnprune.reproduce.rows import ERRORS, Row, csv_text, of_axis, rows_of, table
from attnprune.v1 import job_pb2

LABEL = "attnprune/figure"
PARTIAL = ".partial.csv"  # the rows so far: an earlier figure stays until this one is whole
SVG = {"calibration": ".svg", "held_out": "-held-out.svg"}


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class FigureRun:
    """`running` is the name of the job that is at work, or "". `failed`: one of them has not
    succeeded; it was told, and its rows are missing."""

    def __init__(self, client: Client, options: Options, source: Source,
                 folder: pathlib.Path) -> None:
        self._client, self._options, self._source, self._folder = client, options, source, folder
        self.rows: list[Row] = []
        self.running = ""
        self.failed = False

    def run(self) -> None:
        """To the files, whole, and the tables on standard output."""
        jobs = plan(self._options)
        for index, wanted in enumerate(jobs):
            ended = self._run_one(wanted)
            self.rows += rows_of(wanted, ended)
            self._write_rows(PARTIAL)
            note(f"{index + 1}/{len(jobs)}  {wanted}{_results_text(wanted, ended)}")
        self._write_figures()
        self._tell()

    def path(self, axis: str, ending: str) -> pathlib.Path:
        return self._folder / f"{self._options.figure}-{axis}{ending}"

    def _run_one(self, wanted: FigureJob) -> job_pb2.Job:
        message, needed = self._source.job(wanted)
        message.labels[LABEL] = self._options.figure
        message.seed, message.evaluate_every = wanted.seed, -1
        message.methods.extend(run.method for run in wanted.runs)
        self._client.upload(needed, progress=False)
        job = Job(self._client, self._client.create_job(message))
        self.running = job.name
        try:
            job.wait(progress=False)
        except JobFailed as error:
            self._fail(str(error))
        self.running = ""
        for result in job.message.results:
            if result.HasField("failure"):
                self._fail(f"{job.name}: {result.method} failed: {result.failure.message}")
        return job.message

    def _fail(self, why: str) -> None:
        note(why)
        self.failed = True

    def _write_rows(self, ending: str) -> None:
        for axis in self._options.axes:
            rows = of_axis(self._options, axis.name, self.rows)
            self.path(axis.name, ending).write_text(csv_text(self._options.figure, rows),
                                                    encoding="utf-8")

    def _write_figures(self) -> None:
        self._write_rows(".csv")
        for axis in self._options.axes:
            rows = of_axis(self._options, axis.name, self.rows)
            for kind in ERRORS:
                if drawing.available():
                    drawing.draw(self.path(axis.name, SVG[kind]), self._options, axis, rows, kind)
            self.path(axis.name, PARTIAL).unlink()

    def _tell(self) -> None:
        for axis in self._options.axes:
            print(f"{self._options.figure}, mean relative error, calibration / held out")
            print(table(self._options, axis, self.rows))
        endings = [".csv", *(SVG.values() if drawing.available() else ())]
        for axis in self._options.axes:
            for ending in endings:
                print(self.path(axis.name, ending))


def _results_text(wanted: FigureJob, ended: job_pb2.Job) -> str:
    """"  gd 0.171/0.312" of each run: calibration and held-out error."""
    text = ""
    for run, result in zip(wanted.runs, ended.results):
        if not result.HasField("failure"):
            errors = result.relative_error
            text += f"  {run.text} {errors.calibration:.3g}"
            text += f"/{errors.held_out:.3g}" if errors.HasField("held_out") else ""
    return text
