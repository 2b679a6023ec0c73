"""Curves of a job, by matplotlib."""
from __future__ import annotations

from typing import Any, Iterable


def progress_rows(events: Iterable[Any]) -> list[dict[str, Any]]:
    """One a step; None where the mask was not evaluated."""
    rows = []
    for event in events:
        if event.WhichOneof("event") != "progress":
            continue
        step = event.progress
        rows.append({
            "method": step.method, "step": step.step, "loss": step.attention_loss,
            "regularization": step.regularization, "gradient_norm": step.gradient_norm,
            "calibration": step.calibration_error if step.HasField("calibration_error") else None,
            "held_out": step.held_out_error if step.HasField("held_out_error") else None,
            "seconds": step.elapsed_seconds})
    return rows


def plot(title: str, steps: list[dict[str, Any]], results: list[dict[str, Any]]) -> Any:
    """A Figure of loss and error by step; methods without steps are level lines."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    losses, errors = figure.subplots(1, 2)
    shown = "held_out" if any(row["held_out"] is not None for row in results + steps) else "calibration"
    stepped = list(dict.fromkeys(row["method"] for row in steps))
    names = stepped + [row["method"] for row in results if row["method"] not in stepped]
    for index, name in enumerate(names):
        color = f"C{index % 10}"
        own = [row for row in steps if row["method"] == name]
        losses.plot([row["step"] for row in own], [row["loss"] for row in own], color=color)
        scored = [row for row in own if row[shown] is not None]
        errors.plot([row["step"] for row in scored], [row[shown] for row in scored], color=color,
                    label=name)
        ends = [row[shown] for row in results if row["method"] == name and row[shown] is not None]
        if not own and ends:
            errors.axhline(ends[0], color=color, linestyle="--")
    for axes, label in ((losses, "loss"), (errors, f"{shown.replace('_', ' ')} error")):
        axes.set(xlabel="step", ylabel=label, yscale="log")
    if names:
        errors.legend()
    figure.suptitle(title)
    return figure
