// The server's JSON: the API's own messages as protobuf JSON (docs/server.md). Addresses are
// relative, so that the page also works behind a proxy's path.

export class ApiError extends Error {
  // status: the HTTP status, or 0 when nobody answered.
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const BASE = "api/v1";
const LIMIT_MS = 15000;

async function failure(response) {
  const body = await response.json().catch(() => ({}));
  const message = body.message ?? body.error?.message ?? response.statusText;
  return new ApiError(response.status, message || `HTTP ${response.status}`);
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
