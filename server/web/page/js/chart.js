// One uPlot chart: lines named at their ends, values under the pointer or the arrow keys.
import { el } from "./dom.js";
import { count, duration, figure, shortFigure } from "./format.js";
import { table } from "./curve_data.js";
import { canvasColours, methodColour } from "./theme.js";

const HEIGHT = 280;
const DASHES = { train: [], calibration: [], heldOut: [7, 4], level: [2, 4] };
export const KIND_WORDS = {
  train: "",
  calibration: "calibration",
  heldOut: "held out",
  level: "result",
};
const LABEL_HEIGHT = 14;
const LABEL_ROOM = 86;

export class Chart {
  // `box` gets the canvas; `x` of update() is "step" or "seconds".
  constructor(box) {
    this.box = box;
    this.tip = el("div", { class: "chart-tip", hidden: true });
    this.holder = el("div", { class: "chart-holder" });
    box.append(this.holder, this.tip);
    this.shape = "";
    this.lines = [];
    box.addEventListener("keydown", (event) => this.onKey(event));
    box.addEventListener("blur", () => this.leave());
    this.resizes = new ResizeObserver(() => this.resize());
    this.resizes.observe(box);
  }

  // Draws the lines; a new uPlot only where more than points has changed.
  update(lines, options) {
    this.lines = lines;
    this.options = options;
    const shape = JSON.stringify([
      options,
      lines.map(({ label, kind, points }) => [label, kind, points.length < 3]),
    ]);
    const data = table(lines, options.logY);
    if (shape === this.shape) {
      this.plot.setData(data);
    } else {
      this.shape = shape;
      this.plot?.destroy();
      this.plot = new uPlot(this.plotOptions(), data, this.holder);
    }
  }

  // After the colours have changed.
  repaint() {
    if (!this.plot) return;
    this.shape = "";
    this.update(this.lines, this.options);
  }

  plotOptions() {
    const { logX, logY, x } = this.options;
    this.colours = canvasColours();
    const font = `12px ${this.colours.font}`;
    const axis = {
      stroke: this.colours.text,
      font,
      grid: { stroke: this.colours.grid, width: 1 },
      ticks: { stroke: this.colours.grid, width: 1 },
    };
    const xValues = (_, ticks) => ticks.map((tick) => (tick === null ? "" : count(tick)));
    const yValues = (_, ticks) => ticks.map((tick) => (tick === null ? "" : shortFigure(tick)));
    return {
      width: this.box.clientWidth,
      height: HEIGHT,
      legend: { show: false },
      padding: [10, LABEL_ROOM, 0, 0],
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
      scales: { x: { time: false, distr: logX ? 3 : 1 }, y: { distr: logY ? 3 : 1 } },
      axes: [
        {
          ...axis,
          values: xValues,
          space: 70,
          label: x === "seconds" ? "seconds" : "step",
          labelSize: 20,
          labelFont: font,
          size: 36,
        },
        { ...axis, values: yValues, size: 52, space: 30 },
      ],
      series: [{}, ...this.lines.map((line) => this.seriesOf(line))],
      hooks: { draw: [(plot) => this.drawLabels(plot)], setCursor: [() => this.onCursor()] },
    };
  }

  seriesOf({ label, method, kind, points }) {
    return {
      label,
      stroke: methodColour(method),
      width: kind === "level" ? 1.5 : 2,
      dash: DASHES[kind],
      spanGaps: true,
      points: { show: points.length < 3 && kind !== "level", size: 5 },
    };
  }

  // A method's name where its line ends; of its two lines the held-out one carries it.
  drawLabels(plot) {
    const labels = new Map();
    this.lines.forEach(({ label, method }, i) => {
      const ys = plot.data[i + 1];
      const value = ys?.findLast((y) => y !== null && y !== undefined);
      if (value === undefined) return;
      labels.set(label, { label, method, y: plot.valToPos(value, "y", true) });
    });
    const { ctx, bbox } = plot;
    const ratio = devicePixelRatio;
    const placed = spread(
      [...labels.values()],
      LABEL_HEIGHT * ratio,
      bbox.top,
      bbox.top + bbox.height,
    );
    ctx.save();
    ctx.font = `600 ${12 * ratio}px ${this.colours.font}`;
    ctx.textAlign = "left";
    ctx.textBaseline = "middle";
    for (const { label, method, at } of placed) {
      ctx.fillStyle = methodColour(method);
      ctx.fillText(shorten(label), bbox.left + bbox.width + 6 * ratio, at);
    }
    ctx.restore();
  }

