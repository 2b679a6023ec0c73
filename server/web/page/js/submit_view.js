// A new job or run, by a form: what is pruned and on which data come from one that there is, whose
// tensors are on the server; the rest can be changed.
import { create, get, getServerInfo, listJobs, listRuns } from "./api.js";
import { announce } from "./announcer.js";
import { setConnection } from "./connection.js";
import { el, fromTemplate, setText } from "./dom.js";
import { bytes, duration, idOf, modelText, number } from "./format.js";
import { MethodEditor } from "./method_editor.js";
import {
  inputOf,
  labelsField,
  newRequestId,
  parseLabels,
  parseSparsity,
  sparsityField,
} from "./request.js";

const MOST = 100; // of jobs and of runs to choose from
const SWITCHES = ["curvature", "reconstruction", "distillation"]; // of runs

export class SubmitView {
  // query: from: "jobs/x" or "runs/r-x", to begin with.
  constructor(main, query) {
    const { root, parts } = fromTemplate("submit-view");
    main.replaceChildren(root);
    this.parts = parts;
    this.heading = parts.heading;
    this.title = "New job or run";
    this.editors = [];
    const { form } = parts;
    form.addEventListener("input", () => this.changed());
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.send(false);
    });
    parts.check.addEventListener("click", () => this.send(true));
    parts.source.addEventListener("change", () => this.choose(parts.source.value));
    parts.addMethod.addEventListener("click", () => this.addMethod());
    this.load(query.get("from") ?? "");
  }

  async load(from) {
    try {
      const asked = { pageSize: MOST };
      const [info, runs, jobs] = await Promise.all([
        getServerInfo(),
        listRuns(asked),
        listJobs(asked),
      ]);
      if (this.closed) return;
      setConnection("on");
      this.info = info;
      this.offer(from, runs.runs ?? [], jobs.jobs ?? []);
      await this.choose(this.parts.source.value);
    } catch (error) {
      this.say(`The form cannot be filled: ${error.message}`, true);
    }
  }

  offer(from, runs, jobs) {
    const option = ({ name, labels }) =>
      el("option", { value: name }, [modelText(labels), idOf(name)].filter(Boolean).join(" · "));
    const group = (label, things) =>
      things.length > 0 ? el("optgroup", { label }, ...things.map(option)) : null;
    const known = [...runs, ...jobs].some(({ name }) => name === from);
    const given = from && !known ? [el("option", { value: from }, idOf(from))] : [];
    const groups = [...given, group("Runs: whole models", runs), group("Jobs: one layer", jobs)];
    this.parts.source.append(...groups.filter(Boolean));
    if (from) this.parts.source.value = from;
    const none = this.parts.source.options.length === 0;
    this.parts.form.hidden = none;
    this.parts.none.hidden = !none;
  }

  async choose(name) {
    if (!name) return;
    const thing = await get(name);
    if (this.closed) return;
    this.isRun = name.startsWith("runs/");
    this.base = inputOf(thing);
    this.fill();
  }

  fill() {
    const { parts, base, isRun } = this;
    setText(parts.sourceText, modelText(base.labels) ?? "");
    parts.sparsity.value = sparsityField(base.sparsity);
    parts.heldOut.value = number(base.heldOutFraction) || "";
    parts.seed.value = Number(base.seed) ? base.seed : "";
    parts.priority.value = base.priority || "";
    parts.labels.value = labelsField(base.labels);
    parts.ofRuns.hidden = !isRun;
    parts.addMethod.hidden = isRun;
    for (const name of SWITCHES) parts[name].checked = Boolean(base[name]);
    const methods = isRun ? [base.method] : (base.methods ?? []);
    this.editors = [];
    parts.methods.replaceChildren();
    for (const method of methods) this.addMethod(method);
    if (this.editors.length === 0) this.addMethod();
    this.changed();
  }

  addMethod(method) {
    const methods = (this.info.methods ?? []).filter((info) => !this.isRun || info.linearMaps);
    const first = this.editors.length === 0;
    const editor = new MethodEditor(methods, {
      method,
      onChange: () => this.changed(),
      onRemove: first ? undefined : () => this.removeMethod(editor),
    });
    this.editors.push(editor);
    this.parts.methods.append(editor.node);
    this.changed();
  }

  removeMethod(editor) {
    this.editors = this.editors.filter((kept) => kept !== editor);
    editor.node.remove();
    this.changed();
  }

  // Another request than before.
  changed() {
    this.requestId = newRequestId();
    setText(this.parts.answer, "");
    this.parts.json.textContent = "";
    if (!this.base) return;
    try {
      this.parts.json.textContent = JSON.stringify(this.request(true), undefined, 1);
    } catch (error) {
      this.parts.json.textContent = error.message;
    }
  }

  // The body of the request; an Error says what the form lacks.
  request(validateOnly) {
    const { parts, base, isRun } = this;
    const thing = { ...base, sparsity: parseSparsity(parts.sparsity.value) };
    thing.labels = parseLabels(parts.labels.value, base.labels);
    thing.priority = Number(parts.priority.value) || 0;
    thing.seed = parts.seed.value || "0";
    if (!base.heldOut || parts.heldOut.value) {
      thing.heldOutFraction = Number(parts.heldOut.value) || 0;
      if (thing.heldOutFraction > 0) delete thing.heldOut;
    }
    const values = this.editors.map(({ value }) => value);
    if (isRun) {
      thing.method = values[0];
      for (const name of SWITCHES) {
        if (!parts[name].checked) delete thing[name];
        else thing[name] ??= {};
      }
    } else {
      thing.methods = values;
    }
    return { [isRun ? "run" : "job"]: thing, requestId: this.requestId, validateOnly };
  }

  async send(validateOnly) {
    const { parts } = this;
    parts.submit.disabled = parts.check.disabled = true;
    try {
      const made = await create(this.isRun ? "runs" : "jobs", this.request(validateOnly));
      if (this.closed) return;
      if (validateOnly) this.say(checkedText(made), false);
      else location.hash = `#/${made.name}`;
    } catch (error) {
      if (!this.closed)
        this.say(`${validateOnly ? "Not valid" : "Not submitted"}: ${error.message}`, true);
    } finally {
      parts.submit.disabled = parts.check.disabled = false;
    }
  }

  say(text, bad) {
    this.parts.answer.className = bad ? "trouble" : "note";
    setText(this.parts.answer, text);
    announce(text);
  }

  themeChanged() {}

  close() {
    this.closed = true;
  }
}

function checkedText({ estimate = {} }) {
  const disk = estimate.diskBytes ? `, ${bytes(estimate.diskBytes)} on disk` : "";
  const takes = `about ${duration(number(estimate.seconds))} on one idle thread`;
  return `Valid: ${takes}, ${bytes(estimate.memoryBytes ?? 0)} of memory${disk}.`;
}
