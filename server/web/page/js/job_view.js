// One job, live.
import { announce } from "./announcer.js";
import { CurvesPanel } from "./curves_panel.js";
import { DensityPanel } from "./density_panel.js";
import { setText } from "./dom.js";
import { figure, STATES } from "./format.js";
import { HeatMap } from "./heat_map.js";
import { JobHead } from "./job_details.js";
import { JobModel, ranking } from "./job_model.js";
import { LiveView } from "./live_view.js";
import { MethodsPanel } from "./methods_panel.js";
import { Notices } from "./notices.js";
import { ResultsTable } from "./results_table.js";

export class JobView extends LiveView {
  constructor(main, id) {
    super(main, { word: "job", name: `jobs/${id}`, template: "job-view" });
    setText(this.parts.fetchCommand, `attnprune watch ${this.name}`);
  }

  makeModel(job) {
    return new JobModel(job);
  }

  makePanels() {
    const { parts } = this;
    this.head = new JobHead(parts);
    this.methods = new MethodsPanel(parts.methodRows);
    this.curves = new CurvesPanel(parts, () => this.changed());
    this.results = new ResultsTable(parts.resultRows, this.name);
    this.heat = new HeatMap(parts, () => this.heat.update(this.model));
    this.densities = new DensityPanel(parts, this.name);
    this.notices = new Notices(parts.notices);
  }

  tell(kind, event) {
    if (kind === "state") announce(`Job ${STATES[event.stateChange.state]?.word ?? "changed"}.`);
    if (kind === "result" && !event.methodResult.failure) {
      announce(
        `${event.methodResult.method} done, relative error ${figure(ranking(event.methodResult))}.`,
      );
    }
    if (kind === "warning") announce(this.model.notices.at(-1).text);
    if (kind === "terminal") announce(`Job ${STATES[event.terminal.state]?.word ?? "ended"}.`);
  }

  drawPanels() {
    const { model } = this;
    this.head.update(model);
    this.methods.update(model);
    const curve = this.curves.update(model);
    this.notices.update(model);
    return curve;
  }

  drawResults() {
    this.parts.results.hidden = (this.model.job.results ?? []).length === 0;
    this.results.update(this.model);
    this.heat.update(this.model);
    this.densities.update(this.model);
  }

  tick() {
    this.head.tick(this.model.job);
  }

  // docs/page.md
  snapshot() {
    const { model } = this;
    return {
      job: model.job,
      methods: [...model.methods.values()].map((run) => ({
        label: run.label,
        state: run.state(model.job.state),
        progress: run.progress,
        losses: run.losses.points,
        errors: run.errors.points,
      })),
    };
  }

  themeChanged() {
    this.curves?.repaint();
  }

  closePanels() {
    this.curves?.destroy();
  }
}