  // uPlot also calls this after new data: what was read by key then stays, or it would be announced
  // again and again.
  onCursor() {
    if (this.byKey === undefined || this.byKey === "moving") this.showTip();
  }

  showTip() {
    const { idx, left } = this.plot.cursor;
    if (idx === null || idx === undefined || left < 0) {
      this.tip.hidden = true;
      return;
    }
    const x = this.plot.data[0][idx];
    const rows = this.lines
      .map((line, i) => [line, nearest(this.plot.data, i + 1, idx)])
      .filter(([, y]) => y !== null);
    this.tip.replaceChildren(
      el("strong", {}, this.options.x === "seconds" ? duration(x) : `step ${count(x)}`),
      ...rows.map(([line, y]) =>
        el("div", {}, `${line.label} ${KIND_WORDS[line.kind]} `, el("b", {}, figure(y))),
      ),
    );
    this.tip.hidden = rows.length === 0;
    this.tip.classList.toggle("left", left > this.plot.over.clientWidth / 2);
  }

  // Left, right, Home and End move along the curves; Escape leaves them.
  onKey(event) {
    const last = (this.plot?.data[0].length ?? 0) - 1;
    if (last < 0) return;
    const now = this.plot.cursor.idx ?? last;
    const stride = Math.max(1, Math.round(last / 50));
    const target = {
      ArrowLeft: Math.max(0, now - stride),
      ArrowRight: Math.min(last, now + stride),
      Home: 0,
      End: last,
      Escape: null,
    }[event.key];
    if (target === undefined) return;
    event.preventDefault();
    if (target === null) this.leave();
    else this.moveTo(target);
  }

  moveTo(index) {
    this.tip.setAttribute("aria-live", "polite");
    this.byKey = "moving";
    this.plot.setCursor({ left: this.plot.valToPos(this.plot.data[0][index], "x"), top: 10 });
    this.byKey = "still";
  }

  leave() {
    this.byKey = undefined;
    this.tip.removeAttribute("aria-live");
    this.plot?.setCursor({ left: -10, top: -10 });
  }

  resize() {
    if (this.plot && this.box.clientWidth > 0 && this.plot.width !== this.box.clientWidth) {
      this.plot.setSize({ width: this.box.clientWidth, height: HEIGHT });
    }
  }

  // What a screen reader is told of the picture.
  describe(text) {
    if (this.box.getAttribute("aria-label") !== text) this.box.setAttribute("aria-label", text);
  }

  destroy() {
    this.resizes.disconnect();
    this.plot?.destroy();
  }
}

const shorten = (label) => (label.length > 12 ? `${label.slice(0, 11)}…` : label);

// The value of a line at an index, or the one before it where the line has none; null beyond its
// ends.
function nearest(data, line, index) {
  const ys = data[line];
  if (ys.findLastIndex((y) => y !== null && y !== undefined) < index) return null;
  for (let i = index; i >= 0; --i) {
    if (ys[i] !== null && ys[i] !== undefined) return ys[i];
  }
  return null;
}

// Moves labels apart, top to bottom, within [top, bottom]; those that find no room are left out.
function spread(labels, height, top, bottom) {
  labels.sort((a, b) => a.y - b.y);
  let free = top + height / 2;
  for (const label of labels) {
    label.at = Math.max(free, label.y);
    free = label.at + height;
  }
  let limit = bottom - height / 2;
  for (const label of labels.toReversed()) {
    label.at = Math.min(label.at, limit);
    limit = label.at - height;
  }
  return labels.filter(({ at }) => at >= top);
}
