// Where a method's masks keep weights: a picture for each matrix of one result, and its numbers.
import { filesUrl, getDensity } from "./api.js";
import { colourOf, drawScale } from "./colour_scale.js";
import { el, reconcile, setText } from "./dom.js";
import { count, percent } from "./format.js";

const CELLS = 64; // rows and columns of a picture at most

export class DensityPanel {
  constructor(parts, job) {
    this.parts = parts;
    this.job = job; // its name
    this.options = new Map();
    this.chosen = false; // by the reader; until then it is the best method
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
      if (!this.options.has(method))
        this.options.set(method, el("option", { value: method }, method));
    }
    reconcile(
      this.parts.densityMethod,
      ranked.map(({ method }) => this.options.get(method)),
    );
    if (!this.chosen) this.parts.densityMethod.value = ranked[0].method;
    this.show(model);
  }

  async show(model) {
    const method = this.parts.densityMethod.value;
    if (method === this.shown) return;
    this.shown = method;
    const index = model.job.results.findIndex((result) => result.method === method);
    const matrices = model.job.results[index].matrices ?? [];
    let grids;
    try {
      grids = await Promise.all(
        matrices.map(({ name }) => getDensity(this.job, index, name, CELLS)),
      );
    } catch (error) {
      this.shown = undefined; // asked again with the next result or choice
      this.parts.densityPictures.replaceChildren(
        el("p", { class: "muted" }, `No pictures: ${error.message}`),
      );
      return;
    }
    if (this.shown === method) this.draw(matrices, grids, index);
  }

  // All pictures of a method on one scale, from the emptiest cell to the fullest.
  draw(matrices, grids, index) {
    const { parts } = this;
    const range = rangeOf(grids.flatMap(({ kept }) => kept));
    parts.densityPictures.replaceChildren(
      ...matrices.map((matrix, i) =>
        densityFigure(matrix, grids[i], range, {
          heads: headsOf(this.model.job.problem, matrix.name),
          mask: filesUrl(this.job, index, { format: "npy", tensor: `${matrix.name}.mask` }),
        }),
      ),
    );
    setText(parts.densityLow, `${percent(range.low, 0)} kept`);
    setText(parts.densityHigh, percent(range.high, 0));
  }
}

function rangeOf(shares) {
  return {
    low: shares.reduce((a, b) => Math.min(a, b), 1),
    high: shares.reduce((a, b) => Math.max(a, b), 0),
  };
}

// Of the rows of a matrix; 1 where they are not cut into heads.
export function headsOf({ projections } = {}, name) {
  if (!projections) return 1;
  const heads = Number(projections.heads) || 1;
  return name === "w_k" ? Number(projections.kvHeads) || heads : heads;
}

function densityFigure(matrix, grid, range, { heads, mask }) {
  const canvas = el("canvas", {
    width: grid.columns,
    height: grid.rows,
    role: "img",
    "aria-label": `Mask density of ${matrix.name}; its numbers stand below`,
  });
  canvas.style.aspectRatio = `${grid.matrixColumns} / ${grid.matrixRows}`;
  paint(canvas, grid.kept, range);
  const outputs =
    heads > 1
      ? `${count(heads)} heads, ${count(grid.matrixRows)} outputs`
      : `${count(grid.matrixRows)} rows`;
  return el(
    "figure",
    {},
    el(
      "div",
      { class: "axes" },
      el("span", { class: "axis-y", "aria-hidden": "true" }, `← ${outputs}`),
      el("div", { class: "plot" }, canvas, headBorders(heads)),
      el(
        "span",
        { class: "axis-x", "aria-hidden": "true" },
        `${count(grid.matrixColumns)} inputs →`,
      ),
    ),
    el(
      "figcaption",
      {},
      el("b", {}, matrix.name),
      ` ${blurb(matrix, grid)} `,
      el(
        "a",
        { href: mask, download: true, "aria-label": `Mask of ${matrix.name}, .npy` },
        "mask .npy",
      ),
    ),
  );
}

// Lines over a picture where one head's rows end and the next one's begin.
function headBorders(heads) {
  const lines = el("div", { class: "borders", "aria-hidden": "true" });
  for (let head = 1; head < heads; ++head) {
    const line = el("i");
    line.style.top = `${(100 * head) / heads}%`;
    lines.append(line);
  }
  return lines;
}

function paint(canvas, kept, { low, high }) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  kept.forEach((share, i) => {
    image.data.set([...colourOf(high > low ? (share - low) / (high - low) : 0.5), 255], 4 * i);
  });
  context.putImageData(image, 0, 0);
}

function blurb(matrix, { matrixRows, matrixColumns, kept }) {
  const { low, high } = rangeOf(kept);
  const left = Number(matrix.size) - Number(matrix.pruned);
  return (
    `${count(matrixRows)} × ${count(matrixColumns)}: ${count(left)} of ${count(matrix.size)} ` +
    `weights kept (${percent(1 - matrix.sparsity)}), ` +
    `${percent(low, 0)} to ${percent(high, 0)} in a cell.`
  );
}
