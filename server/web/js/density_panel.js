// Where a method's masks keep weights: a picture for each matrix of one result, and its numbers.
import { getDensity } from "./api.js";
import { colourOf } from "./colour_scale.js";
import { el, reconcile } from "./dom.js";
import { count, number, percent } from "./format.js";
import { drawScale } from "./heat_map.js";

const CELLS = 64;  // rows and columns of a picture at most

export class DensityPanel {
  constructor(parts, jobId) {
    this.parts = parts;
    this.jobId = jobId;
    this.options = new Map();
    this.chosen = false;  // by the reader; until then it is the best method
    parts.densityMethod.addEventListener("change", () => {
      this.chosen = true;
      this.show(this.model);
    });
    drawScale(parts.densityScaleBar);
  }

  update(model) {
    this.model = model;
    const ranked = model.ranked;
    this.parts.density.hidden = ranked.length === 0;
    if (ranked.length === 0) return;
    for (const { method } of ranked) {
      if (!this.options.has(method)) this.options.set(method, el("option", { value: method }, method));
    }
    reconcile(this.parts.densityMethod, ranked.map(({ method }) => this.options.get(method)));
    if (!this.chosen) this.parts.densityMethod.value = ranked[0].method;
    this.show(model);
  }

  async show(model) {
    const method = this.parts.densityMethod.value;
    if (method === this.shown) return;
    this.shown = method;
    const index = model.job.results.findIndex((result) => result.method === method);
    const matrices = model.job.results[index].matrices ?? [];
    const pictures = await Promise.all(matrices.map((matrix) => this.picture(index, matrix)));
    if (this.shown === method) this.parts.densityPictures.replaceChildren(...pictures);
  }

  async picture(index, matrix) {
    try {
      return densityFigure(matrix, await getDensity(this.jobId, index, matrix.name, CELLS));
    } catch (error) {
      this.shown = undefined;  // asked again with the next result or choice
      return el("p", { class: "muted" }, `No picture of ${matrix.name}: ${error.message}`);
    }
  }
}

function densityFigure(matrix, grid) {
  const kept = grid.kept.map(number);
  const canvas = el("canvas", { width: grid.columns, height: grid.rows, role: "img",
    "aria-label": `Mask density of ${matrix.name}; its numbers stand below` });
  paint(canvas, kept);
  return el("figure", {}, canvas, el("figcaption", {}, el("b", {}, matrix.name), ` ${blurb(matrix, kept)}`));
}

function paint(canvas, kept) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  kept.forEach((share, i) => image.data.set([...colourOf(share), 255], 4 * i));
  context.putImageData(image, 0, 0);
}

function blurb(matrix, kept) {
  const shape = (matrix.mask?.shape ?? []).map(count).join(" × ");
  const least = kept.reduce((a, b) => Math.min(a, b), 1);
  const most = kept.reduce((a, b) => Math.max(a, b), 0);
  const whole = `${shape}, ${count(Number(matrix.size) - Number(matrix.pruned))} of ${count(matrix.size)} weights kept`;
  return `${whole} (${percent(1 - matrix.sparsity)}); ${percent(least, 0)} to ${percent(most, 0)} in a cell.`;
}
