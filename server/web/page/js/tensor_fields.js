// Which tensors a job is of: its weights, its calibration and its held-out batches, those of the
// job that it begins with until others are chosen.
import { listAll, listTensors } from "./api.js";
import { setText } from "./dom.js";
import { count } from "./format.js";
import { choicesOf } from "./tensor_choice.js";
import { TensorPicker } from "./tensor_picker.js";

const MOST = 2000; // of what is stored, to choose from
const BATCHES = [2, 3], MATRIX = [2], VECTOR = [1];

// What there is to choose of a problem: [path, label, ranks].
function weightsOf({ fused, projections }) {
  if (fused?.qFactor) {
    return [
      [["fused", "qFactor"], "Factor of queries", MATRIX],
      [["fused", "kFactor"], "Factor of keys", MATRIX],
    ];
  }
  if (fused) return [[["fused", "weight"], "Weights W", MATRIX]];
  const biases = [
    [["projections", "bQ"], "Bias of queries", VECTOR],
    [["projections", "bK"], "Bias of keys", VECTOR],
  ];
  return [
    [["projections", "wQ"], "Weights of queries", MATRIX],
    [["projections", "wK"], "Weights of keys", MATRIX],
    ...biases.filter(([[, name]]) => projections?.[name]),
  ];
}

// The layer that is put together by hand, without biases and norms.
const EMPTY = { fused: { fused: {} }, projections: { projections: {} } };

function whole(input, name, least) {
  const value = Number(input.value);
  if (input.value !== "" && Number.isInteger(value) && value >= least) return value;
  throw new Error(`${name} must be a whole number of at least ${least}, got “${input.value}”.`);
}

export class TensorFields {
  // parts: of the submit view; onChange: another tensor was chosen, or the choice is there.
  constructor(parts, onChange) {
    Object.assign(this, { parts, onChange });
    parts.tensors.addEventListener("toggle", () => parts.tensors.open && this.offer());
    parts.kind.addEventListener("change", () => this.chooseKind());
    parts.addCalibration.addEventListener("click", () => this.addBatch(this.calibration));
    parts.addHeldOut.addEventListener("click", () => this.addBatch(this.heldOut));
  }

  // job: what it begins with; byHand: a layer of no job's, whose problem is chosen here.
  begin(job, byHand) {
    const { parts } = this;
    Object.assign(this, { job, byHand, problem: job.problem, weights: undefined });
    parts.layer.hidden = !byHand;
    parts.chooser.hidden = true; // until it is known what is stored
    if (byHand) this.chooseKind();
    if (byHand) parts.tensors.open = true;
    if (parts.tensors.open) this.offer();
  }

  chooseKind() {
    const { kind, headFields } = this.parts;
    this.problem = EMPTY[kind.value];
    headFields.hidden = !this.problem.projections;
    if (this.weights) this.showWeights();
  }

  // Asks what is stored, once for all jobs.
  async offer() {
    const { parts } = this;
    try {
      this.stored ??= listAll(listTensors, "tensors", {}, MOST);
      const { all, more } = await this.stored;
      if (this.closed || this.weights) return;
      this.choices = choicesOf(all);
      const cut = `Of the first ${count(MOST)} that are stored, by digest.`;
      setText(parts.tensorNote, more ? cut : "");
      this.show();
    } catch (error) {
      this.stored = undefined; // asked again when it is opened again
      if (!this.closed) setText(parts.tensorNote, `What is stored is not known: ${error.message}`);
    }
  }

  showWeights() {
    const { choices, problem } = this;
    this.weights = weightsOf(problem).map(([[group, name], label, ranks]) => ({
      group,
      name,
      picker: new TensorPicker({ label, ranks, choices, ref: problem[group][name] }),
    }));
    this.parts.weightRows.replaceChildren(...this.weights.map(({ picker }) => picker.node));
  }

  show() {
    const { parts, job } = this;
    this.showWeights();
    this.calibration = { label: "Batch", node: parts.calibrationRows, pickers: [], least: 1 };
    this.heldOut = { label: "Held-out batch", node: parts.heldOutRows, pickers: [], least: 0 };
    for (const [list, refs] of [
      [this.calibration, job.calibration ?? []],
      [this.heldOut, job.heldOut ?? []],
    ]) {
      list.node.replaceChildren();
      for (const one of refs) this.addBatch(list, one);
    }
    if (this.calibration.pickers.length === 0) this.addBatch(this.calibration);
    parts.chooser.hidden = false;
    this.onChange();
  }

  addBatch(list, ref) {
    const { pickers, least, node } = list;
    const remove = () => {
      pickers.splice(pickers.indexOf(picker), 1);
      picker.node.remove();
      this.onChange();
    };
    const picker = new TensorPicker({
      label: `${list.label} ${(list.made = (list.made ?? 0) + 1)}`,
      ranks: BATCHES,
      choices: this.choices,
      ref,
      onRemove: pickers.length >= least ? remove : undefined,
    });
    pickers.push(picker);
    node.append(picker.node);
    this.onChange();
  }

  // The job with what is chosen here; an Error says what is missing.
  apply(job) {
    if (!this.weights) {
      if (this.byHand) throw new Error("What the server has stored is not known yet.");
      return job;
    }
    const problem = structuredClone(this.problem);
    for (const { group, name, picker } of this.weights) problem[group][name] = picker.value;
    if (this.byHand && problem.projections) this.setHeads(problem.projections);
    const refs = ({ pickers }) => pickers.map(({ value }) => value);
    return { ...job, problem, calibration: refs(this.calibration), heldOut: refs(this.heldOut) };
  }

  setHeads(projections) {
    const { headCount, keyHeads, theta } = this.parts;
    projections.heads = whole(headCount, "Heads", 1);
    if (keyHeads.value !== "") projections.kvHeads = whole(keyHeads, "Key heads", 1);
    if (theta.value !== "") projections.rope = { theta: Number(theta.value) };
  }

  close() {
    this.closed = true;
  }
}
