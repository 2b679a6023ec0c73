// What the page knows of a job: built from the job and its events, with nothing of the screen.
import { ended, modelText, number, seconds } from "./format.js";
import { Series } from "./series.js";

const RATE_WINDOW_S = 3; // of solving time, that steps a second are taken over

export class MethodRun {
  constructor(label) {
    this.label = label;
    this.progress = undefined; // the newest
    this.phase = undefined; // {share} while its result is judged
    this.result = undefined;
    this.losses = new Series(); // [step, seconds, attention loss, soft error, gradient norm]
    this.errors = new Series(); // [step, seconds, calibration error, held-out error or undefined]
    this.recent = []; // [step, seconds] that the rate is taken from
  }

  addProgress(progress) {
    this.progress = progress;
    this.phase = undefined;
    const { step, elapsedSeconds } = progress;
    this.losses.add([
      step,
      elapsedSeconds,
      number(progress.attentionLoss),
      number(progress.softRelativeError),
      number(progress.gradientNorm),
    ]);
    if (progress.calibrationError !== undefined) {
      this.errors.add([
        step,
        elapsedSeconds,
        number(progress.calibrationError),
        number(progress.heldOutError),
      ]);
    }
    this.addToRate(step, elapsedSeconds);
  }

  addToRate(step, elapsed) {
    const recent = this.recent;
    if (recent.length > 0 && recent.at(-1)[0] >= step) recent.length = 0; // back at a checkpoint
    if (recent.length > 1 && elapsed - recent.at(-2)[1] < RATE_WINDOW_S / 10) recent.pop();
    recent.push([step, elapsed]);
    while (recent.length > 2 && elapsed - recent[1][1] >= RATE_WINDOW_S) recent.shift();
  }

  // Steps a second lately, or over the whole run when it has ended; undefined before it is known.
  get rate() {
    if (this.result) {
      const { steps, seconds } = this.result;
      return steps > 0 && seconds > 0 ? steps / seconds : undefined;
    }
    if (this.recent.length < 2) return undefined;
    const [first, last] = [this.recent[0], this.recent.at(-1)];
    return last[1] > first[1] ? (last[0] - first[0]) / (last[1] - first[1]) : undefined;
  }

  // "waiting", "running", "judging", "done", "failed", or "not finished" (the job ended before it
  // did).
  state(jobState) {
    if (this.result) return this.result.failure ? "failed" : "done";
    if (ended(jobState)) return "not finished";
    if (this.phase && jobState === "RUNNING") return "judging";
    return this.progress && jobState === "RUNNING" ? "running" : "waiting";
  }
}

// The error that methods are ranked by: on held-out data where there is any.
export function ranking(result) {
  return (
    number(result.relativeError?.heldOut) ?? number(result.relativeError?.calibration) ?? Infinity
  );
}

// From the first start to the end, or until now.
export function runSeconds(job, now = Date.now() / 1000) {
  const start = seconds(job.startTime);
  if (start === undefined) return undefined;
  const end = seconds(job.endTime) ?? (ended(job.state) ? undefined : now);
  return end === undefined ? undefined : Math.max(0, end - start);
}

export class JobModel {
  constructor(job) {
    this.methods = new Map();
    this.preparing = undefined; // {share} of what all methods wait for
    this.notices = []; // {time, text, kind}: states and warnings, oldest first
    this.eventCount = 0;
    this.lastSequence = 0;
    this.set(job);
  }

  set(job) {
    this.job = job;
    for (const method of job.methods ?? []) this.run(method.label || method.name);
    for (const result of job.results ?? []) this.run(result.method).result = result;
  }

  get thing() {
    return this.job;
  }

  get title() {
    return modelText(this.job.labels);
  }

  run(label) {
    if (!this.methods.has(label)) this.methods.set(label, new MethodRun(label));
    return this.methods.get(label);
  }

  // Returns which kind of event it was.
  apply(event) {
    this.eventCount += 1;
    this.lastSequence = Number(event.sequence);
    if (event.progress) return this.onProgress(event.progress);
    if (event.phase) return this.onPhase(event.phase);
    if (event.methodResult) return this.onResult(event);
    if (event.stateChange) return this.onState(event);
    if (event.warning !== undefined) return this.note(event, "warning", event.warning);
    if (event.terminal) return this.onTerminal(event);
    return "unknown";
  }

  onPhase(phase) {
    if (phase.method) this.run(phase.method).phase = phase;
    else this.preparing = number(phase.share) < 1 ? phase : undefined;
    return "progress";
  }

  onProgress(progress) {
    this.run(progress.method).addProgress(progress);
    return "progress";
  }

  onResult({ time, methodResult: result }) {
    this.run(result.method).result = result;
    const results = (this.job.results ??= []);
    const index = results.findIndex((known) => known.method === result.method);
    if (index < 0) results.push(result);
    else results[index] = result;
    if (result.failure) {
      this.note({ time }, "warning", `${result.method} failed: ${result.failure.message}`);
    }
    return "result";
  }

  onState({ time, stateChange: change }) {
    if (!ended(this.job.state)) {
      // a replayed log speaks of the past
      this.job.state = change.state;
      if (change.attempt) this.job.attempt = change.attempt;
      if (change.state === "RUNNING") this.job.startTime ??= time;
      if (change.state !== "QUEUED") this.job.waiting = undefined;
    }
    const attempt = change.attempt > 1 ? `, attempt ${change.attempt}` : "";
    const reason = change.reason ? `: ${change.reason}` : "";
    return this.note({ time }, "state", `${change.state.toLowerCase()}${attempt}${reason}`);
  }

  onTerminal({ time, terminal }) {
    this.set(terminal);
    const why = terminal.failure?.message;
    this.note(
      { time },
      terminal.state === "FAILED" ? "warning" : "state",
      `${terminal.state.toLowerCase()}${why ? `: ${why}` : ""}`,
    );
    return "terminal";
  }

  note({ time }, kind, text) {
    this.notices.push({ time, kind, text });
    return kind;
  }

  get hasHeldOut() {
    return (this.job.heldOut ?? []).length > 0 || number(this.job.heldOutFraction) > 0;
  }

  // {label, error, step}: of results and of methods that run the one whose error is least by now;
  // step: of a method that runs. undefined: there is none yet.
  get leader() {
    const candidates = [...this.methods.values()].map((run) => {
      if (run.result)
        return { label: run.label, error: run.result.failure ? Infinity : ranking(run.result) };
      const [step, , calibration, heldOut] = run.errors.last ?? [];
      return { label: run.label, error: heldOut ?? calibration ?? Infinity, step };
    });
    const least = candidates.reduce((a, b) => (b.error < a.error ? b : a), { error: Infinity });
    return Number.isFinite(least.error) ? least : undefined;
  }

  // Results that did not fail, best first.
  get ranked() {
    return (this.job.results ?? [])
      .filter((result) => !result.failure)
      .sort((a, b) => ranking(a) - ranking(b));
  }
}
