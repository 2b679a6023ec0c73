// The loss over steps of the tensor that is at work, or was last.
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
    const { block, maps, method, losses } = curve;
    const [step, loss] = losses.last;
    const where = `block ${block}, ${maps.join(", ")}`;
    setText(this.parts.lossOf, `${where}, by ${method}: ${figure(loss)} at step ${count(step)}`);
    const points = losses.points.filter(([, y]) => Number.isFinite(y));
    const lines = points.length > 0 ? [{ label: method, method: 0, kind: "train", points }] : [];
    drawLines(this.chart, lines, AXES, this.parts.lossEmpty, `the loss of ${where}`);
    return points.length > 1;
  }

  repaint() {
    this.chart.repaint();
  }

  destroy() {
    this.chart.destroy();
  }
}
