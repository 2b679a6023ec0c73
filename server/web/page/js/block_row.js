// A row of the block map: a cell for each tensor of a block and, if there are held-out rows, one for
// the block's output error.
import { colourOf, css, inkOn } from "./colour_scale.js";
import { el, setText } from "./dom.js";
import {
  count,
  duration,
  exactFigure,
  number,
  percent,
  shortFigure,
  sparsity,
  NONE,
} from "./format.js";

const MARKS = { working: "…", waiting: "", dense: NONE };
const WORDS = { working: "at work", waiting: "not yet", dense: "stays dense" };

export class BlockRow {
  constructor(block) {
    this.head = el("th", { scope: "row" }, String(block));
    this.node = el("tr", {}, this.head);
    this.cells = []; // MapCells
  }

  // Of a block table and a row of it. Nodes stay as long as they cover the same columns.
  update({ block, cells, output }, { columns, hasOutput, ...range }) {
    const spans = [...cells.map(({ span }) => span), ...(hasOutput ? [1] : [])];
    const shape = spans.join();
    if (shape !== this.shape) {
      this.shape = shape;
      this.cells = spans.map((span) => new MapCell(span));
      this.node.replaceChildren(this.head, ...this.cells.map(({ node }) => node));
    }
    cells.forEach((cell, i) => this.cells[i].showTensor(block, cell, range));
    if (hasOutput) this.cells.at(-1).showOutput(block, columns.length, output);
  }

  // The cell at a column, counted from 0.
  at(column) {
    return this.cells.find(({ from, to }) => column >= from && column <= to);
  }
}

class MapCell {
  constructor(span) {
    this.span = span;
    this.figure = el("span");
    this.rest = el("span", { class: "sr-only" });
    this.node = el("td", { tabindex: -1, colspan: span > 1 ? span : null }, this.figure, this.rest);
    this.words = ""; // all that is known of it
  }

  get to() {
    return this.from + this.span - 1;
  }

  showTensor(block, { from, roles, state, tensor, error }, range) {
    this.from = from;
    const where = `Block ${block}, ${roles.join(", ")}`;
    if (tensor) this.showError(where, tensor, error, range);
    else this.show(MARKS[state], WORDS[state], `${where}: ${WORDS[state]}.`);
    this.node.dataset.state = state;
  }

  showError(where, tensor, error, range) {
    const told = `${errorText(tensor)}; ${workText(tensor)}`;
    this.show(shortFigure(error), told, `${where}: ${told}.`);
    const colour = colourOf(shareOf(error, range));
    this.node.style.background = css(colour);
    this.node.style.color = inkOn(colour);
  }

  showOutput(block, from, error) {
    this.from = from;
    this.node.className = "output";
    const words = error === undefined ? "no error yet" : `error ${exactFigure(error)}`;
    const where = `Block ${block}, its output (hidden states on held-out rows)`;
    this.show(error === undefined ? "" : shortFigure(error), words, `${where}: ${words}.`);
  }

  show(figure, rest, words) {
    setText(this.figure, figure);
    setText(this.rest, figure ? `, ${rest}` : rest);
    this.words = words;
  }
}

function errorText({ heldOutError, calibrationError }) {
  const calibration = exactFigure(number(calibrationError));
  return heldOutError === undefined
    ? `error ${calibration} on calibration rows`
    : `error ${exactFigure(number(heldOutError))} on held-out rows, ${calibration} on calibration rows`;
}

function workText(tensor) {
  const asked = tensor.asked?.nOfM ? ` (${sparsity(tensor.asked)})` : "";
  const steps = tensor.steps > 0 ? `, ${count(tensor.steps)} steps` : "";
  const shared = tensor.maps.length > 1 ? `, one tensor of ${tensor.maps.join(", ")}` : "";
  const time = duration(number(tensor.seconds));
  return `${percent(number(tensor.sparsity))} removed${asked} by ${tensor.method}${steps}, ${time}${shared}`;
}

// Where an error lies between two others, on a logarithmic scale.
function shareOf(error, { low, high }) {
  if (!(error > 0)) return 0;
  if (!(high > low)) return 0.5;
  return Math.log(error / low) / Math.log(high / low);
}
