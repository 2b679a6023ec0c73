// The layers of one model: all jobs of its weights, by layer, looked at every few seconds.
import { listAll, listJobs, listRuns } from "./api.js";
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
import { Poller } from "./poller.js";

const MOST = 2000; // of jobs, the newest

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
    this.runs = [];
    this.heading = parts.heading;
    this.title = weightsFolder({ [WEIGHTS]: weights }) ?? weights;
    setText(parts.heading, this.title);
    setText(parts.folder, weights);
    parts.filter.addEventListener("input", () => this.show());
    const labels = [[WEIGHTS, weights]];
    this.poller = new Poller({
      look: () =>
        Promise.all([
          listAll(listJobs, "jobs", { labels }, MOST),
          listAll(listRuns, "runs", { labels }, MOST),
        ]),
      show: ([jobs, runs]) => this.take(jobs, runs),
      fail: (error) => {
        if (!error.refused) setConnection("away");
        setText(parts.trouble, error.refused ? error.message : "");
      },
    });
    this.poller.refresh();
  }

  take({ all: jobs, more }, { all: runs }) {
    setConnection("on");
    const nothing = jobs.length + runs.length === 0;
    setText(this.parts.trouble, nothing ? "There is nothing of this model." : "");
    Object.assign(this, { jobs: byLayer(jobs), more, runs });
    this.show();
  }

  show() {
    const { parts, jobs } = this;
    const shown = jobs.filter((job) => matches(job, parts.filter.value.trim()));
    const rows = shown.map((job) => {
      const row = this.rows.get(job.name) ?? new LayerRow(job);
      row.update(job);
      return [job.name, row];
    });
    this.rows = new Map(rows);
    reconcile(
      parts.rows,
      rows.map(([, row]) => row.node),
    );
    parts.table.hidden = jobs.length === 0;
    setText(
      parts.shown,
      `${shown.length} of ${this.more ? "the newest " : ""}${jobs.length} jobs`,
    );
    this.showTotals(shown);
    parts.runs.replaceChildren(
      ...this.runs.map(({ name, state }) =>
        el("li", {}, el("a", { href: `#/${name}` }, idOf(name)), ` ${state.toLowerCase()}`),
      ),
    );
    parts.runSection.hidden = this.runs.length === 0;
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
    this.poller.close();
  }
}
