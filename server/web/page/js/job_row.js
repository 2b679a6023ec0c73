// A job in the queue.
import { setBadge, stateBadge } from "./badge.js";
import { el, setText } from "./dom.js";
import {
  ago,
  clock,
  duration,
  figure,
  idOf,
  modelText,
  number,
  sparsity,
  NONE,
  WEIGHTS,
} from "./format.js";
import { ranking, runSeconds } from "./job_model.js";
import { placeText } from "./waiting.js";

// The cell that names a job or a run: a link, and labels but for the command line's own; `more` before
// and behind the link.
export function nameCell(name, labels, { before = null, behind = null } = {}) {
  const [collection, id] = name.split("/");
  const link = el("a", { href: `#/${collection}/${encodeURIComponent(id)}` }, id);
  const items = Object.entries(labels ?? {})
    .filter(([key]) => !key.startsWith("attnprune/"))
    .sort()
    .map(([key, value]) => el("li", {}, value === "" ? key : `${key}=${value}`));
  const list = items.length > 0 ? el("ul", { class: "labels" }, ...items) : null;
  return el("th", { scope: "row" }, el("span", { class: "named" }, before, link), behind, list);
}

// "llama-1b, layer 15", which leads to all layers of that model.
function modelLine({ labels = {} }) {
  const text = modelText(labels);
  if (!text) return null;
  const href = labels[WEIGHTS] && `#/models/${encodeURIComponent(labels[WEIGHTS])}`;
  return el(
    "span",
    { class: "model" },
    href ? el("a", { href, title: "All layers of this model" }, text) : text,
  );
}

export class JobRow {
  // onPick(name, picked): it is to be compared, or no more.
  constructor(job, { picked = false, onPick = () => {} } = {}) {
    const box = el("input", {
      type: "checkbox",
      "aria-label": `Compare ${idOf(job.name)}`,
      title: "Compare with other jobs",
    });
    box.checked = picked;
    box.addEventListener("change", () => onPick(job.name, box.checked));
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
      nameCell(job.name, job.labels, {
        before: el("span", { class: "pick" }, box),
        behind: modelLine(job),
      }),
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
