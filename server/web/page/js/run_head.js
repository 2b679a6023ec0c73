// A run's head: its state, how far it is, what is at work, what was asked for, and its losses.
import { setBadge } from "./badge.js";
import { setText } from "./dom.js";
import {
  bytes,
  clock,
  count,
  duration,
  ended,
  fixed,
  methodText,
  number,
  percent,
  signed,
  sparsity,
  sparsityInWords,
  weightsFolder,
  NONE,
} from "./format.js";
import { DetailsList, ranText } from "./job_details.js";
import { familyOf } from "./run_model.js";

export class RunHead {
  constructor(parts) {
    this.parts = parts;
    parts.badge.className = "badge";
    this.details = new DetailsList(parts.details);
  }

  update(model) {
    const { parts } = this;
    const { run } = model;
    setBadge(parts.badge, run.state, run.cancelRequested);
    parts.cancel.hidden = ended(run.state);
    parts.remove.hidden = !ended(run.state);
    parts.cancel.disabled = Boolean(run.cancelRequested);
    parts.resume.hidden = run.state !== "FAILED" && run.state !== "CANCELLED";
    setText(parts.failure, run.state === "FAILED" ? (run.failure?.message ?? "failed") : "");
    parts.failure.hidden = run.state !== "FAILED";
    setText(parts.asked, askedText(run));
    this.details.update(describe(run));
    this.updateProgress(model);
    this.updateScore(model);
    this.tick(run);
  }

  updateProgress({ run, progress, share, results }) {
    const { parts } = this;
    parts.bar.value = share;
    parts.bar.dataset.state = run.state;
    setText(parts.share, percent(share, share < 0.1 && share > 0 ? 1 : 0));
    setText(parts.done, `${results.size} of ${run.resultsTotal ?? "?"} results`);
    setText(parts.place, progress ? placeText(progress) : NONE);
    setText(parts.work, progress ? workText(progress) : "");
    const left = number(progress?.remainingSeconds);
    setText(parts.left, left > 0 ? duration(left) : NONE);
  }

  // The dense and the pruned model's losses, compared row by row of the same text.
  updateScore(model) {
    const { parts } = this;
    const { score } = model;
    setText(parts.perplexity, score ? perplexities(score) : NONE);
    setText(parts.perplexityNote, score ? "" : scoreToCome(model));
    parts.score.hidden = !score;
    if (!score) return;
    const [dense, pruned] = [number(score.denseNatsPerToken), number(score.prunedNatsPerToken)];
    setText(parts.denseNats, fixed(dense));
    setText(parts.prunedNats, fixed(pruned));
    setText(parts.natsDifference, differenceText(score));
    setText(parts.densePerplexity, fixed(Math.exp(dense)));
    setText(parts.prunedPerplexity, fixed(Math.exp(pruned)));
    setText(parts.perplexityRatio, `× ${fixed(Math.exp(number(score.difference)))}`);
    setText(parts.scoreNote, `On ${count(score.tokens)} predicted tokens of the held-out rows.`);
  }

  // What changes with the clock.
  tick(run) {
    setText(this.parts.ran, ranText(run));
  }
}

// "tiny-llama · alps · 70 % · sequential"
function askedText(run) {
  return [
    weightsFolder(run.labels) ?? familyOf(run.model),
    run.method?.name,
    sparsity(run.sparsity),
    orderText(run.order),
  ]
    .filter(Boolean)
    .join(" · ");
}

const orderText = (order) => (order === "INDEPENDENT" ? "independent" : "sequential");

function placeText({ phase, block, blocks }) {
  if (phase === "READING") return "reading";
  if (["SAMPLING", "ALLOCATING", "MEASURING"].includes(phase)) return "before the blocks";
  if (phase === "DISTILLING") return "behind the blocks";
  if (phase === "SCORING" && block >= blocks) return "losses";
  return `block ${block} of ${blocks}`;
}

