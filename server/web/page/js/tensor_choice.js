// The tensors that a job can be of, out of what the server has stored. Nothing of the screen.
import { bytes, count, idOf } from "./format.js";

export const DTYPES = ["F32", "BF16", "F16", "F64"];
const ELEMENT_BYTES = { F64: 8, F32: 4, F16: 2, BF16: 2 };

// Whether a job has named it, and so said what it is.
export const isNamed = ({ tensor }) => (tensor.shape ?? []).length > 0;

// Of StoredTensors: those that a job has named first, and of both the newest first. Not what is
// still uploaded, nor masks, token ids, and what a run goes on from.
export function choicesOf(stored) {
  const usable = stored.filter(
    (one) => !one.uploadId && (isNamed(one) ? DTYPES.includes(one.tensor.dtype) : !one.usedBy),
  );
  const time = (one) => Date.parse(one.time ?? 0);
  return usable.sort((a, b) => isNamed(b) - isNamed(a) || time(b) - time(a));
}

// ranks: how many dimensions it may have.
export const fits = (choice, ranks) =>
  !isNamed(choice) || ranks.includes(choice.tensor.shape.length);

export const shapeText = (shape) => shape.map(count).join(" × ");

export const nameOf = ({ tensor }) => tensor.name || tensor.sha256.slice(0, 12);

// "128 × 64 · F32 · job abc"
export function factsOf(choice) {
  const { tensor, sizeBytes, usedBy } = choice;
  if (!isNamed(choice)) return `${bytes(sizeBytes)} · not used yet`;
  const user = usedBy && `${usedBy.startsWith("runs/") ? "run" : "job"} ${idOf(usedBy)}`;
  return [shapeText(tensor.shape), tensor.dtype, user].filter(Boolean).join(" · ");
}

export const choiceText = (choice) => `${nameOf(choice)} · ${factsOf(choice)}`;

// The TensorRef of one that no job has named; an Error says what its type and shape must be.
export function describedRef({ tensor, sizeBytes }, dtype, shapeField) {
  const shape = shapeField.split(/[\s,x×]+/).filter(Boolean);
  if (shape.length === 0 || !shape.every((extent) => /^[1-9]\d{0,15}$/.test(extent))) {
    throw new Error(`shape must be such as 128x64, got “${shapeField}”`);
  }
  const size = shape.reduce((product, extent) => product * Number(extent), ELEMENT_BYTES[dtype]);
  if (size !== Number(sizeBytes)) {
    const [is, has] = [size, Number(sizeBytes)].map(count);
    throw new Error(`${shapeText(shape)} of ${dtype} are ${is} bytes, the tensor has ${has}`);
  }
  return { sha256: tensor.sha256, dtype, shape };
}
