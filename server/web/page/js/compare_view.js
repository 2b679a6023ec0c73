// Jobs side by side: their curves in one chart, their methods in one table, and what differs.
import { get } from "./api.js";
import { Chart } from "./chart.js";
import { setConnection } from "./connection.js";
import { errorLines, lossLines, LOSS_FIGURES } from "./curve_data.js";
import { drawLines } from "./curves_panel.js";
import { el, fromTemplate, setText } from "./dom.js";
import { EventStream } from "./event_stream.js";
import { count, duration, figure, idOf, modelText, number, percent, sparsity } from "./format.js";
import { describe } from "./job_details.js";
import { JobModel, ranking } from "./job_model.js";
import { stateBadge, setBadge } from "./badge.js";

export const MOST_COMPARED = 4;
const FRAME_MS = 250;
const LETTERS = "ABCD";

// One of the jobs, followed: letter and model, undefined until it is known.
class Compared {
  constructor(name, letter, onChange, onTrouble) {
    Object.assign(this, { name, letter, onChange });
    this.early = [];
    this.stream = new EventStream(name, {
      onConnected: () => setConnection("live"),
      onLost: () => setConnection("away"),
      onEnd: () => setConnection("on"),
      onEvent: (event) => this.onEvent(event),
      onSkipped: async () => this.model?.set(await get(name)),
      onRefused: (error) => onTrouble(`There is no more of job ${idOf(name)}: ${error.message}`),
    });
    get(name).then(
      (job) => {
        this.model = new JobModel(job);
        this.early.forEach((event) => this.onEvent(event));
        onChange();
      },
      (error) => onTrouble(`There is no job ${idOf(name)}: ${error.message}`),
    );
  }

  onEvent(event) {
    if (!this.model) {
      this.early.push(event);
      return;
    }
    this.model.apply(event);
    this.onChange();
  }
}

// All methods of all jobs as those of one, by letter: "A gd".
function together(models) {
  const methods = new Map();
  for (const { letter, model } of models) {
    for (const run of model.methods.values()) {
      const label = `${letter} ${run.label}`;
      methods.set(label, Object.assign(Object.create(run), { label }));
    }
  }
  return { methods, hasHeldOut: models.some(({ model }) => model.hasHeldOut) };
}

export class CompareView {
  // query: jobs: ids, by commas.
  constructor(main, query) {
    const { root, parts } = fromTemplate("compare-view");
    main.replaceChildren(root);
    this.parts = parts;
    this.heading = parts.heading;
    this.title = "Compare jobs";
    const ids = [...new Set((query.get("jobs") ?? "").split(",").filter(Boolean))];
    const known = ids.slice(0, MOST_COMPARED).filter((id) => /^[a-z0-9-]+$/.test(id));
    if (known.length < 2) this.trouble("Choose two to four jobs in the queue.");
    this.errorChart = new Chart(parts.errorChart);
    this.lossChart = new Chart(parts.lossChart);
    for (const name of ["xUnit", "logY"]) {
      parts[name].addEventListener("change", () => this.changed());
    }
    this.jobs = known.map(
      (id, i) =>
        new Compared(
          `jobs/${id}`,
          LETTERS[i],
          () => this.changed(),
          (text) => this.trouble(text),
        ),
    );
  }

  trouble(text) {
    setText(this.parts.trouble, text);
  }

  changed() {
    if (this.timer) return;
    this.timer = setTimeout(() => {
      this.timer = undefined;
      if (!this.closed) this.draw();
    }, FRAME_MS);
  }

  draw() {
    const { parts } = this;
    const models = this.jobs.filter(({ model }) => model);
    if (models.length === 0) return;
    const all = together(models);
    const [x, logX] = parts.xUnit.value === "log" ? ["step", true] : [parts.xUnit.value, false];
    const options = { x, logX, logY: parts.logY.checked };
    const sets = all.hasHeldOut ? { heldOut: true } : { calibration: true };
    const errors = errorLines(all, x, () => true, sets);
    const losses = lossLines(all, "loss", x, () => true);
    drawLines(this.errorChart, errors, options, parts.errorEmpty, "relative error");
    drawLines(this.lossChart, losses, options, parts.lossEmpty, LOSS_FIGURES.loss.name);
    parts.jobs.replaceChildren(...models.map(jobItem));
    parts.rows.replaceChildren(...rowsOf(models));
    this.drawDifferences(models);
    parts.body.hidden = false;
  }

  // What is the same of all is said once, in the last rows.
  drawDifferences(models) {
    const described = models.map(({ model }) => new Map(describe(model.job)));
    const asked = (name) => name !== "created" && name !== "estimate";
    const names = [...new Set(described.flatMap((rows) => [...rows.keys()]))].filter(asked);
    const differs = (name) => new Set(described.map((rows) => rows.get(name))).size > 1;
    const row = (name) =>
      el(
        "tr",
        { class: differs(name) ? "differs" : null },
        el("th", { scope: "row" }, name),
        ...described.map((rows) => el("td", {}, rows.get(name) ?? "–")),
      );
    const sorted = [...names.filter(differs), ...names.filter((name) => !differs(name))];
    this.parts.askedHead.replaceChildren(
      el("th", { scope: "col" }, "Asked for"),
      ...models.map(({ letter }) => el("th", { scope: "col" }, letter)),
    );
    this.parts.askedRows.replaceChildren(...sorted.map(row));
  }

  themeChanged() {
    this.errorChart.repaint();
    this.lossChart.repaint();
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
    for (const { stream } of this.jobs) stream.stop();
    this.errorChart.destroy();
    this.lossChart.destroy();
  }
}

function jobItem({ name, letter, model: { job } }) {
  const badge = stateBadge();
  setBadge(badge, job.state, job.cancelRequested);
  const text = [modelText(job.labels), sparsity(job.sparsity)].filter(Boolean).join(" · ");
  return el(
    "li",
    {},
    el("b", {}, letter),
    " ",
    el("a", { href: `#/${name}` }, idOf(name)),
    " ",
    text,
    " ",
    badge,
  );
}

// Best first.
function rowsOf(models) {
  const results = models.flatMap(({ letter, model }) =>
    model.ranked.map((result) => ({ letter, result })),
  );
  results.sort((a, b) => ranking(a.result) - ranking(b.result));
  const cell = (text) => el("td", { class: "number" }, text);
  return results.map(({ letter, result }) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, `${letter} ${result.method}`),
      cell(figure(number(result.relativeError?.heldOut))),
      cell(figure(number(result.relativeError?.calibration))),
      cell(figure(number((result.heldOut ?? result.calibration)?.linearError))),
      cell(percent(number(result.sparsity) ?? 0)),
      cell(count(result.steps ?? 0)),
      cell(duration(number(result.seconds) ?? 0)),
    ),
  );
}
