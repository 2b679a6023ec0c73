// One run, live.
import { resume } from "./api.js";
import { announce } from "./announcer.js";
import { BlockMap } from "./block_map.js";
import { setText } from "./dom.js";
import { figure, fixed, number, STATES } from "./format.js";
import { LiveView } from "./live_view.js";
import { LossPanel } from "./loss_panel.js";
import { Notices } from "./notices.js";
import { RunHead } from "./run_head.js";
import { isBetweenTensors, RunModel } from "./run_model.js";
import { RunResults } from "./run_results.js";

export class RunView extends LiveView {
  constructor(main, id) {
    super(main, { word: "run", name: `runs/${id}`, template: "run-view" });
    setText(this.parts.fetchCommand, `attnprune fetch ${this.name} --output DIR`);
  }

  makeModel(run) {
    return new RunModel(run);
  }

  makePanels() {
    const { parts } = this;
    this.head = new RunHead(parts);
    this.map = new BlockMap(parts);
    this.losses = new LossPanel(parts);
    this.notices = new Notices(parts.notices);
    this.list = new RunResults(parts, this.name);
    parts.resume.addEventListener("click", () => this.resume());
  }

  // The view goes on where the run's events ended.
  async resume() {
    const { parts } = this;
    parts.resume.disabled = true;
    setText(parts.trouble, "");
    try {
      const run = await resume(this.name);
      if (this.closed) return;
      this.model.set(run);
      this.stream.restart();
      this.changed("results");
    } catch (error) {
      setText(parts.trouble, `Not resumed: ${error.message}`);
    } finally {
      parts.resume.disabled = false;
    }
  }

  tell(kind, event) {
    if (kind === "state" && event.stateChange) {
      announce(`Run ${STATES[event.stateChange.state]?.word ?? "changed"}.`);
    }
    if (kind === "result") announceResult(event.runResult);
    if (kind === "warning") announce(this.model.notices.at(-1).text);
    if (kind === "terminal") announce(`Run ${STATES[event.runTerminal.state]?.word ?? "ended"}.`);
  }

  drawPanels() {
    const { model } = this;
    this.head.update(model);
    if (this.gone) this.parts.resume.hidden = true;
    this.notices.update(model);
    const at = JSON.stringify([model.run.state, model.progress?.block, model.progress?.maps]);
    if (at !== this.at) this.map.update(model); // which cells are at work
    this.at = at;
    return this.losses.update(model);
  }

  drawResults() {
    this.map.update(this.model);
    this.list.update(this.model);
  }

  tick() {
    this.head.tick(this.model.run);
  }

  // docs/page.md
  snapshot() {
    const { run, progress, curve, results } = this.model;
    return {
      run,
      progress,
      results: [...results.values()],
      curve: curve && { ...curve, losses: curve.losses.points },
    };
  }

  themeChanged() {
    this.losses?.repaint();
  }

  closePanels() {
    this.losses?.destroy();
  }
}

// The ends of blocks, and the losses; each tensor would be too much.
function announceResult({ block, tensors = [], blockScore, modelScore, ...rest }) {
  if (isBetweenTensors(rest)) return;
  if (modelScore) {
    const [before, after] = [modelScore.denseNatsPerToken, modelScore.prunedNatsPerToken];
    announce(
      `Perplexity ${fixed(Math.exp(before), 2)} before, ${fixed(Math.exp(after), 2)} after.`,
    );
  } else if (tensors.length === 0) {
    const error = number(blockScore?.outputError);
    announce(`Block ${block} done${error === undefined ? "" : `, output error ${figure(error)}`}.`);
  }
}
