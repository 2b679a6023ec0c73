// One tensor of a job, chosen among those that the server has stored.
import { el, setText } from "./dom.js";
import {
  choiceText,
  describedRef,
  DTYPES,
  factsOf,
  fits,
  isNamed,
  nameOf,
} from "./tensor_choice.js";

// One that is not among them, as the list was cut.
const given = (ref) => ({ tensor: ref, sizeBytes: "0", usedBy: "" });

export class TensorPicker {
  // ranks: how many dimensions it may have; choices: of choicesOf(); ref: the TensorRef to begin
  // with, or undefined; onRemove: undefined where it must stay.
  constructor({ label, ranks, choices, ref, onRemove }) {
    this.label = label;
    this.choices = new Map(
      choices.filter((one) => fits(one, ranks)).map((one) => [one.tensor.sha256, one]),
    );
    if (ref && !this.choices.has(ref.sha256)) this.choices.set(ref.sha256, given(ref));
    this.ref = ref;
    this.select = el("select", { "aria-label": label }, el("option", { value: "" }, "choose…"));
    for (const [digest, choice] of this.choices) {
      const text = digest === ref?.sha256 ? asItIs(choice) : choiceText(choice);
      this.select.append(el("option", { value: digest, title: digest }, text));
    }
    this.select.value = ref?.sha256 ?? "";
    const types = DTYPES.map((one) => el("option", {}, one));
    this.dtype = el("select", { "aria-label": `${label}: type` }, ...types);
    this.shape = el("input", {
      "aria-label": `${label}: shape`,
      placeholder: "128x64",
      autocomplete: "off",
    });
    this.note = el("small", { class: "muted" });
    this.unnamed = el(
      "small",
      { class: "unnamed" },
      "No job has named it: its type and shape ",
      this.dtype,
      " ",
      this.shape,
    );
    const remove =
      onRemove &&
      el("button", { type: "button", "aria-label": `Remove ${label}`, onclick: onRemove }, "Remove");
    this.node = el(
      "div",
      { class: "field" },
      el("span", {}, label),
      el("span", { class: "chosen" }, this.select, remove),
      this.note,
      this.unnamed,
    );
    this.select.addEventListener("change", () => this.show()); // before the form hears of it
    this.show();
  }

  // All of it also where the box is too narrow.
  show() {
    const digest = this.select.value;
    const kept = digest === this.ref?.sha256;
    const choice = this.choices.get(digest);
    setText(this.note, choice ? factsText(choice, kept) : "");
    this.note.hidden = !choice;
    this.unnamed.hidden = !choice || this.isKnown;
  }

  get isKnown() {
    return this.select.value === this.ref?.sha256 || isNamed(this.choices.get(this.select.value));
  }

  // As TensorRef of the API; an Error says what is missing.
  get value() {
    const digest = this.select.value;
    if (digest === "") throw new Error(`${this.label} must be chosen.`);
    if (digest === this.ref?.sha256) return this.ref;
    if (this.isKnown) return this.choices.get(digest).tensor;
    try {
      return describedRef(this.choices.get(digest), this.dtype.value, this.shape.value);
    } catch (error) {
      throw new Error(`${this.label}: ${error.message}.`);
    }
  }
}

const asItIs = (choice) => `${nameOf(choice)} · as it is`;

const factsText = (choice, kept) =>
  [factsOf(choice), kept && "as it is", choice.tensor.sha256.slice(0, 12)]
    .filter(Boolean)
    .join(" · ");
