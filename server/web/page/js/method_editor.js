// A method with its parameters as a form, from what the server says of its methods (ServerInfo).
import { el } from "./dom.js";

const HUGE = 1e9; // what no one would come to

function limits({ min, max }) {
  if (min === undefined) return "";
  return Number(max) < HUGE ? `${min} to ${max}` : `At least ${min}`;
}

function defaultText({ kind, defaultValue }) {
  if (defaultValue === undefined) return "by the problem";
  if (kind === "SWITCH") return Number(defaultValue) === 1 ? "on" : "off";
  return String(defaultValue);
}

// One parameter: what is left empty takes its default.
function parameterField(parameter, value) {
  const { name, kind, min, max, help } = parameter;
  const input =
    kind === "SWITCH"
      ? el(
          "select",
          { name },
          el("option", { value: "" }, `default (${defaultText(parameter)})`),
          el("option", { value: "1" }, "on"),
          el("option", { value: "0" }, "off"),
        )
      : el("input", {
          name,
          type: "number",
          step: kind === "INTEGER" ? 1 : "any",
          min: Number.isFinite(Number(min)) ? min : null,
          max: Number.isFinite(Number(max)) ? max : null,
          placeholder: defaultText(parameter),
        });
  if (value !== undefined) input.value = String(value);
  const usual = parameter.defaultValue === undefined ? "" : `; default ${defaultText(parameter)}`;
  const range = kind === "SWITCH" ? "" : `${limits(parameter)}${usual}`;
  const text = [help, range].filter(Boolean).map((part) => part.replace(/\.?$/, "."));
  return el(
    "label",
    { class: "field" },
    el("span", {}, name),
    input,
    el("small", { class: "muted" }, text.join(" ")),
  );
}

// A method that the server runs and does not describe.
const undescribed = ({ name, parameters = {} }) => ({
  name,
  summary: "",
  parameters: Object.keys(parameters).map((parameter) => ({ name: parameter, kind: "REAL" })),
});

export class MethodEditor {
  // methods: MethodInfos; method: a Method to begin with; onRemove: undefined where it must stay.
  constructor(methods, { method, onRemove }) {
    const known = !method || methods.some(({ name }) => name === method.name);
    methods = known ? methods : [undescribed(method), ...methods];
    this.methods = methods;
    this.select = el(
      "select",
      { "aria-label": "Method" },
      ...methods.map(({ name }) => el("option", { value: name }, name)),
    );
    this.summary = el("p", { class: "muted note" });
    this.fields = el("div", { class: "fields" });
    const more = el("details", {}, el("summary", {}, "Parameters"), this.fields);
    const remove = onRemove && el("button", { type: "button", onclick: onRemove }, "Remove");
    this.node = el(
      "div",
      { class: "method" },
      el("div", { class: "controls" }, this.select, remove),
      this.summary,
      more,
    );
    this.select.addEventListener("change", () => this.show({})); // before the form hears of it
    if (method) this.select.value = method.name;
    this.show(method?.parameters ?? {});
    more.open = Object.keys(method?.parameters ?? {}).length > 0;
  }

  show(values) {
    const info = this.methods.find(({ name }) => name === this.select.value);
    this.summary.textContent = info.summary;
    const parameters = info.parameters ?? [];
    this.fields.replaceChildren(
      ...parameters.map((parameter) => parameterField(parameter, values[parameter.name])),
    );
    if (parameters.length === 0) this.fields.textContent = "It has none.";
  }

  // As Method of the API.
  get value() {
    const set = [...this.fields.querySelectorAll("input, select")].filter(
      ({ value }) => value !== "",
    );
    const parameters = Object.fromEntries(set.map(({ name, value }) => [name, Number(value)]));
    return { name: this.select.value, parameters };
  }
}
