// A table of the queue, of jobs or of runs, newest first and page by page.
import { reconcile, setText } from "./dom.js";

const PAGE_SIZE = 20;

export class ListSection {
  // parts: table, rows, pages, newer, older, page; list: asks the server; makeRow: of a job or run;
  // onTurn: another page is wanted.
  constructor(parts, { list, makeRow, onTurn }) {
    Object.assign(this, { parts, list, makeRow });
    this.rows = new Map();
    this.reset();
    const turn = (change) => () => {
      change();
      onTurn();
    };
    parts.newer.addEventListener(
      "click",
      turn(() => this.tokens.pop()),
    );
    parts.older.addEventListener(
      "click",
      turn(() => this.tokens.push(this.next)),
    );
  }

  // Back to the first page.
  reset() {
    this.tokens = [""]; // of this page and those before it
  }

  ask(filter) {
    return this.list({ pageSize: PAGE_SIZE, pageToken: this.tokens.at(-1), ...filter });
  }

  show(things, nextPageToken = "") {
    const { parts } = this;
    this.next = nextPageToken;
    const rows = things.map((thing) => {
      const row = this.rows.get(thing.name) ?? this.makeRow(thing);
      row.update(thing);
      return [thing.name, row];
    });
    this.rows = new Map(rows);
    reconcile(
      parts.rows,
      rows.map(([, row]) => row.node),
    );
    parts.table.hidden = things.length === 0;
    parts.newer.disabled = this.tokens.length === 1;
    parts.older.disabled = !nextPageToken;
    parts.pages.hidden = parts.newer.disabled && parts.older.disabled;
    setText(parts.page, `page ${this.tokens.length}`);
  }

  // Nothing, and nothing on the pages before.
  get empty() {
    return this.rows.size === 0 && this.tokens.length === 1;
  }
}
