"""Which jobs one of the figures is made of. Pure."""
from __future__ import annotations

import dataclasses
import math
from typing import Sequence

from attnprune import problem
from attnprune.security import refuse
from attnprune.v1 import job_pb2

AXES = {"figure2": ("lambda", "n", "rho"), "figure3": ("n", "rho")}
MAX_TOKENS = 1 << 20

# The paper's plots give no list of points; these cover their ranges.
_POINTS = {
    "few": {"lambda": (0.01, 0.04, 0.16), "n": (32, 64, 128), "rho": (0.3, 0.5, 0.7, 0.9)},
    "full": {"lambda": (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32), "n": (16, 32, 64, 128, 256),
             "rho": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)},
}


@dataclasses.dataclass(frozen=True)
class Axis:
    """What is varied while the rest stays as it is."""

    name: str  # "lambda", "n" or "rho"
    points: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Place:
    """A point of a curve."""

    axis: str
    x: float


@dataclasses.dataclass
class Options:
    """`lam`, `n` and `rho` hold where they are not varied."""

    figure: str  # "figure2" or "figure3"
    ks: list[int]  # calibration batches; a panel each
    seeds: int = 3  # the seeds are 0, 1, ...
    lam: float = 0.04  # the paper's; figure 2 only
    n: int = 128  # tokens of a batch
    rho: float = 0.5
    axes: list[Axis] = dataclasses.field(default_factory=list)
    methods: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class MethodRun:
    """One method of one job, and every point that its result makes: what does not depend on lambda
    runs once for the whole axis, and the point that all axes share once for all of them."""

    text: str  # as it was given; its name in the figure
    method: job_pb2.Method
    places: list[Place] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class FigureJob:
    k: int
    seed: int
    n: int
    rho: float
    runs: list[MethodRun] = dataclasses.field(default_factory=list)

    def __str__(self) -> str:
        return f"seed {self.seed}  k {self.k}  n {self.n}  rho {number(self.rho)}"


def number(value: float) -> str:
    """The shortest text that reads back as it."""
    text = repr(float(value))
    return text[:-2] if text.endswith(".0") else text


def default_axes(figure: str, points: str) -> list[Axis]:
    """points: "few" or "full"."""
    return [Axis(name, _POINTS[points][name]) for name in AXES[figure]]


def parse_axis(text: str, figure: str, points: str) -> Axis:
    """"n=16,32"; "n" alone takes the usual points."""
    name, given, numbers = text.partition("=")
    if name not in AXES[figure]:
        refuse("--axis", f"must be one of {', '.join(AXES[figure])} in {figure}, got {text}")
    if not given:
        return Axis(name, _POINTS[points][name])
    try:
        return Axis(name, tuple(sorted(float(one) for one in numbers.split(","))))
    except ValueError:
        refuse("--axis", f"must be NAME or NAME=X,..., got {text}")


def _check_point(flag: str, axis: str, x: float) -> None:
    if axis == "lambda" and not (math.isfinite(x) and x > 0):
        refuse(flag, f"must be above 0, got {number(x)}")
    if axis == "n" and not (1 <= x <= MAX_TOKENS and x == int(x)):
        refuse(flag, f"must be a whole number in [1, {MAX_TOKENS}], got {number(x)}")
    if axis == "rho" and not 0 <= x < 1:
        refuse(flag, f"must be in [0, 1), got {number(x)}")


def _check_once(flag: str, values: Sequence[float] | Sequence[str]) -> None:
    for value in values:
        if list(values).count(value) > 1:
            refuse(flag, f"must name each once, got {value} twice")


def validate(options: Options) -> None:
    """InvalidArgument names the flag, its rule and the value."""
    _check_once("--method", options.methods)
    for text in options.methods:
        problem.method(text)
    _check_once("--k", options.ks)
    if any(k < 1 for k in options.ks):
        refuse("--k", f"must be at least 1, got {min(options.ks)}")
    if not 1 <= options.seeds <= 1000:
        refuse("--seeds", f"must be in [1, 1000], got {options.seeds}")
    _check_point("--n", "n", options.n)
    _check_point("--rho", "rho", options.rho)
    _check_point("--lambda", "lambda", options.lam)
    _check_once("--axis", [axis.name for axis in options.axes])
    for axis in options.axes:
        for x in axis.points:
            _check_point(f"--axis {axis.name}", axis.name, x)
        _check_once(f"--axis {axis.name}", axis.points)


def _with_the_papers_settings(text: str, figure: str, lam: float, n: int) -> job_pb2.Method:
    """gd (and gd+refit) gets the paper's, unless they are given: in figure 2 lambda = n times the
    paper's and eta = 0.1 / lambda (Section 6.1), in figure 3 lambda = 0.05 and eta = 0.005
    (Section 7)."""
    method = job_pb2.Method()
    method.CopyFrom(problem.method(text))
    if method.name.split("+")[0] != "gd":
        return method
    given = method.parameters
    if "lambda" not in given:
        given["lambda"] = 0.05 if figure == "figure3" else n * lam
    if "eta" not in given and (figure == "figure3" or given["lambda"] > 0):
        given["eta"] = 0.005 if figure == "figure3" else 0.1 / given["lambda"]
    return method


def plan(options: Options) -> list[FigureJob]:
    """The jobs in an order that completes one seed's curves before the next seed's."""
    jobs: dict[tuple[int, int, int, float], FigureJob] = {}
    for seed in range(options.seeds):
        for k in options.ks:
            for axis in options.axes:
                for x in axis.points:
                    _add(options, k, seed, Place(axis.name, x), jobs)
    return list(jobs.values())


def _add(options: Options, k: int, seed: int, place: Place,
         jobs: dict[tuple[int, int, int, float], FigureJob]) -> None:
    n = int(place.x) if place.axis == "n" else options.n
    rho = place.x if place.axis == "rho" else options.rho
    lam = place.x if place.axis == "lambda" else options.lam
    job = jobs.setdefault((k, seed, n, rho), FigureJob(k, seed, n, rho))
    for text in options.methods:
        method = _with_the_papers_settings(text, options.figure, lam, n)
        for run in job.runs:
            if run.text == text and run.method == method:
                break
        else:
            run = MethodRun(text, method)
            job.runs.append(run)
        run.places.append(place)
