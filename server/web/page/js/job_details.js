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
  number,
  percent,
  seconds,
  sparsity,
  NONE,
} from "./format.js";
import { ranking, runSeconds } from "./job_model.js";

// Rows [name, text] of a job's description; of what does not apply there is none.
export function describe(job) {
  const { problem = {}, estimate } = job;
  return [
    ["model", modelText(job.labels)],
    ["problem", problemText(problem)],
    ["attention", attentionText(problem.attention)],
    ["sparsity", sparsityText(job.sparsity)],
    ["methods", methodsText(job.methods)],
    ["calibration", shapes(job.calibration)],
    ["held out", heldOutText(job)],
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

// The command line's labels: where the weights came from, and which layer they are.
function modelText(labels = {}) {
  const folder = labels["attnprune/weights"]?.split("/").filter(Boolean).at(-1);
  const layer = labels["attnprune/layer"];
  const parts = [folder, layer === undefined ? undefined : `layer ${layer}`];
  return parts.filter(Boolean).join(", ") || undefined;
}

// Half of the field reads N:M as what is kept.
function sparsityText(message) {
  const pattern = message?.nOfM;
  const removed = pattern ? ` (${pattern.n} of every ${pattern.m} weights removed)` : "";
  return sparsity(message) + removed;
}

function methodsText(methods = []) {
  return methods
    .map(({ name, label, parameters = {} }) => {
      const settings = Object.entries(parameters)
        .sort()
        .map(([key, value]) => `${key} = ${value}`);
      return (label || name) + (settings.length > 0 ? ` (${settings.join(", ")})` : "");
    })
    .join("; ");
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

export class JobHead {
  constructor(parts) {
    this.parts = parts;
    parts.badge.className = "badge";
  }

  update(model) {
    const { parts } = this;
    const { job } = model;
    setBadge(parts.badge, job.state, job.cancelRequested);
    const over = ended(job.state);
    parts.cancel.hidden = over;
    parts.cancel.disabled = Boolean(job.cancelRequested);
    setText(parts.failure, job.state === "FAILED" ? (job.failure?.message ?? "failed") : "");
    parts.failure.hidden = job.state !== "FAILED";
    this.updateDetails(job);
    this.updateTiles(model);
    this.tick(job);
  }

  updateDetails(job) {
    const rows = describe(job);
    const key = JSON.stringify(rows);
    if (key === this.key) return;
    this.key = key;
    this.parts.details.replaceChildren(
      ...rows.map(([name, text]) => el("div", {}, el("dt", {}, name), el("dd", {}, text))),
    );
  }

  updateTiles(model) {
    const { parts } = this;
    const [best] = model.ranked;
    setText(parts.bestName, model.hasHeldOut ? "Best held-out error" : "Best error");
    setText(parts.best, best ? figure(ranking(best)) : NONE);
    setText(parts.bestMethod, best?.method ?? "");
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
    const ran = runSeconds(job);
    const queued =
      seconds(job.startTime) === undefined && !ended(job.state)
        ? `waiting for ${duration(Math.floor(Date.now() / 1000 - seconds(job.createTime)))}`
        : "not started";
    setText(
      this.parts.ran,
      ran === undefined
        ? queued
        : `${ended(job.state) ? "ran" : "running for"} ${duration(
            ended(job.state) ? ran : Math.floor(ran),
          )}`,
    );
  }
}
