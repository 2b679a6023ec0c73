// The loss over steps of what is trained, or was last: a tensor, or all that is kept.
import { Chart } from "./chart.js";
import { drawLines } from "./curves_panel.js";
import { setText } from "./dom.js";
import { count, figure } from "./format.js";

const AXES = { x: "step", logX: false, logY: true };

export class LossPanel {
  constructor(parts) {
    this.parts = parts;
    this.chart = new Chart(parts.lossChart);
  }

  // Whether there is a curve.
  update({ curve }) {
    this.parts.loss.hidden = curve === undefined;
    if (!curve) return false;
    const { what, method, losses } = curve;
    const [step, loss] = losses.last;
    setText(this.parts.lossOf, `${what}, by ${method}: ${figure(loss)} at step ${count(step)}`);
    const points = losses.points.filter(([, y]) => Number.isFinite(y));
    const lines = points.length > 0 ? [{ label: method, method: 0, kind: "train", points }] : [];
    drawLines(this.chart, lines, AXES, this.parts.lossEmpty, `the loss of ${what}`);
    return points.length > 1;
  }

  repaint() {
    this.chart.repaint();
  }

  destroy() {
    this.chart.destroy();
  }
}
