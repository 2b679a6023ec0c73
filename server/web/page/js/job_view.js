// One job, live: its events go into a JobModel as they come; the screen follows at its own pace.
import { getJob } from "./api.js";
import { announce } from "./announcer.js";
import { askToCancel } from "./cancel_dialog.js";
import { setConnection } from "./connection.js";
import { CurvesPanel } from "./curves_panel.js";
import { DensityPanel } from "./density_panel.js";
import { fromTemplate, setText } from "./dom.js";
import { EventStream } from "./event_stream.js";
import { ended, figure, STATES } from "./format.js";
import { HeatMap } from "./heat_map.js";
import { JobHead } from "./job_details.js";
import { JobModel, ranking } from "./job_model.js";
import { MethodsPanel } from "./methods_panel.js";
import { Notices } from "./notices.js";
import { ResultsTable } from "./results_table.js";

const FRAME_MS = 100; // between two drawings at least,
const REST = 4; // and so many times what the last one took
const RETRY_MS = 2000;
const HIDDEN_MS = 30000; // a tab that is hidden for so long follows no more until it is seen again

export class JobView {
  constructor(main, id) {
    const { root, parts } = fromTemplate("job-view");
    main.replaceChildren(root);
    this.id = id;
    this.title = `Job ${id}`;
    this.parts = parts;
    this.heading = parts.heading;
    setText(parts.heading, id);
    setText(parts.fetchCommand, `attnprune watch jobs/${id}`);
    this.early = []; // events that came before the job
    this.follow();
    this.load();
  }

  follow() {
    this.stream = new EventStream(this.id, {
      onConnected: () => setConnection("live"),
      onLost: () => setConnection("away"),
      onEnd: () => setConnection("on"),
      onEvent: (event) => this.onEvent(event),
      onSkipped: (first, last) => this.skip(first, last),
      onRefused: (error) => this.giveUp(error),
    });
    this.onVisibility = () => this.visibilityChanged();
    document.addEventListener("visibilitychange", this.onVisibility);
  }

  // The job itself says which methods there are and what has come out so far.
  async load() {
    let job;
    try {
      job = await getJob(this.id);
    } catch (error) {
      if (!this.closed) this.cannotLoad(error);
      return;
    }
    if (!this.closed) this.start(job);
  }

  cannotLoad(error) {
    if (error.final) {
      this.giveUp(error);
      return;
    }
    setConnection("away");
    this.timer = setTimeout(() => this.load(), RETRY_MS);
  }

  // These events are gone. What they said of states and results is in the job itself; of their curves
  // nothing is left.
  async skip(first, last) {
    if (!this.model) return; // load() is about to know
    this.model.setJob(await getJob(this.id));
    this.model.note({ time: new Date().toISOString() }, "warning", gap(first, last));
    this.changed("results");
  }

  // The server has answered, and would not answer otherwise if it were asked again.
  giveUp(error) {
    this.stream.stop();
    this.gone = true;
    clearInterval(this.clock);
    setConnection("on");
    setText(this.parts.trouble, lastWords(this.id, error, this.model !== undefined));
    if (this.model) this.changed();
  }

  start(job) {
    this.model = new JobModel(job);
    this.makePanels();
    this.parts.body.hidden = false;
    this.changed("results");
    this.clock = setInterval(() => this.head.tick(this.model.job), 1000);
    this.early.forEach((event) => this.onEvent(event));
  }

  visibilityChanged() {
    clearTimeout(this.hiddenTimer);
    if (document.visibilityState === "visible") this.stream.resume();
    else this.hiddenTimer = setTimeout(() => this.stream.pause(), HIDDEN_MS);
  }

  makePanels() {
    const { parts } = this;
    const redraw = () => this.changed();
    this.head = new JobHead(parts);
    this.methods = new MethodsPanel(parts.methodRows);
    this.curves = new CurvesPanel(parts, redraw);
    this.results = new ResultsTable(parts.resultRows);
    this.heat = new HeatMap(parts, () => this.heat.update(this.model));
    this.densities = new DensityPanel(parts, this.id);
    this.notices = new Notices(parts.notices);
    parts.cancel.addEventListener("click", () =>
      askToCancel(this.id, (answer) => {
        this.model.job.cancelRequested = true;
        if (ended(answer.state)) this.model.setJob(answer);
        this.changed();
      }),
    );
  }

  onEvent(event) {
    if (!this.model) {
      this.early.push(event);
      return;
    }
    const kind = this.model.apply(event);
    document.dispatchEvent(new CustomEvent("attnprune:event", { detail: event }));
    this.tell(kind, event);
    this.changed(kind === "result" || kind === "terminal" ? "results" : undefined);
  }

  tell(kind, event) {
    if (kind === "state") announce(`Job ${STATES[event.stateChange.state]?.word ?? "changed"}.`);
    if (kind === "result" && !event.methodResult.failure) {
      announce(
        `${event.methodResult.method} done, relative error ${figure(ranking(event.methodResult))}.`,
      );
    }
    if (kind === "warning") announce(this.model.notices.at(-1).text);
    if (kind === "terminal") announce(`Job ${STATES[event.terminal.state]?.word ?? "ended"}.`);
  }

  // Something has changed: draws with the next frame, but leaves the processor its rest. A hidden
  // tab gets no frames; its model goes on.
  changed(what) {
    if (what === "results") this.resultsChanged = true;
    if (this.waiting) return;
    this.waiting = true;
    const passed = performance.now() - (this.drawnAt ?? 0);
    const rest = this.marked ? Math.max(FRAME_MS, REST * this.cost) : 0; // the first curve waits not
    setTimeout(() => requestAnimationFrame(() => this.draw()), Math.max(0, rest - passed));
  }

  draw() {
    if (this.closed) return;
    this.waiting = false;
    const begin = performance.now();
    const { model } = this;
    this.head.update(model);
    if (this.gone) this.parts.cancel.hidden = true;
    this.methods.update(model);
    const curve = this.curves.update(model);
    this.notices.update(model);
    if (curve && !this.marked) {
      this.marked = true;
      afterPaint(() => performance.mark("attnprune:first-curve"));
    }
    this.drawnAt = performance.now();
    this.cost = this.drawnAt - begin;
    if (this.resultsChanged) afterPaint(() => this.drawResults());
  }

  drawResults() {
    if (this.closed) return;
    this.resultsChanged = false;
    this.parts.results.hidden = (this.model.job.results ?? []).length === 0;
    this.results.update(this.model);
    this.heat.update(this.model);
    this.densities.update(this.model);
  }

  // Whether the screen shows all that the model knows.
  get drawn() {
    return !this.waiting && !this.resultsChanged;
  }

  themeChanged() {
    this.curves?.repaint();
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
    clearTimeout(this.hiddenTimer);
    document.removeEventListener("visibilitychange", this.onVisibility);
    clearInterval(this.clock);
    this.stream.close();
    this.curves?.destroy();
  }
}

const gap = (first, last) => `events ${first} to ${last} are no longer kept by the server`;

function lastWords(id, { status, message }, known) {
  if (status !== 404 && status !== 400) return `The server says no more of job ${id} (${message}).`;
  if (!known) return `There is no job ${id} (${message}).`;
  return `There is no job ${id} any more (${message}); this is the last that was known of it.`;
}

// From within an animation frame: once what it drew is on the screen.
function afterPaint(then) {
  setTimeout(then);
}
