// The server's JSON: the API's own messages as protobuf JSON (docs/server.md). Addresses are
// relative, so that the page also works behind a proxy's path.

const FINAL = ["NOT_FOUND", "INVALID_ARGUMENT", "PERMISSION_DENIED", "UNAUTHENTICATED", "DATA_LOSS"];

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

  // The server is there and would not do it.
  get refused() {
    return this.status >= 400 && this.status < 500;
  }

  // Of OUT_OF_RANGE for events: the first that the log still has; undefined of others.
  get oldestSequence() {
    const text = this.details.map(({ metadata }) => metadata?.oldest_sequence).find(Boolean);
    return text && Number(text);
  }
}

const BASE = "api/v1";
const LIMIT_MS = 15000;
const NO_CONTENT = 204;
const UNAUTHORIZED = 401;

// Told whenever an answer is that a token is needed; set by login.js.
let onUnauthorized = () => {};
export function setOnUnauthorized(told) {
  onUnauthorized = told;
}

async function failure(response) {
  if (response.status === UNAUTHORIZED) onUnauthorized();
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
function list(collection, { pageSize, pageToken = "", state = "", labels = [] }) {
  const query = new URLSearchParams({ pageSize });
  if (pageToken) query.set("pageToken", pageToken);
  if (state) query.set("states", state);
  for (const [key, value] of labels) query.append(`labels.${key}`, value);
  return call(`${collection}?${query}`);
}

export const listJobs = (filter) => list("jobs", filter);
export const listRuns = (filter) => list("runs", filter);

export const listTensors = ({ pageSize, pageToken = "" }) =>
  call(`tensors?${new URLSearchParams({ pageSize, pageToken })}`);

const PAGE_SIZE = 500;

// Pages of one of these lists, whose answers have the things as `field`, until there are `most`:
// {all, more: whether there are more}.
export async function listAll(listOf, field, filter, most) {
  const all = [];
  let pageToken = "";
  do {
    const page = await listOf({ ...filter, pageSize: PAGE_SIZE, pageToken });
    all.push(...(page[field] ?? []));
    pageToken = page.nextPageToken;
  } while (pageToken && all.length < most);
  return { all, more: Boolean(pageToken) };
}

// Jobs and runs by name: "jobs/x" or "runs/r-x".
const pathOf = (name) => name.split("/").map(encodeURIComponent).join("/");

function postTo(path, message = {}) {
  const headers = { "Content-Type": "application/json" };
  return call(path, { method: "POST", headers, body: JSON.stringify(message) });
}

const post = (name, verb) => postTo(`${pathOf(name)}:${verb}`);

// {tokens, tenant, role, name}: whether the server has tokens, and whose this page's is.
export const getSession = () => call("session");
export const logIn = (token) => postTo("session", { token });
export const logOut = () => postTo("session:end");

export const get = (name) => call(pathOf(name));
export const cancel = (name) => post(name, "cancel");
export const resume = (name) => post(name, "resume");
export const remove = (name) => call(pathOf(name), { method: "DELETE" });

// collection: "jobs" or "runs"; request: a CreateJobRequest or CreateRunRequest.
export const create = (collection, request) => postTo(collection, request);

// A result's masks and weights as .safetensors; by {format: "npy", tensor} one of them.
export function filesUrl(name, resultIndex, query = {}) {
  const asked = new URLSearchParams(query);
  return `${BASE}/${pathOf(name)}/results/${resultIndex}/files${asked.size > 0 ? `?${asked}` : ""}`;
}

export function getDensity(job, resultIndex, matrix, cells) {
  const query = new URLSearchParams({ matrix, cells });
  return call(`${pathOf(job)}/results/${resultIndex}/density?${query}`);
}

// A text/event-stream of the JobEvents with a greater sequence.
export const eventsUrl = (name, afterSequence) =>
  `${BASE}/${pathOf(name)}/events${afterSequence > 0 ? `?afterSequence=${afterSequence}` : ""}`;

// What an EventSource does not say of such a stream: {refusal}, an ApiError, why there is none;
// {over: true} where nothing follows, as it has ended there; neither if there is one, or nobody
// answers.
export async function probeEvents(name, afterSequence) {
  const hangUp = new AbortController();
  const timer = setTimeout(() => hangUp.abort(), LIMIT_MS);
  try {
    const response = await fetch(eventsUrl(name, afterSequence), { signal: hangUp.signal });
    if (!response.ok) return { refusal: await failure(response) };
    return { over: response.status === NO_CONTENT };
  } catch {
    return {};
  } finally {
    clearTimeout(timer);
    hangUp.abort();
  }
}
