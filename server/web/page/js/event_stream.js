// A job's or a run's events, each exactly once and in order, through any number of broken connections.
import { eventsUrl, probeEvents } from "./api.js";

const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 8000;

// EventSource itself comes back after a broken connection and says where it was (Last-Event-ID). It
// gives up for good when it is answered with an error, as a server that shuts down does: then this
// asks for the reason and opens a new one, after the last event that was seen or, where the log no
// longer reaches back so far, at the log's beginning.
export class EventStream {
  // handlers: onEvent(JobEvent), onConnected(), onLost(), onEnd(); onRefused(ApiError): for good;
  // onSkipped(first, last): the server no longer has these events; events go on when the promise it
  // returns is kept. None is called after close(). name: "jobs/x" or "runs/r-x".
  constructor(name, handlers) {
    this.name = name;
    this.handlers = handlers;
    this.lastSequence = 0;
    this.retryMs = FIRST_RETRY_MS;
    this.open();
  }

  open() {
    const source = new EventSource(eventsUrl(this.name, this.lastSequence));
    this.source = source;
    source.onopen = () => {
      this.retryMs = FIRST_RETRY_MS;
      this.handlers.onConnected();
    };
    source.onmessage = (message) => this.receive(JSON.parse(message.data));
    source.addEventListener("end", () => this.checkEnd(source));
    source.onerror = () => this.lost(source);
  }

  receive(event) {
    const sequence = Number(event.sequence ?? 0);
    if (sequence === 0) return; // a heartbeat
    if (sequence <= this.lastSequence) return; // seen before a reconnect
    this.lastSequence = sequence;
    this.handlers.onEvent(event);
    if (event.terminal) this.end();
  }

  lost(source) {
    this.handlers.onLost();
    if (source.readyState !== EventSource.CLOSED) return; // it comes back by itself
    this.comeBack(source);
  }

  // A run's log goes on behind its end where it was resumed.
  checkEnd(source) {
    source.close();
    this.retryMs = 0;
    this.comeBack(source);
  }

  async comeBack(source) {
    const { refusal, over } = await probeEvents(this.name, this.lastSequence);
    if (this.source !== source) return; // closed meanwhile
    if (over) {
      this.end();
      return;
    }
    if (refusal?.final) {
      this.stop();
      this.handlers.onRefused(refusal);
      return;
    }
    const skipped = refusal?.oldestSequence > this.lastSequence + 1;
    if (skipped && (await this.skipTo(refusal.oldestSequence, source))) return;
    if (this.source !== source) return;
    this.timer = setTimeout(() => this.open(), this.retryMs);
    this.retryMs = Math.min(Math.max(2 * this.retryMs, FIRST_RETRY_MS), LAST_RETRY_MS);
  }

  // False: not now.
  async skipTo(oldest, source) {
    try {
      await this.handlers.onSkipped(this.lastSequence + 1, oldest - 1);
    } catch {
      return false;
    }
    if (this.source !== source) return false;
    this.lastSequence = oldest - 1;
    this.open();
    return true;
  }

  end() {
    this.stop();
    this.handlers.onEnd();
  }

  // For good.
  stop() {
    this.ended = true;
    this.close();
  }

  // Lets go of the connection: a browser has six to a server, for all of its tabs together.
  pause() {
    if (this.ended || this.paused) return;
    this.paused = true;
    this.close();
  }

  // Goes on after the last event that was seen.
  resume() {
    if (!this.paused) return;
    this.paused = false;
    this.open();
  }

  // Goes on after an end.
  restart() {
    if (!this.ended) return;
    this.ended = false;
    this.open();
  }

  close() {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = undefined;
  }
}