// What is done to which maps.
function workText({ phase, maps = [], method, step, steps, block, blocks }) {
  const taken = step > 0 ? `, step ${count(step)} of ${count(steps)}` : "";
  return (
    {
      READING: "the model's tensors",
      COLLECTING: `inputs of ${maps.join(", ")}`,
      PRUNING: `pruning ${maps.join(", ")} by ${method}${taken}`,
      ADVANCING: "on to the next block",
      SAMPLING: "rows that the dense model writes",
      MEASURING: "curvature of the loss, in the dense model",
      ALLOCATING: "outliers by block, in the dense model",
      RECONSTRUCTING: `training what is kept of it${taken}`,
      DISTILLING: `training what is kept${taken}`,
      SCORING: block < blocks ? "scoring" : "of the dense and the pruned model",
    }[phase] ?? ""
  );
}

const perplexities = ({ denseNatsPerToken, prunedNatsPerToken }) =>
  `${fixed(Math.exp(denseNatsPerToken), 2)} → ${fixed(Math.exp(prunedNatsPerToken), 2)}`;

function scoreToCome({ run, hasHeldOut }) {
  if (!hasHeldOut) return "no held-out rows";
  return ended(run.state) ? "" : "at the end";
}

// A single row has no error by row.
function differenceText({ difference, differenceErrorByToken, differenceErrorByRow }) {
  const byRow = number(differenceErrorByRow);
  const rows = byRow > 0 ? `, ± ${fixed(byRow)} by row` : "";
  return `${signed(number(difference))} ± ${fixed(number(differenceErrorByToken))} by token${rows}`;
}

// Rows [name, text] of a run's description; of what does not apply there is none.
function describe(run) {
  const { estimate } = run;
  return [
    ["model", [weightsFolder(run.labels), familyOf(run.model)].filter(Boolean).join(", ")],
    ["method", run.method && methodText(run.method)],
    ["attention method", run.attentionMethod && methodText(run.attentionMethod)],
    ["allocation", allocationText(run.allocation)],
    ["curvature", onText(run.curvature)],
    ["reconstruct", onText(run.reconstruction)],
    ["distill", onText(run.distillation)],
    ["sparsity", sparsityInWords(run.sparsity)],
    ["order", orderText(run.order)],
    ["dense target", number(run.denseTarget) > 0 ? String(run.denseTarget) : undefined],
    ["rules", (run.rules ?? []).map(ruleText).join("; ")],
    ["calibration", rowsText(run.calibration)],
    ["held out", heldOutText(run)],
    ["seed", Number(run.seed) ? String(run.seed) : undefined],
    ["priority", run.priority ? String(run.priority) : undefined],
    ["attempt", run.attempt > 1 ? String(run.attempt) : undefined],
    [
      "estimate",
      estimate &&
        `${duration(number(estimate.seconds))} on one idle thread, ${bytes(estimate.memoryBytes)}, ` +
          `${bytes(estimate.diskBytes)} on disk`,
    ],
    ["created", clock(run.createTime)],
    ...Object.entries(run.labels ?? {}).sort(),
  ].filter(([, text]) => text !== undefined && text !== "");
}

// "owl, outlier 5"; none where every block's sparsity is the run's.
function allocationText(allocation) {
  const [kind, values] = Object.entries(allocation ?? {})[0] ?? [];
  return kind && [kind, ...Object.entries(values).map(([name, value]) => `${name} ${value}`)].join(", ");
}

// "on, labels 32768"; none where the run has none.
function onText(option) {
  return (
    option &&
    ["on", ...Object.entries(option).map(([name, value]) => `${name} ${value}`)].join(", ")
  );
}

function ruleText({ pattern, skip, method, sparsity: asked }) {
  if (skip) return `${pattern} stays dense`;
  const what = [method && `by ${methodText(method)}`, asked && sparsityInWords(asked)];
  return `${pattern} ${what.filter(Boolean).join(", ")}`;
}

function rowsText(tokens) {
  if (!tokens?.ids) return undefined;
  const all = tokens.ids.shape?.[0];
  return `${count(tokens.lengths?.length ?? 0)} rows, ${count(all ?? 0)} tokens`;
}

function heldOutText(run) {
  const fraction = number(run.heldOutFraction) ?? 0;
  return rowsText(run.heldOut) ?? (fraction > 0 ? `${fraction} of the calibration rows` : "none");
}
