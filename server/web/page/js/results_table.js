// The methods that have ended, compared: best first, the best one marked by word and star.
import { el, icon } from "./dom.js";
import { count, duration, figure, number, percent } from "./format.js";

export class ResultsTable {
  constructor(body) {
    this.body = body;
  }

  update(model) {
    const failed = (model.job.results ?? []).filter((result) => result.failure);
    const ranked = model.ranked;
    this.body.replaceChildren(
      ...ranked.map((result, i) => resultRow(result, i === 0 && ranked.length > 1)),
      ...failed.map(failedRow),
    );
  }
}

function resultRow(result, best) {
  const { calibration, heldOut } = result.relativeError ?? {};
  const scored = result.heldOut ?? result.calibration ?? {};
  const maskOnly = scored.maskOnlyRelativeError ?? scored.relativeError;
  const name = el("th", { scope: "row" }, result.method);
  if (best) name.append(" ", el("span", { class: "best" }, icon("star"), "best"));
  const cell = (text) => el("td", { class: "number" }, text);
  return el(
    "tr",
    { class: best ? "is-best" : null },
    name,
    cell(figure(number(heldOut))),
    cell(figure(number(calibration))),
    cell(figure(number(maskOnly))),
    cell(figure(number(scored.linearError))),
    cell(percent(number(result.sparsity) ?? 0)),
    cell(count(result.steps ?? 0)),
    cell(duration(number(result.seconds) ?? 0)),
    cell(duration(number(result.judgingSeconds) ?? 0)),
    el("td", {}, result.terminationReason ?? ""),
  );
}

function failedRow(result) {
  return el(
    "tr",
    { class: "is-failed" },
    el("th", { scope: "row" }, result.method),
    el("td", { colspan: 9 }, icon("cross"), ` failed: ${result.failure.message}`),
  );
}
