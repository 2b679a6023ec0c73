// A job in the queue.
import { setBadge, stateBadge } from "./badge.js";
import { el, setText } from "./dom.js";
import { ago, clock, duration, figure, number, sparsity, NONE } from "./format.js";
import { ranking, runSeconds } from "./job_model.js";
import { placeText } from "./waiting.js";

// The cell that names a job or a run: a link, and labels but for the command line's own.
export function nameCell(name, labels) {
  const [collection, id] = name.split("/");
  const link = el("a", { href: `#/${collection}/${encodeURIComponent(id)}` }, id);
  const items = Object.entries(labels ?? {})
    .filter(([key]) => !key.startsWith("attnprune/"))
    .sort()
    .map(([key, value]) => el("li", {}, value === "" ? key : `${key}=${value}`));
  const list = items.length > 0 ? el("ul", { class: "labels" }, ...items) : null;
  return el("th", { scope: "row" }, link, list);
}

export class JobRow {
  constructor(job) {
    this.badge = stateBadge();
    this.place = el("span", { class: "place" });
    this.done = el("td", { class: "number hide-medium" });
    this.best = el("td", { class: "number" });
    this.time = el("td", { class: "number hide-narrow" });
    this.created = el("td", { class: "number hide-narrow", title: clock(job.createTime) });
    const methods = (job.methods ?? []).map((method) => method.label || method.name);
    this.node = el(
      "tr",
      {},
      el("td", {}, this.badge, this.place),
      nameCell(job.name, job.labels),
      el("td", { class: "hide-medium" }, methods.join(", ")),
      this.done,
      el("td", { class: "number hide-narrow" }, sparsity(job.sparsity)),
      this.best,
      this.time,
      this.created,
    );
  }

  update(job) {
    setBadge(this.badge, job.state, job.cancelRequested);
    setText(this.place, placeText(job.waiting));
    setText(this.done, `${(job.results ?? []).length} of ${(job.methods ?? []).length}`);
    setText(this.best, bestOf(job));
    setText(this.time, duration(runSeconds(job)));
    setText(this.created, ago(job.createTime));
  }
}

function bestOf(job) {
  const done = (job.results ?? []).filter((result) => !result.failure);
  if (done.length === 0) return NONE;
  const best = done.reduce((a, b) => (ranking(b) < ranking(a) ? b : a));
  return `${figure(number(ranking(best)))} ${best.method}`;
}
