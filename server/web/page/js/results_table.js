// The methods that have ended, compared: best first, the best one marked by word and star.
import { filesUrl } from "./api.js";
import { el, icon } from "./dom.js";
import { count, duration, figure, number, percent } from "./format.js";

export class ResultsTable {
  // job: its name.
  constructor(body, job) {
    this.body = body;
    this.job = job;
  }

  update(model) {
    const failed = (model.job.results ?? []).filter((result) => result.failure);
    const ranked = model.ranked;
    this.body.replaceChildren(
      ...ranked.map((result, i) =>
        resultRow(result, i === 0 && ranked.length > 1, this.fileOf(model, result)),
      ),
      ...failed.map(failedRow),
    );
  }

  // Its masks and weights.
  fileOf(model, result) {
    const href = filesUrl(this.job, model.job.results.indexOf(result));
    const title = `Masks and pruned weights of ${result.method}, .safetensors`;
    return el("a", { href, download: true, title, "aria-label": title }, "download");
  }
}

function resultRow(result, best, file) {
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
    el("td", {}, file),
  );
}

function failedRow(result) {
  return el(
    "tr",
    { class: "is-failed" },
    el("th", { scope: "row" }, result.method),
    el("td", { colspan: 10 }, icon("cross"), ` failed: ${result.failure.message}`),
  );
}
