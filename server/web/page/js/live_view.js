// One job or run, live: its events go into a model as they come; the screen follows at its own pace.
import { get } from "./api.js";
import { askToCancel, askToDelete } from "./cancel_dialog.js";
import { setConnection } from "./connection.js";
import { el, fromTemplate, setText } from "./dom.js";
import { EventStream } from "./event_stream.js";
import { ended, idOf } from "./format.js";

const FRAME_MS = 100; // between two drawings at least,
const REST = 4; // and so many times what the last one took
const RETRY_MS = 2000;
const QUEUE_MS = 2500; // between two looks at the queue of what waits in it
const HIDDEN_MS = 30000; // a tab that is hidden for so long follows no more until it is seen again

// A view of something is a subclass with
//   makeModel(thing): a model with set(thing), apply(event), note(event, kind, text) and `thing`;
//   makePanels(), and closePanels() if there are any by then;
//   drawPanels(): whether a curve is on the screen; drawResults(): what changes with results alone;
//   tick(): what changes with the clock; tell(kind, event): announces what people must hear of.
export class LiveView {
  // word: "job" or "run"; name: "jobs/x" or "runs/r-x".
  constructor(main, { word, name, template }) {
    const { root, parts } = fromTemplate(template);
    main.replaceChildren(root);
    this.word = word;
    this.name = name;
    this.title = `${word[0].toUpperCase()}${word.slice(1)} ${idOf(name)}`;
    this.parts = parts;
    this.heading = parts.heading;
    setText(parts.heading, idOf(name));
    this.early = []; // events that came before the thing itself
    this.follow();
    this.load();
  }

  follow() {
    this.stream = new EventStream(this.name, {
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

  // The job or run itself says what is asked for and what has come out so far.
  async load() {
    let thing;
    try {
      thing = await get(this.name);
    } catch (error) {
      if (!this.closed) this.cannotLoad(error);
      return;
    }
    if (!this.closed) this.start(thing);
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
    this.model.set(await get(this.name));
    this.model.note({ time: new Date().toISOString() }, "warning", gap(first, last));
    this.changed("results");
  }

  // The server has answered, and would not answer otherwise if it were asked again.
  giveUp(error) {
    this.stream.stop();
    this.gone = true;
    clearInterval(this.clock);
    clearInterval(this.queueClock);
    setConnection("on");
    setText(
      this.parts.trouble,
      lastWords(`${this.word} ${idOf(this.name)}`, error, this.model !== undefined),
    );
    if (this.model) this.changed();
  }

  start(thing) {
    this.model = this.makeModel(thing);
    this.makePanels();
    this.parts.cancel.addEventListener("click", () =>
      askToCancel(this.name, (answer) => {
        this.model.thing.cancelRequested = true;
        if (ended(answer.state)) this.model.set(answer);
        this.changed();
      }),
    );
    this.parts.remove.addEventListener("click", () =>
      askToDelete(this.name, () => {
        location.hash = "#/";
      }),
    );
    this.parts.clone.href = `#/new?from=${this.name}`;
    this.nameHeading(this.model.title);
    this.parts.body.hidden = false;
    this.changed("results");
    this.clock = setInterval(() => this.tick(), 1000);
    this.queueClock = setInterval(() => this.lookAtQueue(), QUEUE_MS);
    this.early.forEach((event) => this.onEvent(event));
  }

  // By what is pruned, where that is known, with the id below.
  nameHeading(title) {
    if (!title) return;
    this.heading.replaceChildren(title, " ", el("small", {}, idOf(this.name)));
    this.title = `${title} · ${idOf(this.name)}`;
    document.title = `${this.title} · attnprune`;
  }

  // What a queued job or run waits for changes without an event. That the server is away, the
  // stream says.
  async lookAtQueue() {
    if (this.model.thing.state !== "QUEUED" || document.visibilityState !== "visible") return;
    const { state, waiting } = await get(this.name).catch(() => ({}));
    if (state === "QUEUED") this.model.thing.waiting = waiting;
  }

  visibilityChanged() {
    clearTimeout(this.hiddenTimer);
    if (document.visibilityState === "visible") this.stream.resume();
    else this.hiddenTimer = setTimeout(() => this.stream.pause(), HIDDEN_MS);
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

  // Something has changed: draws with the next frame, but leaves the processor its rest. A hidden
  // tab gets no frames; its model goes on.
  changed(what) {
    if (what === "results") this.resultsChanged = true;
    if (this.waiting) return;
    this.waiting = true;
    const passed = performance.now() - (this.drawnAt ?? 0);
    const rest = this.hurried ? 0 : Math.max(FRAME_MS, REST * this.cost);
    setTimeout(() => requestAnimationFrame(() => this.draw()), Math.max(0, rest - passed));
  }

  draw() {
    if (this.closed) return;
    this.waiting = false;
    const begin = performance.now();
    const curve = this.drawPanels();
    if (this.gone) this.parts.cancel.hidden = this.parts.remove.hidden = true;
    if (curve && !this.marked) {
      this.marked = true;
      afterPaint(() => performance.mark("attnprune:first-curve"));
    }
    this.drawnAt = performance.now();
    this.cost = this.drawnAt - begin;
    if (this.resultsChanged) afterPaint(() => this.catchUp());
  }

  catchUp() {
    if (this.closed) return;
    this.resultsChanged = false;
    this.drawResults();
  }

  // The first curve of a job waits not; before the first drawing there is nothing to wait for.
  get hurried() {
    return this.drawnAt === undefined || (this.word === "job" && !this.marked);
  }

  // Whether the screen shows all that the model knows.
  get drawn() {
    return !this.waiting && !this.resultsChanged;
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
    clearTimeout(this.hiddenTimer);
    document.removeEventListener("visibilitychange", this.onVisibility);
    clearInterval(this.clock);
    clearInterval(this.queueClock);
    this.stream.close();
    this.closePanels();
  }
}

const gap = (first, last) => `events ${first} to ${last} are no longer kept by the server`;

function lastWords(thing, { status, message }, known) {
  if (status !== 404 && status !== 400) return `The server says no more of ${thing} (${message}).`;
  if (!known) return `There is no ${thing} (${message}).`;
  return `There is no ${thing} any more (${message}); this is the last that was known of it.`;
}

// From within an animation frame: once what it drew is on the screen.
function afterPaint(then) {
  setTimeout(then);
}
