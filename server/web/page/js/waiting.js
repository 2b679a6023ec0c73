// What a queued job or run waits for, as people read it.
import { seconds } from "./format.js";

const MOST_NAMES = 3;

// "3rd, in 4 min"; "" of a job that is not queued.
export function placeText(waiting) {
  if (!waiting) return "";
  return `${ordinal((waiting.ahead ?? 0) + 1)}, ${startText(waiting)}`;
}

// "2 ahead, jobs/x and runs/r-y at work; may start in 4 min"; "" where a worker is free, or nothing
// is known.
export function waitingText(waiting) {
  const { ahead = 0, running = [], othersRunning = 0 } = waiting ?? {};
  if (running.length + othersRunning === 0) return "";
  const place = ahead === 0 ? "next" : `${ahead} ahead`;
  return `${place}, ${namesText(running, othersRunning)} at work; may start ${startText(waiting)}`;
}

function ordinal(number) {
  const teens = Math.floor(number / 10) % 10 === 1;
  return number + ((!teens && { 1: "st", 2: "nd", 3: "rd" }[number % 10]) || "th");
}

// others: how many there are besides, of other tenants.
function namesText(names, others) {
  if (names.length === 0) return `${others} of other tenants`;
  const more = Math.max(names.length - MOST_NAMES, 0) + others;
  const shown = names.slice(0, MOST_NAMES);
  if (more > 0) shown.push(`${more} more`);
  const last = shown.at(-1);
  return shown.length === 1 ? last : `${shown.slice(0, -1).join(", ")} and ${last}`;
}

function startText({ mayStartTime }) {
  const left = Math.ceil(seconds(mayStartTime) - Date.now() / 1000);
  return left > 0 ? `in ${rough(left)}` : "now";
}

// Of an estimate: no finer than it can be.
function rough(whole) {
  if (whole < 60) return `${whole} s`;
  const minutes = Math.ceil(whole / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
