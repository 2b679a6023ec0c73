// A run in the queue.
import { setBadge, stateBadge } from "./badge.js";
import { el, setText } from "./dom.js";
import { ago, clock, duration, percent, seconds, sparsity, weightsFolder, NONE } from "./format.js";
import { nameCell } from "./job_row.js";
import { familyOf } from "./run_model.js";
import { placeText } from "./waiting.js";

export class RunRow {
  constructor(run) {
    this.badge = stateBadge();
    this.place = el("span", { class: "place" });
    this.bar = el("progress", { max: 1, value: 0, "aria-label": "share done" });
    this.share = el("span", { class: "steps" });
    this.left = el("td", { class: "number hide-narrow" });
    this.created = el("td", { class: "number hide-narrow", title: clock(run.createTime) });
    this.node = el(
      "tr",
      {},
      el("td", {}, this.badge, this.place),
      nameCell(run.name, run.labels),
      el("td", { class: "hide-narrow" }, weightsFolder(run.labels) ?? familyOf(run.model) ?? NONE),
      el("td", { class: "hide-medium" }, run.method?.name ?? NONE),
      el("td", { class: "number hide-narrow" }, sparsity(run.sparsity)),
      el("td", { class: "share" }, this.bar, this.share),
      this.left,
      this.created,
    );
  }

  update(run) {
    const { resultsDone: done = 0, resultsTotal: total = 0 } = run;
    const share = total > 0 ? Math.min(1, done / total) : 0;
    setBadge(this.badge, run.state, run.cancelRequested);
    setText(this.place, placeText(run.waiting));
    this.bar.value = share;
    this.bar.dataset.state = run.state;
    setText(this.share, `${percent(share, 0)} · ${done} / ${total}`);
    setText(this.left, run.state === "RUNNING" ? duration(this.secondsLeft(run)) : NONE);
    setText(this.created, ago(run.createTime));
  }

  // What is left at the pace so far: since the start, or, as a run that went on has results of
  // before, since this page saw it first. undefined: not known yet.
  secondsLeft({ attempt, startTime, resultsDone: done, resultsTotal: total }) {
    const now = Date.now() / 1000;
    if (this.seen?.attempt !== attempt) {
      this.seen = {
        attempt,
        done: attempt > 1 ? done : 0,
        time: attempt > 1 ? now : seconds(startTime),
      };
    }
    const made = done - this.seen.done;
    if (!(made > 0)) return undefined;
    return (Math.max(0, now - this.seen.time) * (total - done)) / made;
  }
}
