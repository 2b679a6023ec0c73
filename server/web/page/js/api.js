// The server's JSON: the API's own messages as protobuf JSON (docs/server.md). Addresses are
// relative, so that the page also works behind a proxy's path.

const FINAL = ["NOT_FOUND", "INVALID_ARGUMENT", "PERMISSION_DENIED", "DATA_LOSS"];

export class ApiError extends Error {
  // status: the HTTP status, or 0 when nobody answered. error: the server's own, with its code by
  // name (docs/http.md); empty where the answer is not the server's.
  constructor(status, message, error = {}) {
    super(message);
    this.status = status;
    this.code = error.status;
    this.details = error.details ?? [];
  }

  // Asking again would get the same answer.
  get final() {
    return this.code ? FINAL.includes(this.code) : this.status === 404;
  }

  // Of OUT_OF_RANGE for events: the first that the log still has; undefined of others.
  get oldestSequence() {
    const text = this.details.map(({ metadata }) => metadata?.oldest_sequence).find(Boolean);
    return text && Number(text);
  }
}

const BASE = "api/v1";
const LIMIT_MS = 15000;

async function failure(response) {
  const body = await response.json().catch(() => ({}));
  const message = body.message ?? body.error?.message ?? response.statusText;
  return new ApiError(response.status, message || `HTTP ${response.status}`, body.error);
}

async function call(path, options = {}) {
  let response;
  try {
    response = await fetch(`${BASE}/${path}`, {
      signal: AbortSignal.timeout(LIMIT_MS),
      ...options,
    });
  } catch (error) {
    throw new ApiError(0, `the server does not answer (${error.message})`);
  }
  if (!response.ok) throw await failure(response);
  try {
    return await response.json();
  } catch (error) {
    // the connection broke in mid-answer
    throw new ApiError(0, `the answer is cut short (${error.message})`);
  }
}

export const getServerInfo = () => call("server");

// state: a JobState's name or ""; labels: [key, value] pairs that must all match.
export function listJobs({ pageSize, pageToken = "", state = "", labels = [] }) {
  const query = new URLSearchParams({ pageSize });
  if (pageToken) query.set("pageToken", pageToken);
  if (state) query.set("states", state);
  for (const [key, value] of labels) query.append(`labels.${key}`, value);
  return call(`jobs?${query}`);
}

const jobPath = (id) => `jobs/${encodeURIComponent(id)}`;

export const getJob = (id) => call(jobPath(id));

export function cancelJob(id) {
  const headers = { "Content-Type": "application/json" };
  return call(`${jobPath(id)}:cancel`, { method: "POST", headers, body: "{}" });
}

export function getDensity(id, resultIndex, matrix, cells) {
  const query = new URLSearchParams({ matrix, cells });
  return call(`${jobPath(id)}/results/${resultIndex}/density?${query}`);
}

// A text/event-stream of the JobEvents with a greater sequence.
export const eventsUrl = (id, afterSequence) =>
  `${BASE}/${jobPath(id)}/events${afterSequence > 0 ? `?afterSequence=${afterSequence}` : ""}`;

// Why there is no such stream, which an EventSource does not say: an ApiError; undefined if there is
// one, or nobody answers.
export async function eventsRefusal(id, afterSequence) {
  const hangUp = new AbortController();
  const timer = setTimeout(() => hangUp.abort(), LIMIT_MS);
  try {
    const response = await fetch(eventsUrl(id, afterSequence), { signal: hangUp.signal });
    return response.ok ? undefined : await failure(response);
  } catch {
    return undefined;
  } finally {
    clearTimeout(timer);
    hangUp.abort();
  }
}
