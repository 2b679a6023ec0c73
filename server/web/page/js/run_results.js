// All that a run has given, a row each: tensors, and what stands between them (rows that the model
// wrote, curvature, trainings), with a filter and links to their files.
import { filesUrl, get } from "./api.js";
import { el, reconcile, setText } from "./dom.js";
import { count, duration, figure, number, percent } from "./format.js";
import { judgedError, resultKey } from "./run_model.js";

// {what, method, pruned, error, steps, seconds} of a result's parts; undefined: it has none.
export function rowsOf(result) {
  const { block, tensors = [], sampledRows, measuredCurvature, reconstructed, distilled } = result;
  const seconds = number(result.seconds);
  const rows = tensors.map((tensor) => ({
    what: `${tensor.name}`,
    where: `block ${block}: ${(tensor.maps ?? []).join(", ")}`,
    method: tensor.method,
    pruned: number(tensor.sparsity),
    error: judgedError(tensor),
    steps: tensor.steps,
    seconds: number(tensor.seconds),
  }));
  if (sampledRows) {
    rows.push({
      what: "sampled rows",
      where: "before the blocks",
      method: "the dense model",
      seconds,
      note: `${count(sampledRows.shape?.[0] ?? 0)} tokens`,
    });
  }
  if (measuredCurvature) {
    const { rows: from, tokens, draws } = measuredCurvature;
    rows.push({
      what: "curvature",
      where: "before the blocks",
      method: "the dense model",
      seconds,
      note: `${count(from)} rows, ${count(tokens)} tokens, ${draws} draws`,
    });
  }
  if (reconstructed)
    rows.push(training("reconstruction", `block ${block}`, reconstructed, seconds));
  if (distilled) rows.push(training("distillation", "behind the blocks", distilled, seconds));
  return rows;
}

function training(what, where, trained, seconds) {
  const { steps = 0, bestStep = 0, startLoss, bestLoss } = trained;
  const best = bestStep > 0 ? `best after step ${count(bestStep)}` : "the start was best";
  return {
    what,
    where,
    method: "Adam",
    steps,
    seconds,
    note: `loss ${figure(number(startLoss))} → ${figure(number(bestLoss))}, ${best}`,
  };
}

const hasFile = ({ tensors = [], sampledRows, reconstructed, distilled }) =>
  tensors.length > 0 ||
  Boolean(sampledRows) ||
  [reconstructed, distilled].some((trained) => trained?.weights?.length > 0);

// What comes before the blocks has the number of all of them as its block.
const orderOf = ({ block, sampledRows, measuredCurvature }) =>
  sampledRows || measuredCurvature ? -1 : block;

export class RunResults {
  constructor(parts, name) {
    this.parts = parts;
    this.name = name;
    this.rows = new Map(); // by place and name
    parts.resultFilter.addEventListener("input", () => this.show());
    parts.resultList.addEventListener("toggle", () => this.show());
  }

  update(model) {
    this.model = model;
    this.parts.resultSection.hidden = model.results.size === 0;
    setText(this.parts.resultCount, `All ${count(model.results.size)} results and their files`);
    this.show();
  }

  show() {
    const { parts, model } = this;
    if (!model || !parts.resultList.open) return;
    const filter = parts.resultFilter.value.trim().toLowerCase();
    const shown = [];
    const results = [...model.results.values()].sort((a, b) => orderOf(a) - orderOf(b));
    results.forEach((result) => {
      rowsOf(result).forEach((row) => {
        const text = `${row.what} ${row.where} ${row.method} ${row.note ?? ""}`.toLowerCase();
        if (!filter.split(/\s+/).every((word) => text.includes(word))) return;
        const key = `${row.where} ${row.what}`;
        if (!this.rows.has(key)) this.rows.set(key, this.makeRow(row, result));
        shown.push(this.rows.get(key));
      });
    });
    reconcile(parts.resultRows, shown);
  }

  // The server counts results by block, this page as they come: the file's number is looked up.
  async fetchFile(result) {
    try {
      const { results = [] } = await get(this.name);
      const index = results.findIndex((known) => resultKey(known) === resultKey(result));
      if (index >= 0) location.assign(filesUrl(this.name, index));
    } catch (error) {
      setText(this.parts.trouble, `No file: ${error.message}`);
    }
  }

  makeRow(row, result) {
    const cell = (text, hidden = "") => el("td", { class: `number${hidden}` }, text);
    const line = (text) => (text ? el("span", { class: "place" }, text) : null);
    const save = () => this.fetchFile(result);
    const link = hasFile(result)
      ? el(
          "button",
          { type: "button", class: "link", "aria-label": `File of ${row.what}`, onclick: save },
          "file",
        )
      : "";
    return el(
      "tr",
      {},
      el("th", { scope: "row" }, row.what, line(row.where), line(row.note)),
      el("td", { class: "hide-narrow" }, row.method),
      cell(row.pruned === undefined ? "" : percent(row.pruned)),
      cell(row.error === undefined ? "" : figure(row.error)),
      cell(row.steps ? count(row.steps) : "", " hide-narrow"),
      cell(row.seconds === undefined ? "" : duration(row.seconds), " hide-narrow"),
      el("td", {}, link),
    );
  }
}
