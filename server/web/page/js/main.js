// Which view the address asks for, the page's head, and the hook for tests and scripts.
import { getServerInfo } from "./api.js";
import { CompareView } from "./compare_view.js";
import { connectionState } from "./connection.js";
import { setText } from "./dom.js";
import { JobView } from "./job_view.js";
import { showSession } from "./login.js";
import { ModelView } from "./model_view.js";
import { QueueView } from "./queue_view.js";
import { RunView } from "./run_view.js";
import { SubmitView } from "./submit_view.js";
import { bindThemeButton, onThemeChange } from "./theme.js";

const SERVER_INTERVAL_MS = 5000;
const main = document.getElementById("main");
let view;

const VIEWS = { jobs: JobView, runs: RunView };

// Of an address that somebody typed.
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

// "#/" and "#/?state=RUNNING": the queue; "#/jobs/ID": a job; "#/runs/ID": a run; "#/new?from=jobs/ID":
// the form; "#/compare?jobs=ID,ID"; "#/models/WEIGHTS": the layers of a model.
function makeView() {
  const [path, text] = location.hash.replace(/^#/, "").split("?");
  const query = new URLSearchParams(text);
  if (path === "/new") return new SubmitView(main, query);
  if (path === "/compare") return new CompareView(main, query);
  const [, weights] = path.match(/^\/models\/(.+)$/) ?? [];
  if (weights) return new ModelView(main, decoded(weights));
  const [, collection, id] = path.match(/^\/(jobs|runs)\/([a-z0-9-]+)$/) ?? [];
  return id ? new VIEWS[collection](main, id) : new QueueView(main, query);
}

function route({ first = false } = {}) {
  view?.close();
  view = makeView();
  document.title = `${view.title} · attnprune`;
  if (!first) view.heading.focus();
}

async function showServer() {
  try {
    const info = await getServerInfo();
    setText(document.getElementById("version"), `v${info.version}`);
    setText(
      document.getElementById("load"),
      `${info.runningJobs ?? 0} running, ${info.queuedJobs ?? 0} queued`,
    );
  } catch {
    /* the view that is open says so */
  }
}

function watchServer() {
  if (document.visibilityState === "visible") showServer();
  setTimeout(watchServer, SERVER_INTERVAL_MS);
}

// docs/page.md: what a script can read of the open job or run; undefined while there is none.
globalThis.attnprune = {
  connection: connectionState,
  snapshot() {
    const model = view.model;
    return (
      model && {
        eventCount: model.eventCount,
        lastSequence: model.lastSequence,
        drawn: view.drawn,
        ...view.snapshot(),
      }
    );
  },
};

document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address's fragment is the view's
  main.focus();
});
bindThemeButton(document.getElementById("theme"));
onThemeChange(() => view.themeChanged());
addEventListener("hashchange", () => route());
showSession();
route({ first: true });
watchServer();
