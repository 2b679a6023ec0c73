// The job's states and warnings, newest first.
import { el, icon } from "./dom.js";

const MOST = 100;

export class Notices {
  constructor(list) {
    this.list = list;
    this.shown = -1;
  }

  update(model) {
    if (model.notices.length === this.shown) return;
    this.shown = model.notices.length;
    this.list.replaceChildren(...model.notices.slice(-MOST).reverse().map(noticeItem));
  }
}

function noticeItem({ time, kind, text }) {
  const when = el("time", { datetime: time }, new Date(time).toLocaleTimeString());
  const sign = kind === "warning" ? [icon("warning"), el("strong", {}, "Warning: ")] : [];
  return el("li", { class: kind }, when, " ", ...sign, text);
}
