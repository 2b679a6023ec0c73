// What the page knows of a run: built from the run and its events, with nothing of the screen.
import { ended, number, weightsFolder } from "./format.js";
import { Series } from "./series.js";

// Linear maps of a block, in the order of the forward pass.
export const ROLES = ["q", "k", "v", "o", "gate", "up", "down"];

export class RunModel {
  constructor(run) {
    this.results = new Map(); // by resultKey, in their order
    this.progress = undefined; // the newest of the attempt that is running
    this.curve = undefined; // {what, method, losses: Series of [step, loss]}: what took steps last
    this.notices = []; // {time, text, kind}: states and warnings, oldest first
    this.eventCount = 0;
    this.lastSequence = 0;
    this.askedBlocks = blocksOf(run.model);
    this.set(run);
  }

  set(run) {
    this.run = run;
    for (const result of run.results ?? []) this.results.set(resultKey(result), result);
    if (run.state !== "RUNNING") this.progress = undefined;
  }

  get thing() {
    return this.run;
  }

  get title() {
    return weightsFolder(this.run.labels) ?? familyOf(this.run.model);
  }

  // Returns which kind of event it was.
  apply(event) {
    this.eventCount += 1;
    this.lastSequence = Number(event.sequence);
    if (event.runProgress) return this.onProgress(event.runProgress);
    if (event.runResult) return this.onResult(event.runResult);
    if (event.stateChange) return this.onState(event);
    if (event.warning !== undefined) return this.note(event, "warning", event.warning);
    if (event.runTerminal) return this.onTerminal(event);
    return "unknown";
  }

  onProgress(progress) {
    if (!ended(this.run.state)) this.progress = progress;
    const trains = ["PRUNING", "RECONSTRUCTING", "DISTILLING"].includes(progress.phase);
    if (trains && progress.step > 0) this.addToCurve(progress);
    return "progress";
  }

  addToCurve({ phase, block, maps = [], method, step, loss }) {
    const ofBlock = maps.length > 0 ? `block ${block}, ${maps.join(", ")}` : `what is kept of block ${block}`;
    const what = phase === "DISTILLING" ? "what is kept of the model" : ofBlock;
    const by = method || (phase === "DISTILLING" ? "distillation" : "reconstruction");
    const key = JSON.stringify([what, by]);
    if (this.curve?.key !== key) this.curve = { key, what, method: by, losses: new Series() };
    this.curve.losses.add([step, number(loss)]);
  }

  onResult(result) {
    this.results.set(resultKey(result), result);
    return "result";
  }

  onState({ time, stateChange: change }) {
    if (isNews(this.run, time, change)) {
      if (ended(this.run.state)) this.forgetEnd();
      this.run.state = change.state;
      this.run.attempt = change.attempt;
      this.progress = undefined;
      if (change.state === "RUNNING") this.run.startTime ??= time;
      if (change.state !== "QUEUED") this.run.waiting = undefined;
    }
    const attempt = change.attempt > 1 ? `, attempt ${change.attempt}` : "";
    const reason = change.reason ? `: ${change.reason}` : "";
    return this.note({ time }, "state", `${change.state.toLowerCase()}${attempt}${reason}`);
  }

  // It was resumed.
  forgetEnd() {
    const cleared = { startTime: undefined, endTime: undefined, failure: undefined };
    Object.assign(this.run, cleared, { cancelRequested: false });
  }

  // The run as it was when the server read the log: of an end before it was resumed, it may say that
  // it goes on, or be older than what is known.
  onTerminal({ time, runTerminal: run }) {
    if (!ended(run.state) || run.attempt < this.run.attempt) return "state";
    this.set(run);
    const why = run.failure?.message;
    const kind = run.state === "FAILED" ? "warning" : "state";
    this.note({ time }, kind, `${run.state.toLowerCase()}${why ? `: ${why}` : ""}`);
    return "terminal";
  }

  note({ time }, kind, text) {
    this.notices.push({ time, kind, text });
    return kind;
  }

  get tensors() {
    return [...this.results.values()].flatMap(({ block, tensors = [] }) =>
      tensors.map((tensor) => ({ block, tensor })),
    );
  }

  get hasHeldOut() {
    return Boolean(this.run.heldOut?.ids) || number(this.run.heldOutFraction) > 0;
  }

  // Of the whole run, 0 to 1.
  get share() {
    const { state, resultsTotal } = this.run;
    if (state === "SUCCEEDED") return 1;
    if (this.progress) return Math.min(1, Math.max(0, number(this.progress.share)));
    return resultsTotal > 0 ? Math.min(1, this.results.size / resultsTotal) : 0;
  }

  // ModelScore; undefined before there is one.
  get score() {
    return [...this.results.values()].findLast(({ modelScore }) => modelScore)?.modelScore;
  }

  // How many blocks the model has, as far as that is known.
  get blocks() {
    const seen = this.tensors.map(({ block }) => block + 1);
    return Math.max(this.progress?.blocks ?? 0, this.askedBlocks, ...seen);
  }
}

// A replayed log speaks of the past: of earlier attempts, and of what came before the end.
function isNews(run, time, { attempt }) {
  if (attempt < run.attempt) return false;
  return !ended(run.state) || Date.parse(time) > Date.parse(run.endTime);
}

// A tensor, the end of a block or the end of the run: each has one result, whatever is resumed.
export function resultKey({ block, tensors = [], modelScore, ...other }) {
  const kinds = [modelScore, other.measuredCurvature, other.sampledRows, other.reconstructed, other.distilled];
  return JSON.stringify([block, tensors.map(({ name }) => name), ...kinds.map(Boolean)]);
}

// Whether a result is of no tensor, no block's end and no loss: of what precedes or follows them.
export function isBetweenTensors({ blockSparsities, measuredCurvature, sampledRows, reconstructed, distilled }) {
  const others = measuredCurvature ?? sampledRows ?? reconstructed ?? distilled;
  return blockSparsities?.length > 0 || Boolean(others);
}

// The error that people look at: on held-out rows where there are any.
export function judgedError(tensor) {
  return number(tensor.heldOutError) ?? number(tensor.calibrationError);
}

function configOf(model) {
  try {
    return JSON.parse(model?.config ?? "{}") ?? {};
  } catch {
    return {};
  }
}

const MOST_BLOCKS = 10000; // of a number that somebody's file says

function blocksOf(model) {
  const config = configOf(model);
  const text = config.text_config ?? {};
  const names = ["num_hidden_layers", "n_layer", "n_layers", "num_layers"];
  const found = names.map((name) => config[name] ?? text[name]).find(Number.isInteger) ?? 0;
  return Math.min(found, MOST_BLOCKS);
}

// The model's type as its config.json names it; undefined where that does not.
export function familyOf(model) {
  const family = configOf(model).model_type;
  return typeof family === "string" && family ? family : undefined;
}
