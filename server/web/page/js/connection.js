// Whether the server answers: the mark in the page's head, and a banner when it has been away for
// more than a moment.
import { announce } from "./announcer.js";
import { setText } from "./dom.js";

const WORDS = { unknown: "connecting", on: "connected", live: "live", away: "reconnecting" };
const PATIENCE_MS = 1000;

const mark = document.getElementById("connection");
const banner = document.getElementById("away");
let state = "unknown";
let timer;

// "on": it answers; "live": events flow; "away": it does not answer, and is asked again.
export function setConnection(next) {
  if (next === state) return;
  state = next;
  mark.dataset.state = next;
  setText(mark.querySelector("span"), WORDS[next]);
  clearTimeout(timer);
  if (next === "away") timer = setTimeout(missServer, PATIENCE_MS);
  else findServer();
}

function missServer() {
  banner.hidden = false;
  announce("The server does not answer. Reconnecting.");
}

function findServer() {
  if (banner.hidden) return;
  banner.hidden = true;
  announce("Connected again.");
}

export const connectionState = () => state;
