// A job's events, each exactly once and in order, through any number of broken connections.
import { eventsUrl } from "./api.js";

const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 8000;

// EventSource itself comes back after a broken connection and says where it was (Last-Event-ID). It
// gives up for good when it is answered with an error, as a server that shuts down does: then this
// opens a new one, after the last event that was seen.
export class EventStream {
  // handlers: onEvent(JobEvent), onConnected(), onLost(), onEnd(). None is called after close().
  constructor(id, handlers) {
    this.id = id;
    this.handlers = handlers;
    this.lastSequence = 0;
    this.retryMs = FIRST_RETRY_MS;
    this.open();
  }

  open() {
    this.timer = undefined;
    this.source = new EventSource(eventsUrl(this.id, this.lastSequence));
    this.source.onopen = () => {
      this.retryMs = FIRST_RETRY_MS;
      this.handlers.onConnected();
    };
    this.source.onmessage = (message) => this.receive(JSON.parse(message.data));
    this.source.addEventListener("end", () => this.end());
    this.source.onerror = () => this.lost();
  }

  receive(event) {
    const sequence = Number(event.sequence ?? 0);
    if (sequence === 0) return; // a heartbeat
    if (sequence <= this.lastSequence) return; // seen before a reconnect
    this.lastSequence = sequence;
    this.handlers.onEvent(event);
    if (event.terminal) this.end();
  }

  lost() {
    this.handlers.onLost();
    if (this.source.readyState !== EventSource.CLOSED) return; // it comes back by itself
    this.timer = setTimeout(() => this.open(), this.retryMs);
    this.retryMs = Math.min(2 * this.retryMs, LAST_RETRY_MS);
  }

  end() {
    this.ended = true;
    this.close();
    this.handlers.onEnd();
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

  close() {
    clearTimeout(this.timer);
    this.source.close();
  }
}
