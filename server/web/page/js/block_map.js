// The errors of a run, blocks x maps, as a coloured table that arrow keys walk through. The numbers
// are its cells' text; all that is known of a cell is shown below the table while it is pointed at or
// has the focus, and is read out with it.
import { BlockRow } from "./block_row.js";
import { blockTable } from "./block_table.js";
import { drawScale } from "./colour_scale.js";
import { el, reconcile, setText } from "./dom.js";
import { figure } from "./format.js";

const HINT = "Point at a cell, or walk through the table with the arrow keys.";

export class BlockMap {
  constructor(parts) {
    this.parts = parts;
    this.rows = [];
    this.place = [0, 0]; // row and column that Tab leads to
    drawScale(parts.mapScaleBar);
    const table = parts.mapTable;
    table.addEventListener("pointerover", (event) => this.tell(event.target));
    table.addEventListener("pointerleave", () => this.tell(document.activeElement));
    table.addEventListener("focusin", (event) => this.arrive(event.target));
    table.addEventListener("focusout", () => this.tell(undefined));
    table.addEventListener("keydown", (event) => this.onKey(event));
  }

  update(model) {
    const { parts } = this;
    const table = blockTable(model);
    const { rows, low, high } = table;
    parts.map.hidden = rows.length === 0;
    const set = model.hasHeldOut ? "held-out" : "calibration";
    setText(parts.mapCaption, `Relative error of each linear map on ${set} rows, by block`);
    setText(parts.mapScaleName, `error on ${set} rows, log scale`);
    setText(parts.mapLow, figure(low));
    setText(parts.mapHigh, figure(high));
    this.updateHead(table);
    this.rows = rows.map((row, i) => this.rows[i] ?? new BlockRow(row.block));
    rows.forEach((row, i) => this.rows[i].update(row, table));
    reconcile(
      parts.mapBody,
      this.rows.map(({ node }) => node),
    );
    this.setTabStop();
    this.tell(this.told?.node);
  }

  updateHead({ columns, hasOutput }) {
    const names = ["block", ...columns, ...(hasOutput ? ["output"] : [])];
    const key = names.join();
    if (key === this.headKey) return;
    this.headKey = key;
    this.parts.mapHead.replaceChildren(...names.map((name) => el("th", { scope: "col" }, name)));
  }

  // The cell that a node lies in.
  cellOf(node) {
    const td = node?.closest?.("td");
    return td && this.rows.flatMap(({ cells }) => cells).find((cell) => cell.node === td);
  }

  tell(node) {
    this.told = this.cellOf(node);
    setText(this.parts.mapReadout, this.told?.words ?? HINT);
  }

  // The focus has come to a cell, by Tab, by the pointer or by an arrow key.
  arrive(node) {
    this.tell(node);
    const row = this.rows.findIndex(({ cells }) => cells.includes(this.told));
    if (row < 0) return;
    const [before, column] = this.place;
    if (before !== row || this.rows[row].at(column) !== this.told) {
      this.place = [row, this.told.from];
    }
    this.setTabStop();
  }

  onKey(event) {
    const [row, column] = this.place;
    const cell = this.rows[row]?.at(column);
    if (!cell) return;
    const place = {
      ArrowUp: [row - 1, column],
      ArrowDown: [row + 1, column],
      ArrowLeft: [row, cell.from - 1],
      ArrowRight: [row, cell.to + 1],
      Home: [row, 0],
      End: [row, this.rows[row].cells.at(-1).to],
    }[event.key];
    if (!place) return;
    event.preventDefault();
    const next = this.rows[place[0]]?.at(place[1]);
    if (!next) return;
    this.place = place;
    next.node.focus();
  }

  // One cell is on Tab's way.
  setTabStop() {
    const [row, column] = this.place;
    const stop = (this.rows[row]?.at(column) ?? this.rows[0]?.cells[0])?.node;
    if (stop === this.stop) return;
    this.stop?.setAttribute("tabindex", "-1");
    stop?.setAttribute("tabindex", "0");
    this.stop = stop;
  }
}
