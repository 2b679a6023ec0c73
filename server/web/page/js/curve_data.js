// The curves of a job as uPlot wants them: lines with their look, and one table of points.
import { number } from "./format.js";

// Of MethodRun.losses: where each figure stands in a point.
export const LOSS_FIGURES = {
  loss: { name: "attention loss", column: 2 },
  soft: { name: "soft relative error", column: 3 },
  gradient: { name: "gradient norm", column: 4 },
};

// Lines {label, method, index, kind, points: [[x, y], …]}; x is "step" or "seconds".
export function lossLines(model, figure, x, shown) {
  const { column } = LOSS_FIGURES[figure];
  return methodLines(model, shown, (run, line) => [line("train", column, run.losses.points, x)]);
}

// Calibration and held-out curves; a method with a result but no curve is a level line.
export function errorLines(model, x, shown, sets) {
  const lines = methodLines(model, shown, (run, line) => [
    sets.calibration && line("calibration", 2, run.errors.points, x),
    sets.heldOut && line("heldOut", 3, run.errors.points, x),
  ]);
  return lines.concat(levelLines(model, lines, x, shown, sets));
}

function methodLines(model, shown, linesOf) {
  const lines = [];
  let index = 0;
  for (const run of model.methods.values()) {
    const own = index++;
    if (!shown(run.label)) continue;
    const line = (kind, column, points, x) => ({
      label: run.label,
      method: own,
      kind,
      points: points
        .map((point) => [point[x === "seconds" ? 1 : 0], point[column]])
        .filter(([, y]) => y !== undefined),
    });
    lines.push(...linesOf(run, line).filter((made) => made && made.points.length > 0));
  }
  return lines;
}

function levelLines(model, curves, x, shown, sets) {
  const ends = curves.flatMap(({ points }) => [points[0][0], points.at(-1)[0]]);
  const from = Math.min(x === "seconds" ? 0 : 1, ...ends);
  const to = Math.max(from + 1, ...ends);
  const lines = [];
  let index = 0;
  for (const run of model.methods.values()) {
    const own = index++;
    const error = run.result?.relativeError;
    if (!error || run.errors.points.length > 0 || !shown(run.label)) continue;
    const held = sets.heldOut ? number(error.heldOut) : undefined;
    const level = held ?? (sets.calibration ? number(error.calibration) : undefined);
    if (level === undefined || !Number.isFinite(level)) continue;
    lines.push({
      label: run.label,
      method: own,
      kind: "level",
      points: [
        [from, level],
        [to, level],
      ],
    });
  }
  return lines;
}

// [xs, ys of line 0, ys of line 1, …] over all x; null where a line has no point. A logarithmic
// scale has no place for what is not above 0.
export function table(lines, logY) {
  if (lines.length === 0) return [[], []];
  const usable = (y) => (Number.isFinite(y) && (!logY || y > 0) ? y : null);
  const tables = lines.map(({ points }) => [
    points.map(([x]) => x),
    points.map(([, y]) => usable(y)),
  ]);
  return uPlot.join(
    tables,
    tables.map(() => [0, 0]),
  );
}
