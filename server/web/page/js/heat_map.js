// Each query head's relative error as a coloured table: rows are methods, columns heads. The
// numbers are its cells' text; of many heads only the colours are seen, and the numbers hovered or
// read out.
import { colourOf, css, drawScale, inkOn } from "./colour_scale.js";
import { el } from "./dom.js";
import { figure, number, shortFigure } from "./format.js";

const MOST_WITH_NUMBERS = 16;

export class HeatMap {
  constructor(parts, onChange) {
    this.parts = parts;
    for (const name of ["heatSet", "heatScale"]) parts[name].addEventListener("change", onChange);
  }

  update(model) {
    const { parts } = this;
    parts.heatHeldOut.disabled = !model.hasHeldOut;
    if (!model.hasHeldOut) parts.heatSet.value = "calibration";
    const set = parts.heatSet.value;
    const rows = model.ranked.map((result) => ({
      method: result.method,
      values: (result.perHead?.[set] ?? []).map(number),
    }));
    const heads = Math.max(0, ...rows.map(({ values }) => values.length));
    parts.heat.hidden = heads === 0;
    if (heads === 0) return;
    parts.heatTable.classList.toggle("compact", heads > MOST_WITH_NUMBERS);
    this.draw(rows, heads, set === "heldOut" ? "held-out" : "calibration");
  }

  draw(rows, heads, set) {
    const { parts } = this;
    const all = logRange(rows.flatMap(({ values }) => values));
    const each = parts.heatScale.value === "row";
    parts.heatCaption.textContent = `Relative error of each query head on ${set} data`;
    parts.heatHead.replaceChildren(
      el("th", { scope: "col" }, "method"),
      ...Array.from({ length: heads }, (_, i) => el("th", { scope: "col" }, String(i))),
    );
    parts.heatBody.replaceChildren(
      ...rows.map(({ method, values }) => heatRow(method, values, each ? logRange(values) : all)),
    );
    parts.heatLow.textContent = each ? "row's least" : figure(10 ** all.low);
    parts.heatHigh.textContent = each ? "row's most" : figure(10 ** all.high);
    drawScale(parts.heatScaleBar);
  }
}

function heatRow(method, values, range) {
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, method),
    ...values.map((value, head) => {
      const colour = colourOf(shareOf(value, range));
      const cell = el(
        "td",
        { title: `${method}, head ${head}: ${figure(value)}` },
        el("span", {}, shortFigure(value)),
      );
      cell.style.background = css(colour);
      cell.style.color = inkOn(colour);
      return cell;
    }),
  );
}

// Of the values above 0, in powers of ten.
function logRange(values) {
  const logs = values.filter((value) => value > 0 && Number.isFinite(value)).map(Math.log10);
  return logs.length > 0
    ? { low: Math.min(...logs), high: Math.max(...logs) }
    : { low: 0, high: 0 };
}

function shareOf(value, { low, high }) {
  if (!(value > 0)) return 0;
  return high > low ? (Math.log10(value) - low) / (high - low) : 0.5;
}
