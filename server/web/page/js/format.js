// Numbers, times and states as people read them. protobuf's JSON writes 64-bit integers as strings
// and what is not finite as "NaN", "Infinity" or "-Infinity"; Number() takes them all.

export const NONE = "–";

// undefined (an absent field) stays undefined.
export function number(value) {
  return value === undefined || value === null ? undefined : Number(value);
}

function scientific(value) {
  const [mantissa, exponent] = value.toExponential(2).split("e");
  return `${mantissa}e${Number(exponent)}`;
}

// A relative error or a loss: three significant digits.
export function figure(value) {
  if (value === undefined) return NONE;
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 1e-4 || size >= 1e5) return scientific(value);
  const digits = Math.max(0, 2 - Math.floor(Math.log10(size)));
  return value.toFixed(Math.min(digits, 6));
}

// The same with six.
export function exactFigure(value) {
  if (value === undefined || !Number.isFinite(value)) return figure(value);
  return String(Number(value.toPrecision(6)));
}

export function fixed(value, digits = 4) {
  return Number.isFinite(value) ? value.toFixed(digits) : figure(value);
}

// With its sign, also where it is above 0.
export function signed(value) {
  return value < 0 ? `−${fixed(-value)}` : `+${fixed(value)}`;
}

// The same as figure() in as few characters as two significant digits take.
export function shortFigure(value) {
  if (value === undefined || !Number.isFinite(value) || value === 0) return figure(value);
  const size = Math.abs(value);
  if (size < 1e-3 || size >= 1e4) {
    const [mantissa, exponent] = value.toExponential(1).split("e");
    return `${mantissa.replace(/\.0$/, "")}e${Number(exponent)}`;
  }
  return String(Number(value.toPrecision(2)));
}

export function percent(fraction, digits = 2) {
  return fraction === undefined ? NONE : `${(100 * fraction).toFixed(digits)} %`;
}

export function count(value) {
  return Number(value).toLocaleString("en");
}

export function duration(seconds) {
  if (seconds === undefined || !Number.isFinite(seconds)) return NONE;
  if (seconds < 0.01) return `${(1000 * seconds).toFixed(1)} ms`;
  if (seconds < 10) return `${seconds.toFixed(2)} s`;
  if (seconds < 60) return `${seconds.toFixed(0)} s`;
  const whole = Math.round(seconds);
  const parts = [
    Math.floor(whole / 86400),
    Math.floor(whole / 3600) % 24,
    Math.floor(whole / 60) % 60,
    whole % 60,
  ];
  const units = ["d", "h", "min", "s"];
  const first = parts.findIndex((part) => part > 0);
  return parts
    .slice(first, first + 2)
    .map((part, i) => `${part} ${units[first + i]}`)
    .join(" ");
}

export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let size = Number(value),
    unit = 0;
  for (; size >= 1024 && unit + 1 < units.length; ++unit) size /= 1024;
  return `${unit === 0 ? size : size.toFixed(1)} ${units[unit]}`;
}

// Seconds since 1970 of a protobuf timestamp; undefined for none.
export function seconds(timestamp) {
  return timestamp ? Date.parse(timestamp) / 1000 : undefined;
}

export function ago(timestamp, now = Date.now() / 1000) {
  const then = seconds(timestamp);
  if (then === undefined) return NONE;
  const passed = Math.max(0, now - then);
  return passed < 5
    ? "just now"
    : `${duration(passed < 60 ? Math.floor(passed) : passed)
        .split(" ")
        .slice(0, 2)
        .join(" ")} ago`;
}

export function clock(timestamp) {
  return timestamp ? new Date(timestamp).toLocaleString() : NONE;
}

export function sparsity(message) {
  if (!message) return NONE;
  if (message.nOfM) return `${message.nOfM.n}:${message.nOfM.m}`;
  return percent(number(message.fraction) ?? 0, 0);
}

// Half of the field reads N:M as what is kept.
export function sparsityInWords(message) {
  const pattern = message?.nOfM;
  const removed = pattern ? ` (${pattern.n} of every ${pattern.m} weights removed)` : "";
  return sparsity(message) + removed;
}

// "gd (eta = 0.25, steps = 2)"
export function methodText({ name, label, parameters = {} }) {
  const settings = Object.entries(parameters)
    .sort()
    .map(([key, value]) => `${key} = ${value}`);
  return (label || name) + (settings.length > 0 ? ` (${settings.join(", ")})` : "");
}

// "jobs/x" -> "x"
export function idOf(name) {
  return name.split("/").at(-1);
}

// The command line's label: the folder that the weights came from,
export const WEIGHTS = "attnprune/weights";

// without its path.
export function weightsFolder(labels = {}) {
  return labels[WEIGHTS]?.split("/").filter(Boolean).at(-1);
}

// "llama-1b, layer 15": where the weights came from, and which layer they are; undefined: nobody
// says.
export function modelText(labels = {}) {
  const layer = labels["attnprune/layer"];
  const parts = [weightsFolder(labels), layer === undefined ? undefined : `layer ${layer}`];
  return parts.filter(Boolean).join(", ") || undefined;
}

export const STATES = {
  QUEUED: { word: "queued", icon: "clock" },
  RUNNING: { word: "running", icon: "play" },
  SUCCEEDED: { word: "succeeded", icon: "check" },
  FAILED: { word: "failed", icon: "cross" },
  CANCELLED: { word: "cancelled", icon: "stop" },
};

export function ended(state) {
  return state === "SUCCEEDED" || state === "FAILED" || state === "CANCELLED";
}
