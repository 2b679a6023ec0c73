// Two charts of a job, the loss and the relative error, with what can be chosen about them.
import { Chart } from "./chart.js";
import { errorLines, lossLines, LOSS_FIGURES } from "./curve_data.js";
import { el, reconcile } from "./dom.js";
import { count, duration, figure } from "./format.js";
import { paintSwatch } from "./theme.js";

const TABLE_ROWS = 12; // of each method in the table of the curves

export class CurvesPanel {
  constructor(parts, onChange) {
    this.parts = parts;
    this.hidden = new Set(); // labels of methods that are not drawn
    this.boxes = new Map();
    this.lossChart = new Chart(parts.lossChart);
    this.errorChart = new Chart(parts.errorChart);
    for (const name of ["lossFigure", "xUnit", "logY", "showCalibration", "showHeldOut"]) {
      parts[name].addEventListener("change", onChange);
    }
    parts.curveTable.addEventListener("toggle", onChange);
    this.onChange = onChange;
  }

  update(model) {
    this.updateMethodBoxes(model);
    const { parts } = this;
    const [x, logX] = parts.xUnit.value === "log" ? ["step", true] : [parts.xUnit.value, false];
    const options = { x, logX, logY: parts.logY.checked };
    const shown = (label) => !this.hidden.has(label);
    const sets = {
      calibration: parts.showCalibration.checked,
      heldOut: model.hasHeldOut && parts.showHeldOut.checked,
    };
    parts.showHeldOut.disabled = !model.hasHeldOut;
    const figureName = parts.lossFigure.value;
    const losses = lossLines(model, figureName, x, shown);
    const errors = errorLines(model, x, shown, sets);
    drawLines(this.lossChart, losses, options, parts.lossEmpty, LOSS_FIGURES[figureName].name);
    drawLines(this.errorChart, errors, options, parts.errorEmpty, "relative error");
    if (parts.curveTable.open) this.updateTable(model);
    return losses.some(({ points }) => points.length > 1);
  }

  updateMethodBoxes(model) {
    let index = 0;
    for (const label of model.methods.keys()) {
      if (!this.boxes.has(label)) this.boxes.set(label, this.makeBox(label, index));
      index += 1;
    }
    reconcile(this.parts.methodBoxes, [...this.boxes.values()]);
  }

  makeBox(label, index) {
    const input = el("input", { type: "checkbox", checked: true });
    input.addEventListener("change", () => {
      if (input.checked) this.hidden.delete(label);
      else this.hidden.add(label);
      this.onChange();
    });
    const swatch = el("span", { class: "swatch", "aria-hidden": "true" });
    paintSwatch(swatch, index);
    return el("label", { class: "check" }, input, swatch, label);
  }

  updateTable(model) {
    const rows = [];
    for (const run of model.methods.values()) {
      const points = run.errors.points;
      const stride = Math.max(1, Math.ceil(points.length / TABLE_ROWS));
      const picked = points.filter((_, i) => (points.length - 1 - i) % stride === 0);
      for (const [step, seconds, calibration, heldOut] of picked) {
        const loss = run.losses.points.findLast((point) => point[0] <= step)?.[2];
        rows.push(
          el(
            "tr",
            {},
            el("th", { scope: "row" }, run.label),
            ...[
              count(step),
              duration(seconds),
              figure(loss),
              figure(calibration),
              figure(heldOut),
            ].map((text) => el("td", { class: "number" }, text)),
          ),
        );
      }
    }
    this.parts.curveRows.replaceChildren(...rows);
  }

  repaint() {
    this.lossChart.repaint();
    this.errorChart.repaint();
  }

  destroy() {
    this.lossChart.destroy();
    this.errorChart.destroy();
  }
}

// Lines on a chart, or what `empty` says in its place.
export function drawLines(chart, lines, options, empty, what) {
  empty.hidden = lines.length > 0;
  chart.box.hidden = lines.length === 0;
  if (lines.length === 0) return;
  chart.update(lines, options);
  const ends = lines.map(
    ({ label, kind, points }) =>
      `${label}${kind === "heldOut" ? " held out" : ""} ${figure(points.at(-1)[1])}`,
  );
  chart.describe(
    `Chart of ${what} by ${options.x}. Latest: ${ends.join(", ")}. Arrow keys read values.`,
  );
}
