// A new job or run, by a form: begun with one that there is, or of a layer that is put together of
// tensors that are on the server.
import { create, get, getServerInfo, listJobs, listRuns } from "./api.js";
import { announce } from "./announcer.js";
import { setConnection } from "./connection.js";
import { el, fromTemplate, setText } from "./dom.js";
import { bytes, duration, idOf, modelText, number } from "./format.js";
import { labelsText, ownLabels, withLabels } from "./labels.js";
import { MethodEditor } from "./method_editor.js";
import { inputOf, newRequestId, parseSparsity, sparsityField } from "./request.js";
import { TensorFields } from "./tensor_fields.js";

const MOST = 100; // of jobs and of runs to choose from
const SWITCHES = ["curvature", "reconstruction", "distillation"]; // of runs
const BY_HAND = "tensors"; // in place of a job's name

const byHand = () => ({ problem: { projections: {} }, calibration: [], heldOut: [] });

// An Error says that what is in the field is no number.
function numberOf(input, name) {
  if (input.validity.badInput) throw new Error(`${name} must be a number.`);
  return input.value;
}

export class SubmitView {
  // query: from: "jobs/x", "runs/r-x" or "tensors", to begin with.
  constructor(main, query) {
    const { root, parts } = fromTemplate("submit-view");
    main.replaceChildren(root);
    this.parts = parts;
    this.heading = parts.heading;
    this.title = "New job or run";
    this.editors = [];
    this.tensors = new TensorFields(parts, () => this.changed());
    const { form } = parts;
    for (const type of ["input", "change"]) form.addEventListener(type, () => this.changed());
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
    const { parts } = this;
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
      await this.choose(parts.source.value);
    } catch (error) {
      if (this.closed) return;
      setText(parts.trouble, `The form cannot be filled: ${error.message}`);
    }
  }

  offer(from, runs, jobs) {
    const option = ({ name, labels }) =>
      el("option", { value: name }, [modelText(labels), idOf(name)].filter(Boolean).join(" · "));
    const group = (label, things) =>
      things.length > 0 ? el("optgroup", { label }, ...things.map(option)) : null;
    const known = from === BY_HAND || [...runs, ...jobs].some(({ name }) => name === from);
    const given = from && !known ? [el("option", { value: from }, idOf(from))] : [];
    const groups = [
      ...given,
      group("Runs: whole models", runs),
      group("Jobs: one layer", jobs),
      el(
        "optgroup",
        { label: "Tensors on the server" },
        el("option", { value: BY_HAND }, "A layer put together here"),
      ),
    ];
    this.parts.source.append(...groups.filter(Boolean));
    if (from) this.parts.source.value = from;
  }

  // The form is of what was chosen last, whichever answer comes first.
  async choose(name) {
    this.asked = name;
    let base;
    try {
      base = name === BY_HAND ? byHand() : inputOf(await get(name));
    } catch (error) {
      if (this.closed || this.asked !== name) return;
      this.base = undefined;
      this.parts.form.hidden = false;
      this.say(`There is no ${idOf(name)} to begin with: ${error.message}`, true);
      return;
    }
    if (this.closed || this.asked !== name) return;
    this.isRun = name.startsWith("runs/");
    this.base = base;
    this.fill(name === BY_HAND);
    this.parts.form.hidden = false;
  }

  fill(byHandNow) {
    const { parts, base, isRun } = this;
    setText(parts.sourceText, modelText(base.labels) ?? "");
    parts.sparsity.value = sparsityField(base.sparsity);
    parts.heldOut.value = number(base.heldOutFraction) || "";
    parts.seed.value = Number(base.seed) ? base.seed : "";
    parts.priority.value = base.priority || "";
    parts.labels.value = labelsText(ownLabels(base.labels));
    parts.ofRuns.hidden = !isRun;
    parts.addMethod.hidden = isRun;
    for (const name of SWITCHES) parts[name].checked = Boolean(base[name]);
    parts.tensors.hidden = isRun;
    if (!isRun) this.tensors.begin(base, byHandNow);
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
    setText(this.parts.json, this.preview());
  }

  preview() {
    if (!this.base) return "";
    try {
      return JSON.stringify(this.request(true), undefined, 1);
    } catch (error) {
      return error.message;
    }
  }

  // The body of the request; an Error says what the form lacks.
  request(validateOnly) {
    const { parts, isRun } = this;
    if (!this.base) throw new Error("There is nothing to begin with.");
    const base = isRun ? this.base : this.tensors.apply(this.base);
    const thing = { ...base, sparsity: parseSparsity(parts.sparsity.value) };
    thing.labels = withLabels(parts.labels.value, base.labels);
    thing.priority = Number(numberOf(parts.priority, "Priority"));
    thing.seed = numberOf(parts.seed, "Seed") || "0";
    const fraction = Number(numberOf(parts.heldOut, "Held-out fraction"));
    thing.heldOutFraction = fraction;
    if (fraction > 0) delete thing.heldOut;
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
      if (this.closed) return;
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
    this.tensors.close();
  }
}

function checkedText({ estimate = {} }) {
  const disk = estimate.diskBytes ? `, ${bytes(estimate.diskBytes)} on disk` : "";
  const takes = `about ${duration(number(estimate.seconds))} on one idle thread`;
  return `Valid: ${takes}, ${bytes(estimate.memoryBytes ?? 0)} of memory${disk}.`;
}
