// The queue: runs and jobs newest first, by state and label, page by page, looked at every few
// seconds.
import { listJobs, listRuns } from "./api.js";
import { MOST_COMPARED } from "./compare_view.js";
import { setConnection } from "./connection.js";
import { fromTemplate, setText } from "./dom.js";
import { idOf } from "./format.js";
import { JobRow } from "./job_row.js";
import { parseLabels } from "./labels.js";
import { ListSection } from "./list_section.js";
import { Poller } from "./poller.js";
import { RunRow } from "./run_row.js";

export class QueueView {
  // query: URLSearchParams of the address: state, label ("key=value").
  constructor(main, query) {
    const { root, parts } = fromTemplate("queue-view");
    main.replaceChildren(root);
    this.parts = parts;
    this.picked = new Set(); // names of jobs to compare, whichever page they are on
    this.makeSections(parts);
    parts.state.value = query.get("state") ?? "";
    parts.label.value = query.get("label") ?? "";
    parts.state.addEventListener("change", () => this.filter());
    parts.label.addEventListener("change", () => this.filter());
    this.title = "Queue";
    this.heading = parts.heading;
    this.poller = new Poller({
      look: () => this.look(),
      show: ([runs, jobs]) => this.show(runs, jobs),
      fail: (error) => this.fail(error),
    });
    this.poller.refresh();
  }

  makeSections(parts) {
    const onTurn = () => this.poller.refresh();
    this.jobs = new ListSection(parts, {
      list: listJobs,
      makeRow: (job) =>
        new JobRow(job, {
          picked: this.picked.has(job.name),
          onPick: (name, picked) => this.pick(name, picked),
        }),
      onTurn,
    });
    const runParts = {
      table: parts.runTable,
      rows: parts.runRows,
      pages: parts.runPages,
      newer: parts.runNewer,
      older: parts.runOlder,
      page: parts.runPage,
    };
    this.runs = new ListSection(runParts, {
      list: listRuns,
      makeRow: (run) => new RunRow(run),
      onTurn,
    });
  }

  pick(name, picked) {
    if (picked) this.picked.add(name);
    else this.picked.delete(name);
    const { compare } = this.parts;
    const { size } = this.picked;
    const few = size >= 2 && size <= MOST_COMPARED;
    compare.hidden = size === 0;
    if (few) compare.href = `#/compare?jobs=${[...this.picked].map(idOf).join(",")}`;
    else compare.removeAttribute("href");
    setText(
      compare,
      few ? `Compare ${size} jobs` : `${size} chosen: choose 2 to ${MOST_COMPARED} to compare`,
    );
  }

  filter() {
    const query = new URLSearchParams();
    if (this.parts.state.value) query.set("state", this.parts.state.value);
    if (this.parts.label.value.trim()) query.set("label", this.parts.label.value.trim());
    history.replaceState(null, "", `#/${query.size > 0 ? `?${query}` : ""}`);
    this.jobs.reset();
    this.runs.reset();
    this.poller.refresh();
  }

  look() {
    const { state, label } = this.parts;
    const filter = { state: state.value, labels: parseLabels(label.value) };
    return Promise.all([this.runs.ask(filter), this.jobs.ask(filter)]);
  }

  fail(error) {
    if (!error.refused) setConnection("away");
    setText(this.parts.trouble, error.refused ? error.message : "");
  }

  // Who has no runs sees jobs alone.
  show(runs, jobs) {
    const { parts } = this;
    setConnection("on");
    setText(parts.trouble, "");
    this.runs.show(runs.runs ?? [], runs.nextPageToken);
    this.jobs.show(jobs.jobs ?? [], jobs.nextPageToken);
    parts.runSection.hidden = this.runs.empty;
    parts.jobHeading.hidden = this.runs.empty;
    parts.empty.hidden = this.jobs.rows.size > 0;
    const filtered = parts.state.value || parts.label.value.trim();
    parts.hint.hidden = Boolean(filtered);
    setText(parts.emptyText, filtered ? "No job matches." : "No jobs yet.");
  }

  themeChanged() {}

  close() {
    this.poller.close();
  }
}
