// A run's results as a table, blocks x maps, with nothing of the screen.
import { ended, number } from "./format.js";
import { isBetweenTensors, judgedError, ROLES } from "./run_model.js";

// {columns: roles, hasOutput, rows: [{block, cells, output}], low, high}: errors from `low` to `high`,
// of those above 0, undefined without any. A cell {from, span, roles, state, tensor?, error?} covers `span`
// columns from `from` on; its state is "done", "working", "waiting", or "dense": left as it is.
// output: the block's output error, once it has one; without held-out rows none has (hasOutput).
export function blockTable(model) {
  const byBlock = new Map();
  const ends = new Map(); // of blocks that are done: their scores
  for (const { block, tensors = [], blockScore, modelScore, ...other } of model.results.values()) {
    if (isBetweenTensors(other)) continue;
    if (!byBlock.has(block)) byBlock.set(block, []);
    byBlock.get(block).push(...tensors);
    if (tensors.length === 0 && !modelScore) ends.set(block, blockScore ?? {});
  }
  const columns = columnsOf(model, ends.size > 0);
  const rows = Array.from({ length: model.blocks }, (_, block) => ({
    block,
    cells: cellsOf(model, block, columns, byBlock.get(block) ?? [], ends.has(block)),
    output: number(ends.get(block)?.outputError),
  }));
  const errors = rows
    .flatMap(({ cells }) => cells.map(({ error }) => error))
    .filter((error) => error > 0 && Number.isFinite(error));
  return { columns, hasOutput: model.hasHeldOut, rows, low: least(errors), high: most(errors) };
}

const least = (values) => values.reduce((a, b) => (b >= a ? a : b), undefined);
const most = (values) => values.reduce((a, b) => (b <= a ? a : b), undefined);

// All maps that a block may have, until one shows which of them this model has and prunes.
function columnsOf(model, known) {
  const seen = new Set(model.tensors.flatMap(({ tensor }) => tensor.maps ?? []));
  const unheard = [...seen].filter((role) => !ROLES.includes(role));
  return [...ROLES.filter((role) => !known || seen.has(role)), ...unheard];
}

// A tensor whose maps do not stand side by side has a cell in each place.
function cellsOf(model, block, columns, tensors, blockEnded) {
  const cells = [];
  columns.forEach((role, from) => {
    const tensor = tensors.find(({ maps = [] }) => maps.includes(role));
    const before = cells.at(-1);
    if (tensor && before?.tensor === tensor) {
      before.span += 1;
      before.roles.push(role);
      return;
    }
    const state = tensor ? "done" : stateOf(model, block, role, blockEnded);
    const error = tensor && judgedError(tensor);
    cells.push({ from, span: 1, roles: [role], state, tensor, error });
  });
  return cells;
}

function stateOf({ progress, run }, block, role, blockEnded) {
  if (blockEnded || run.state === "SUCCEEDED") return "dense";
  if (ended(run.state) || progress?.block !== block) return "waiting";
  return (progress.maps ?? []).includes(role) ? "working" : "waiting";
}
