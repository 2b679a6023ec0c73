// Whether the server answers: the mark in the page's head, and a banner while it does not.
import { announce } from "./announcer.js";
import { setText } from "./dom.js";

const WORDS = { unknown: "connecting", on: "connected", live: "live", away: "reconnecting" };

let state = "unknown";

// "on": it answers; "live": events flow; "away": it does not answer, and is asked again.
export function setConnection(next) {
  if (next === state) return;
  const before = state;
  state = next;
  const mark = document.getElementById("connection");
  mark.dataset.state = next;
  setText(mark.querySelector("span"), WORDS[next]);
  document.getElementById("away").hidden = next !== "away";
  if (next === "away") announce("The server does not answer. Reconnecting.");
  else if (before === "away") announce("Connected again.");
}

export const connectionState = () => state;
