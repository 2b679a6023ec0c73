"""The figures as SVG files, by matplotlib."""
from __future__ import annotations

import math
import pathlib
from typing import Any, Sequence

from attnprune.reproduce.plan import Axis, Options, Place, number
from attnprune.reproduce.rows import Row, spread_of

LABELS = {"lambda": "lambda of the paper (gd's is n times it)", "n": "n, tokens of a batch",
          "rho": "rho, fraction of weights removed"}
KINDS = {"calibration": "calibration", "held_out": "held-out"}
LOG_RATIO = 20.0  # of the largest to the smallest error: from there on the axis is logarithmic


def available() -> bool:
    """Whether matplotlib is there."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return False
    return True


def draw(path: pathlib.Path, options: Options, axis: Axis, rows: Sequence[Row], kind: str) -> None:
    """A panel for each k: the mean over the seeds and a band from the smallest to the largest. The
    same rows give the same file. kind: of rows.ERRORS."""
    import matplotlib
    from matplotlib.figure import Figure

    style = {"svg.fonttype": "none", "svg.hashsalt": "attnprune", "font.size": 9}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(4.2 * len(options.ks) + 1.8, 3.6), layout="constrained")
        panels = figure.subplots(1, len(options.ks), sharey=True, squeeze=False)[0]
        shown = [mean for panel, k in zip(panels, options.ks)
                 for mean in _draw_panel(panel, options, axis, rows, kind, k)]
        if shown and min(shown) > 0 and max(shown) > LOG_RATIO * min(shown):
            panels[0].set_yscale("log")  # and with it all
        else:
            panels[0].set_ylim(bottom=0)
        panels[-1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
        figure.suptitle(f"{options.figure.replace('figure', 'Figure ')}: relative error on "
                        f"{KINDS[kind]} data against {axis.name}")
        figure.savefig(path, metadata={"Date": None})


def _draw_panel(panel: Any, options: Options, axis: Axis, rows: Sequence[Row], kind: str,
                k: int) -> list[float]:
    """Returns the means that it has drawn."""
    shown: list[float] = []
    for index, method in enumerate(options.methods):
        spreads = [(x, spread_of(rows, Place(axis.name, x), k, method, kind)) for x in axis.points]
        spreads = [(x, spread) for x, spread in spreads if math.isfinite(spread.mean)]
        xs, color = [x for x, _ in spreads], f"C{index % 10}"
        panel.plot(xs, [spread.mean for _, spread in spreads], "o-", markersize=3, linewidth=1.2,
                   color=color, label=method)
        panel.fill_between(xs, [spread.low for _, spread in spreads],
                           [spread.high for _, spread in spreads], color=color, alpha=0.15,
                           linewidth=0)
        shown += [spread.mean for _, spread in spreads]
    panel.set(xlabel=LABELS[axis.name], xscale="linear" if axis.name == "rho" else "log",
              title=f"k = {k} batches" + (f"; mean and range of {options.seeds} seeds"
                                          if options.seeds > 1 else ""))
    panel.set_xticks(axis.points, [number(x) for x in axis.points])
    panel.minorticks_off()
    panel.grid(alpha=0.3)
    return shown
