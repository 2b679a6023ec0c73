// Looks at the server every few seconds while the page is seen, one look after the other.

const INTERVAL_MS = 2500;

export class Poller {
  // look(): a promise of what is there; show(found) and fail(error): what is done with it. Neither
  // is called for a look that a later one has overtaken, nor after close().
  constructor({ look, show, fail }) {
    Object.assign(this, { look, show, fail });
    this.turn = 0;
    this.onVisible = () => document.visibilityState === "visible" && this.refresh();
    document.addEventListener("visibilitychange", this.onVisible);
  }

  // Now, and from now on.
  async refresh() {
    clearTimeout(this.timer);
    const turn = ++this.turn;
    let found, error;
    try {
      found = await this.look();
    } catch (thrown) {
      error = thrown;
    }
    if (turn !== this.turn) return;
    if (error) this.fail(error);
    else this.show(found);
    if (document.visibilityState === "visible") {
      this.timer = setTimeout(() => this.refresh(), INTERVAL_MS);
    }
  }

  close() {
    this.turn += 1;
    clearTimeout(this.timer);
    document.removeEventListener("visibilitychange", this.onVisible);
  }
}
