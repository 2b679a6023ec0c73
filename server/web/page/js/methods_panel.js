// How far each method is: one row a method, changed in place.
import { el, icon, reconcile, setText } from "./dom.js";
import { count, duration, figure, number, NONE, percent } from "./format.js";
import { paintSwatch } from "./theme.js";

export class MethodsPanel {
  constructor(body) {
    this.body = body;
    this.rows = new Map();
  }

  update(model) {
    let index = 0;
    const { leader } = model;
    for (const run of model.methods.values()) {
      if (!this.rows.has(run.label)) this.rows.set(run.label, new MethodRow(run.label, index));
      this.rows.get(run.label).update(run, model.job.state);
      this.rows.get(run.label).lead(model.methods.size > 1 && run.label === leader?.label);
      index += 1;
    }
    reconcile(
      this.body,
      [...this.rows.values()].map(({ node }) => node),
    );
  }
}

class MethodRow {
  constructor(label, index) {
    const swatch = el("span", { class: "swatch", "aria-hidden": "true" });
    paintSwatch(swatch, index);
    this.bar = el("progress", { max: 1, value: 0, "aria-label": `${label}: share of the steps` });
    this.steps = el("span", { class: "steps" });
    this.star = el("span", { class: "leads", hidden: true }, icon("star"), "leads");
    this.cells = Array.from({ length: 5 }, () => el("td", { class: "number" }));
    const [rate, left, loss, calibration, heldOut] = this.cells;
    for (const cell of [rate, left, loss, calibration]) cell.classList.add("hide-narrow");
    this.node = el(
      "tr",
      {},
      el("th", { scope: "row" }, swatch, label, this.star),
      el("td", { class: "bar" }, this.bar, this.steps),
      rate,
      left,
      loss,
      calibration,
      heldOut,
    );
  }

  lead(leads) {
    this.star.hidden = !leads;
  }

  update(run, jobState) {
    const state = run.state(jobState);
    this.node.dataset.state = state;
    const step = run.result?.steps ?? run.progress?.step ?? 0;
    const most = run.progress?.steps ?? step;
    const judged = state === "judging" ? number(run.phase.share) : undefined;
    this.bar.value = judged ?? (state === "done" ? 1 : most > 0 ? step / most : 0);
    const taken =
      most > 0 ? ` · ${count(step)} / ${count(most)}` : state === "done" ? " · one pass" : "";
    setText(this.steps, state + (judged === undefined ? taken : ` · ${percent(judged, 0)}`));
    this.show(run, state);
  }

  show(run, state) {
    const { rate, result, progress } = run;
    const error = result?.relativeError ?? {
      calibration: run.errors.last?.[2],
      heldOut: run.errors.last?.[3],
    };
    const left = state === "running" ? number(progress.remainingSeconds) : undefined;
    const texts = [
      rate === undefined ? NONE : `${figure(rate)}/s`,
      state === "done"
        ? duration(number(result.seconds) ?? 0)
        : left === undefined
          ? NONE
          : `${duration(left)} left`,
      figure(number(progress?.attentionLoss)),
      figure(number(error.calibration)),
      figure(number(error.heldOut)),
    ];
    texts.forEach((text, i) => setText(this.cells[i], text));
  }
}
