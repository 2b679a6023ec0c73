// The queue: jobs newest first, by state and label, page by page, looked at every few seconds.
import { ApiError, listJobs } from "./api.js";
import { setBadge, stateBadge } from "./badge.js";
import { setConnection } from "./connection.js";
import { el, fromTemplate, reconcile, setText } from "./dom.js";
import { ago, clock, duration, ended, figure, jobId, number, sparsity, NONE } from "./format.js";
import { ranking, runSeconds } from "./job_model.js";

const PAGE_SIZE = 20;
const INTERVAL_MS = 2500;

export class QueueView {
  // query: URLSearchParams of the address: state, label ("key=value").
  constructor(main, query) {
    const { root, parts } = fromTemplate("queue-view");
    main.replaceChildren(root);
    this.parts = parts;
    this.rows = new Map();
    this.tokens = [""]; // of this page and those before it
    parts.state.value = query.get("state") ?? "";
    parts.label.value = query.get("label") ?? "";
    parts.state.addEventListener("change", () => this.filter());
    parts.label.addEventListener("change", () => this.filter());
    parts.newer.addEventListener("click", () => this.turn(-1));
    parts.older.addEventListener("click", () => this.turn(1));
    this.onVisible = () => document.visibilityState === "visible" && this.refresh();
    document.addEventListener("visibilitychange", this.onVisible);
    this.title = "Queue";
    this.heading = parts.heading;
    this.refresh();
  }

  filter() {
    const query = new URLSearchParams();
    if (this.parts.state.value) query.set("state", this.parts.state.value);
    if (this.parts.label.value.trim()) query.set("label", this.parts.label.value.trim());
    history.replaceState(null, "", `#/${query.size > 0 ? `?${query}` : ""}`);
    this.tokens = [""];
    this.refresh();
  }

  turn(by) {
    if (by < 0) this.tokens.pop();
    else this.tokens.push(this.next);
    this.refresh();
  }

  async refresh() {
    clearTimeout(this.timer);
    const turn = (this.turnNumber = (this.turnNumber ?? 0) + 1);
    try {
      const answer = await listJobs({
        pageSize: PAGE_SIZE,
        pageToken: this.tokens.at(-1),
        state: this.parts.state.value,
        labels: labelsOf(this.parts.label.value),
      });
      if (turn !== this.turnNumber) return; // asked again meanwhile, or gone
      setConnection("on");
      this.show(answer);
    } catch (error) {
      if (turn !== this.turnNumber) return;
      this.fail(error);
    }
    if (document.visibilityState === "visible") {
      this.timer = setTimeout(() => this.refresh(), INTERVAL_MS);
    }
  }

  fail(error) {
    const refused = error instanceof ApiError && error.status >= 400 && error.status < 500;
    if (!refused) setConnection("away");
    setText(this.parts.trouble, refused ? error.message : "");
  }

  show({ jobs = [], nextPageToken = "" }) {
    const { parts } = this;
    this.next = nextPageToken;
    setText(parts.trouble, "");
    const rows = jobs.map((job) => {
      const row = this.rows.get(job.name) ?? new QueueRow(job);
      row.update(job);
      return [job.name, row];
    });
    this.rows = new Map(rows);
    reconcile(
      parts.rows,
      rows.map(([, row]) => row.node),
    );
    parts.table.hidden = jobs.length === 0;
    parts.empty.hidden = jobs.length > 0;
    const filtered = parts.state.value || parts.label.value.trim();
    parts.hint.hidden = Boolean(filtered);
    setText(parts.emptyText, filtered ? "No job matches." : "No jobs yet.");
    parts.newer.disabled = this.tokens.length === 1;
    parts.older.disabled = !nextPageToken;
    parts.pages.hidden = parts.newer.disabled && parts.older.disabled;
    setText(parts.page, `page ${this.tokens.length}`);
  }

  themeChanged() {}

  close() {
    clearTimeout(this.timer);
    this.turnNumber += 1;
    document.removeEventListener("visibilitychange", this.onVisible);
  }
}

// "a=b, c=d" -> [["a", "b"], ["c", "d"]]; a key alone has the empty value.
function labelsOf(text) {
  return text
    .split(",")
    .map((part) => part.trim())
    .filter(Boolean)
    .map((part) => {
      const [key, ...value] = part.split("=");
      return [key.trim(), value.join("=").trim()];
    });
}

class QueueRow {
  constructor(job) {
    this.badge = stateBadge();
    const id = jobId(job.name);
    const link = el("a", { href: `#/jobs/${encodeURIComponent(id)}` }, id);
    const labels = Object.entries(job.labels ?? {})
      .filter(([key]) => !key.startsWith("attnprune/"))
      .sort()
      .map(([key, value]) => el("li", {}, value === "" ? key : `${key}=${value}`));
    this.done = el("td", { class: "number hide-medium" });
    this.best = el("td", { class: "number" });
    this.time = el("td", { class: "number hide-narrow" });
    this.created = el("td", { class: "number hide-narrow", title: clock(job.createTime) });
    const methods = (job.methods ?? []).map((method) => method.label || method.name);
    this.node = el(
      "tr",
      {},
      el("td", {}, this.badge),
      el(
        "th",
        { scope: "row" },
        link,
        labels.length > 0 ? el("ul", { class: "labels" }, ...labels) : null,
      ),
      el("td", { class: "hide-medium" }, methods.join(", ")),
      this.done,
      el("td", { class: "number hide-narrow" }, sparsity(job.sparsity)),
      this.best,
      this.time,
      this.created,
    );
  }

  update(job) {
    setBadge(this.badge, job.state, job.cancelRequested);
    setText(this.done, `${(job.results ?? []).length} of ${(job.methods ?? []).length}`);
    setText(this.best, bestOf(job));
    setText(this.time, duration(runSeconds(job)));
    setText(this.created, ago(job.createTime));
  }
}

function bestOf(job) {
  const done = (job.results ?? []).filter((result) => !result.failure);
  if (done.length === 0) return NONE;
  const best = done.reduce((a, b) => (ranking(b) < ranking(a) ? b : a));
  return `${figure(number(ranking(best)))} ${best.method}`;
}
