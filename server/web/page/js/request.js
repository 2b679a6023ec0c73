// Requests made of a job or run that there is: what was asked for, without what came of it. Nothing of
// the screen.

const OUTPUT = [
  "name",
  "state",
  "failure",
  "results",
  "createTime",
  "startTime",
  "endTime",
  "attempt",
  "cancelRequested",
  "requestId",
  "estimate",
  "waiting",
  "atWork",
  "resultsDone",
  "resultsTotal",
];

// The job or run to be asked for anew.
export function inputOf(thing) {
  return Object.fromEntries(Object.entries(thing).filter(([key]) => !OUTPUT.includes(key)));
}

// "0.5" or "2:4" as Sparsity; an Error says what it must be.
export function parseSparsity(text) {
  const pattern = text.trim().match(/^(\d+)\s*:\s*(\d+)$/);
  if (pattern) return { nOfM: { n: pattern[1], m: pattern[2] } };
  const fraction = text.trim() === "" ? NaN : Number(text);
  if (fraction >= 0 && fraction < 1) return { fraction };
  throw new Error(`Sparsity must be a fraction in [0, 1) or N:M, got “${text}”.`);
}

export function sparsityField(sparsity) {
  if (sparsity?.nOfM) return `${sparsity.nOfM.n}:${sparsity.nOfM.m}`;
  return String(sparsity?.fraction ?? 0.5);
}

// Of one request and its repetitions: 128 random bits. (crypto.randomUUID wants HTTPS.)
export function newRequestId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `page-${[...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
