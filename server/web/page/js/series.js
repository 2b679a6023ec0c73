// A curve that keeps its shape and not every point, however many steps there are.

// Points are arrays whose first entry grows from point to point. At most `limit` are kept: when
// there are that many, every second one goes and from then on points come no closer than the gaps
// that are left. The first and the newest point always stay.
export class Series {
  constructor(limit = 1000) {
    this.limit = limit;
    this.points = [];
    this.spacing = 0;
  }

  // A point that lies before the end (a job that goes on from a checkpoint takes steps again)
  // replaces what was from there on.
  add(point) {
    const points = this.points;
    while (points.length > 0 && points.at(-1)[0] >= point[0]) points.pop();
    if (points.length > 1 && points.at(-1)[0] - points.at(-2)[0] < this.spacing) points.pop();
    points.push(point);
    if (points.length >= this.limit) this.thin();
  }

  thin() {
    const last = this.points.length - 1;
    this.points = this.points.filter((_, i) => i % 2 === 0 || i === last);
    this.spacing = (2 * (this.points[last >> 1][0] - this.points[0][0])) / this.limit;
  }

  get last() {
    return this.points.at(-1);
  }
}
