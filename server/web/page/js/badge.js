// A job's state as a coloured badge with icon and word.
import { el, icon } from "./dom.js";
import { STATES } from "./format.js";

export function stateBadge() {
  return el("span", { class: "badge" });
}

export function setBadge(badge, state, cancelRequested) {
  const { word, icon: name } = STATES[state] ?? { word: "unknown", icon: "clock" };
  const text = cancelRequested && state === "RUNNING" ? "cancelling" : word;
  if (badge.dataset.state === state && badge.textContent === text) return;
  badge.dataset.state = state;
  badge.replaceChildren(icon(name), text);
}
