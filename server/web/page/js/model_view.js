// The layers of one model: all jobs of its weights, by layer, looked at every few seconds.
import { listJobs, listRuns } from "./api.js";
import { setBadge, stateBadge } from "./badge.js";
import { setConnection } from "./connection.js";
import { el, fromTemplate, reconcile, setText } from "./dom.js";
import {
  duration,
  ended,
  figure,
  idOf,
  number,
  percent,
  sparsity,
  WEIGHTS,
  weightsFolder,
  NONE,
} from "./format.js";
import { ranking } from "./job_model.js";

const INTERVAL_MS = 2500;
const PAGE_SIZE = 500;
const MOST_PAGES = 4;

async function listAll(list, key, labels) {
  const all = [];
  for (let page = 0, pageToken = ""; page < MOST_PAGES; ++page) {
    const answer = await list({ pageSize: PAGE_SIZE, pageToken, labels });
    all.push(...(answer[key] ?? []));
    pageToken = answer.nextPageToken;
    if (!pageToken) break;
  }
  return all;
}

// {share, left} of a job: what is done of it, and the seconds that it still takes, undefined where
// that is not known.
export function progressOf(job) {
  if (ended(job.state)) return { share: 1, left: 0 };
  if (job.atWork)
    return { share: number(job.atWork.share), left: number(job.atWork.remainingSeconds) };
  return { share: 0, left: number(job.estimate?.seconds) };
}

// By layer, of each the newest first.
export function byLayer(jobs) {
  const layer = ({ labels = {} }) => Number(labels["attnprune/layer"] ?? Infinity);
  return [...jobs].sort(
    (a, b) => layer(a) - layer(b) || Date.parse(b.createTime) - Date.parse(a.createTime),
  );
}

const textOf = (job) =>
  [
    `layer ${job.labels?.["attnprune/layer"] ?? ""}`,
    idOf(job.name),
    job.state.toLowerCase(),
    ...(job.methods ?? []).map(({ name }) => name),
    ...Object.entries(job.labels ?? {}).flat(),
  ].join(" ");

// Whether all words are in it.
export function matches(job, filter) {
  const text = textOf(job).toLowerCase();
  return filter
    .toLowerCase()
    .split(/\s+/)
    .every((word) => text.includes(word));
}

class LayerRow {
  constructor(job) {
    this.badge = stateBadge();
    this.bar = el("progress", { max: 1, value: 0, "aria-label": "share done" });
    this.share = el("span", { class: "steps" });
    this.best = el("td", { class: "number" });
    this.method = el("td", { class: "hide-narrow" });
    this.left = el("td", { class: "number hide-narrow" });
    const layer = job.labels?.["attnprune/layer"] ?? NONE;
    this.node = el(
      "tr",
      {},
      el("th", { scope: "row" }, layer),
      el("td", {}, el("a", { href: `#/${job.name}` }, idOf(job.name)), " ", this.badge),
      el("td", { class: "share" }, this.bar, this.share),
      this.best,
      this.method,
      el("td", { class: "number hide-narrow" }, sparsity(job.sparsity)),
      this.left,
    );
  }

  update(job) {
    const { share, left } = progressOf(job);
    setBadge(this.badge, job.state, job.cancelRequested);
    this.bar.value = share;
    this.bar.dataset.state = job.state;
    setText(this.share, percent(share, 0));
    const done = (job.results ?? []).filter(({ failure }) => !failure);
    const best =
      done.length > 0 ? done.reduce((a, b) => (ranking(b) < ranking(a) ? b : a)) : undefined;
    setText(this.best, best ? figure(ranking(best)) : NONE);
    setText(this.method, best?.method ?? job.atWork?.method ?? NONE);
    setText(this.left, left > 0 ? duration(left) : NONE);
  }
}

export class ModelView {
  // weights: the value of the label that the command line gives.
  constructor(main, weights) {
    const { root, parts } = fromTemplate("model-view");
    main.replaceChildren(root);
    this.parts = parts;
    this.weights = weights;
    this.rows = new Map();
    this.jobs = [];
    this.heading = parts.heading;
    this.title = weightsFolder({ [WEIGHTS]: weights }) ?? weights;
    setText(parts.heading, this.title);
    setText(parts.folder, weights);
    parts.filter.addEventListener("input", () => this.show());
    this.onVisible = () => document.visibilityState === "visible" && this.refresh();
    document.addEventListener("visibilitychange", this.onVisible);
    this.refresh();
  }

  async refresh() {
    clearTimeout(this.timer);
    const labels = [[WEIGHTS, this.weights]];
    try {
      const [jobs, runs] = await Promise.all([
        listAll(listJobs, "jobs", labels),
        listAll(listRuns, "runs", labels),
      ]);
      if (this.closed) return;
      setConnection("on");
      setText(
        this.parts.trouble,
        jobs.length + runs.length === 0 ? "There is nothing of this model." : "",
      );
      this.jobs = byLayer(jobs);
      this.runs = runs;
      this.show();
    } catch (error) {
      if (this.closed) return;
      setConnection("away");
      setText(this.parts.trouble, error.message);
    }
    if (document.visibilityState === "visible") {
      this.timer = setTimeout(() => this.refresh(), INTERVAL_MS);
    }
  }

  show() {
    const { parts, jobs } = this;
    const shown = jobs.filter((job) => matches(job, parts.filter.value.trim()));
    const rows = shown.map((job) => {
      const row = this.rows.get(job.name) ?? new LayerRow(job);
      row.update(job);
      this.rows.set(job.name, row);
      return row.node;
    });
    reconcile(parts.rows, rows);
    parts.table.hidden = jobs.length === 0;
    setText(parts.shown, `${shown.length} of ${jobs.length} jobs`);
    this.showTotals(shown);
    parts.runs.replaceChildren(
      ...(this.runs ?? []).map(({ name, state }) =>
        el("li", {}, el("a", { href: `#/${name}` }, idOf(name)), ` ${state.toLowerCase()}`),
      ),
    );
    parts.runSection.hidden = (this.runs ?? []).length === 0;
  }

  // Of what is shown. Jobs that wait take what their estimates say.
  showTotals(jobs) {
    const { parts } = this;
    const progress = jobs.map(progressOf);
    const share = progress.reduce((sum, one) => sum + one.share, 0) / Math.max(1, jobs.length);
    const left = progress.reduce((sum, one) => sum + (one.left ?? 0), 0);
    const layers = new Set(jobs.map(({ labels }) => labels?.["attnprune/layer"]));
    parts.bar.value = share;
    setText(parts.share, percent(share, 0));
    setText(
      parts.done,
      `${jobs.filter(({ state }) => ended(state)).length} of ${jobs.length} jobs`,
    );
    setText(parts.layers, String(layers.size));
    setText(parts.left, left > 0 ? duration(left) : NONE);
  }

  themeChanged() {}

  close() {
    this.closed = true;
    clearTimeout(this.timer);
    document.removeEventListener("visibilitychange", this.onVisible);
  }
}
