// A job's head: its state, what was asked for, when it ran.
import { setBadge } from "./badge.js";
import { el, setText } from "./dom.js";
import {
  bytes,
  clock,
  count,
  duration,
  ended,
  figure,
  methodText,
  modelText,
  number,
  percent,
  seconds,
  sparsity,
  sparsityInWords,
  NONE,
} from "./format.js";
import { runSeconds } from "./job_model.js";
import { waitingText } from "./waiting.js";

// Rows [name, text] of a job's description; of what does not apply there is none.
export function describe(job) {
  const { problem = {}, estimate } = job;
  return [
    ["model", modelText(job.labels)],
    ["problem", problemText(problem)],
    ["attention", attentionText(problem.attention)],
    ["sparsity", sparsityInWords(job.sparsity)],
    ["methods", (job.methods ?? []).map(methodText).join("; ")],
    ["calibration", shapes(job.calibration)],
    ["held out", heldOutText(job)],
    ["seed", Number(job.seed) ? job.seed : undefined],
    ["priority", job.priority ? String(job.priority) : undefined],
    ["attempt", job.attempt > 1 ? String(job.attempt) : undefined],
    [
      "estimate",
      estimate && `${duration(number(estimate.seconds))}, ${bytes(estimate.memoryBytes)}`,
    ],
    ["created", clock(job.createTime)],
    ...Object.entries(job.labels ?? {}).sort(),
  ].filter(([, text]) => text !== undefined);
}

function problemText({ fused, projections }) {
  if (fused) {
    const weight = fused.weight ?? fused.qFactor;
    return `fused, d = ${weight?.shape?.[0] ?? "?"}${weight?.name ? ` (${weight.name})` : ""}`;
  }
  if (!projections) return undefined;
  const { heads, kvHeads, wQ, rope } = projections;
  const groups = Number(kvHeads) && kvHeads !== heads ? `, ${kvHeads} key heads` : "";
  const rotary = rope ? `, rotary θ = ${count(rope.theta || 10000)}` : "";
  const name = wQ?.name ? ` (${wQ.name})` : "";
  return `${heads} heads${groups}, d = ${wQ?.shape?.[1] ?? "?"}${rotary}${name}`;
}

function attentionText(attention) {
  const kind = (attention?.kind ?? "CAUSAL")
    .toLowerCase()
    .replace("attention_kind_unspecified", "causal");
  return Number(attention?.size) ? `${kind}, ${attention.size} tokens` : kind;
}

function shapes(tensors) {
  return tensors?.length
    ? tensors.map(({ shape }) => (shape ?? []).join(" × ")).join("; ")
    : undefined;
}

function heldOutText(job) {
  const fraction = number(job.heldOutFraction) ?? 0;
  return shapes(job.heldOut) ?? (fraction > 0 ? `${fraction} of the calibration batches` : "none");
}

// How long a job or a run has run or waited, and what it waits for.
export function ranText(job) {
  if (job.state === "QUEUED") return waitsText(job);
  const ran = runSeconds(job);
  if (ran !== undefined) {
    return ended(job.state) ? `ran ${duration(ran)}` : `running for ${duration(Math.floor(ran))}`;
  }
  return ended(job.state) ? "not started" : "";
}

// A job that has run before has waited since a time that is not known.
function waitsText({ startTime, createTime, waiting }) {
  const waited = Math.floor(Date.now() / 1000 - seconds(createTime));
  const since = startTime ? "waiting again" : `waiting for ${duration(Math.max(0, waited))}`;
  return [since, waitingText(waiting)].filter(Boolean).join(": ");
}

// Rows [name, text] of a description list; nothing is done where they are as before.
export class DetailsList {
  constructor(list) {
    this.list = list;
  }

  update(rows) {
    const key = JSON.stringify(rows);
    if (key === this.key) return;
    this.key = key;
    this.list.replaceChildren(
      ...rows.map(([name, text]) => el("div", {}, el("dt", {}, name), el("dd", {}, text))),
    );
  }
}

const leaderText = ({ label, step }) =>
  step === undefined ? label : `${label}, at step ${count(step)}`;

export class JobHead {
  constructor(parts) {
    this.parts = parts;
    parts.badge.className = "badge";
    this.details = new DetailsList(parts.details);
  }

  update(model) {
    const { parts } = this;
    const { job } = model;
    setBadge(parts.badge, job.state, job.cancelRequested);
    const over = ended(job.state);
    parts.cancel.hidden = over;
    parts.remove.hidden = !over;
    parts.cancel.disabled = Boolean(job.cancelRequested);
    setText(parts.failure, job.state === "FAILED" ? (job.failure?.message ?? "failed") : "");
    parts.failure.hidden = job.state !== "FAILED";
    this.details.update(describe(job));
    this.updateTiles(model);
    this.tick(job);
  }

  updateTiles(model) {
    const { parts } = this;
    const { leader } = model;
    const best = model.hasHeldOut ? "Best held-out error" : "Best error";
    setText(parts.bestName, ended(model.job.state) || !leader ? best : `${best} so far`);
    setText(parts.best, leader ? figure(leader.error) : NONE);
    setText(parts.bestMethod, leader ? leaderText(leader) : "");
    setText(parts.done, `${(model.job.results ?? []).length} of ${model.methods.size}`);
    setText(parts.pruned, sparsity(model.job.sparsity));
    const running = [...model.methods.values()].find(
      (run) => run.state(model.job.state) === "running",
    );
    setText(parts.left, running ? duration(number(running.progress.remainingSeconds)) : NONE);
    const waiting =
      model.preparing && model.job.state === "RUNNING"
        ? `preparing, ${percent(number(model.preparing.share), 0)}`
        : "";
    setText(parts.leftMethod, running ? `${running.label}, ${figure(running.rate)}/s` : waiting);
  }

  // What changes with the clock.
  tick(job) {
    setText(this.parts.ran, ranText(job));
  }
}
