// Labels as people write them: "team=a, note=b". A value with a comma, a quote or a space at its
// ends stands in quotes, as in JSON. Nothing of the screen.

const PART = /\s*([^=,]*?)\s*(?:=\s*("(?:[^"\\]|\\.)*"|[^,]*?))?\s*(?:,|$)/gy;

function valueOf(text = "") {
  if (!text.startsWith('"')) return text;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

// [key, value] pairs; a key alone has the empty value.
export function parseLabels(text) {
  return [...text.matchAll(PART)]
    .filter(([, key]) => key !== "")
    .map(([, key, value]) => [key, valueOf(value)]);
}

const isPlain = (value) => !/[,"\\]|^\s|\s$/.test(value);

export function labelsText(pairs) {
  return pairs
    .map(([key, value]) => {
      if (value === "") return key;
      return `${key}=${isPlain(value) ? value : JSON.stringify(value)}`;
    })
    .join(", ");
}

// The command line's own say what was read.
const isOwn = ([key]) => !key.startsWith("attnprune/");

// In order of key: a map's order is another at each answer.
export const ownLabels = (labels = {}) => Object.entries(labels).filter(isOwn).sort();

// What was written, with the command line's labels of before.
export function withLabels(text, before = {}) {
  const kept = Object.entries(before).filter((pair) => !isOwn(pair));
  return Object.fromEntries([...kept, ...parseLabels(text)]);
}
