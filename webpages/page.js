// What a page can do with scripts: zoom and switch curves, filter claims, find where numbers come
// from. Without it the page shows its pictures and tables; panels and filters stay hidden.
"use strict";

const DASHES = {test: [], train: [6, 4], validation: [2, 3]};
const WIDTHS = {test: 2, train: 1.5, validation: 1.5};
const ZOOMS = {
  "+": "in", "=": "in", "-": "out", "_": "out", ArrowLeft: "left", ArrowRight: "right",
  "0": "all", Escape: "all",
};
const HINT = "Drag over the curves or use the buttons to zoom. Point at a curve for its numbers.";
const NEAR = 30; // pixels between the pointer and a curve

class Panel {
  constructor(root) {
    this.root = root;
    this.data = JSON.parse(root.querySelector(".curves").textContent);
    this.place = root.querySelector(".plot");
    this.readout = root.querySelector(".readout");
    root.hidden = false;
    root.addEventListener("change", () => this.draw());
    root.addEventListener("click", (event) => this.click(event));
    root.addEventListener("focusin", (event) => this.show(event.target));
    root.addEventListener("focusout", () => this.focus(null));
    root.addEventListener("mouseover", (event) => this.show(event.target));
    this.place.addEventListener("keydown", (event) => {
      const zoom = ZOOMS[event.key];
      if (!zoom || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      this.zoom(zoom);
    });
    new ResizeObserver(() => this.plot?.setSize(this.size())).observe(this.place);
    this.draw();
  }

  value(kind) {
    return this.root.querySelector(`select.${kind}`)?.value;
  }

  isOn(kind) {
    return this.root.querySelector(`input.${kind}`).checked;
  }

  unit() {
    return this.value("metric").includes("error") ? "%" : "";
  }

  // The values of the switches of a kind that are on; null if the panel has none.
  on(kind) {
    const switches = [...this.root.querySelectorAll(`input.${kind}`)];
    if (!switches.length) return null;
    return new Set(switches.filter((one) => one.checked).map((one) => one.value));
  }

  // The curves to draw: {name, colour, round, part, x, y, trace, label}.
  lines() {
    const metric = this.value("metric"), against = this.value("against");
    const labels = this.on("label"), seeds = this.on("seed");
    const ofMetric = this.data.curves.filter((curve) => curve.metric === metric);
    const has = new Set(ofMetric.map((curve) => curve.part));
    const asked = this.on("part"), wanted = [...has].filter((part) => asked.has(part));
    const parts = new Set(wanted.length ? wanted : has); // a learning rate has one part only
    const lines = [];
    for (const curve of ofMetric) {
      const run = this.data.runs[curve.run];
      if (!parts.has(curve.part) || !labels.has(String(run.place))) continue;
      if (seeds && !seeds.has(String(run.seed))) continue;
      const grid = this.data.grids[curve.grid];
      lines.push({
        ...run, part: curve.part, x: grid[against], steps: grid.step, y: curve.values,
        name: `${run.label}, seed ${run.seed}, ${curve.part}`,
      });
    }
    return this.value("drawn") === "mean" ? means(lines) : lines;
  }

  size() {
    const width = Math.max(240, this.place.clientWidth);
    return {width, height: Math.round(Math.min(440, Math.max(260, 0.55 * width)))};
  }

  draw() {
    this.current = this.lines();
    const logX = this.isOn("log-x"), logY = this.isOn("log-y");
    let dropped = 0;
    const drawn = this.current.map((line) => {
      const points = line.x.map((x, i) => [x, line.y[i]]);
      const kept = points.filter(([x, y]) => (!logX || x > 0) && (!logY || y > 0));
      dropped += points.length - kept.length;
      return kept;
    });
    const xs = [...new Set(drawn.flatMap((points) => points.map(([x]) => x)))];
    xs.sort((a, b) => a - b);
    const index = new Map(xs.map((x, i) => [x, i]));
    const columns = drawn.map((points) => {
      const column = new Array(xs.length).fill(null);
      for (const [x, y] of points) column[index.get(x)] = y;
      return column;
    });
    this.plot?.destroy();
    this.plot = null;
    this.place.replaceChildren();
    this.dropped = dropped ? `${dropped} values of 0 cannot be shown on a log scale. ` : "";
    this.place.dataset.curves = xs.length ? columns.length : 0;
    if (!xs.length) {
      this.readout.textContent = `${this.dropped}No curve is switched on.`;
      return;
    }
    this.whole = [xs[0], xs[xs.length - 1]];
    if (this.whole[0] === this.whole[1]) this.whole = [this.whole[0] - 1, this.whole[1] + 1];
    const unit = this.unit();
    const options = {
      ...this.size(),
      legend: {show: false},
      focus: {alpha: 0.25},
      cursor: {
        focus: {prox: NEAR}, drag: {x: true, y: true, uni: 20, dist: 6}, points: {show: false},
      },
      scales: {
        x: {time: false, distr: logX ? 3 : 1, range: (u, low, high) => [low, high]},
        y: {distr: logY ? 3 : 1, ...(logY ? {} : {range: within})},
      },
      axes: [
        {label: this.value("against"), labelSize: 22, size: 36, grid: {stroke: "#e7e7e2"}},
        {
          size: 58, grid: {stroke: "#e7e7e2"},
          values: (u, ticks) => ticks.map((v) => (v === null ? "" : short(v) + unit)),
        },
      ],
      series: [{}, ...this.current.map((line) => ({
        label: line.name, stroke: line.colour, width: WIDTHS[line.part], dash: DASHES[line.part],
        spanGaps: true,
        points: {
          show: line.round > 0 || line.x.length === 1, size: 5,
          fill: line.round > 1 ? "#fff" : line.colour,
        },
      }))],
      hooks: {
        setSeries: [(u, number) => this.tell(number)],
        setCursor: [() => this.told && this.tell(this.told)],
        setScale: [(u, key) => key === "x" && this.plot === u && this.note()],
      },
    };
    this.plot = new uPlot(options, [xs, ...columns], this.place);
    this.told = null;
    this.shown = null;
    this.tell(null);
    this.note();
  }

  // For tests and for styles: what part of the axis is shown.
  note() {
    const {min, max} = this.plot ? this.plot.scales.x : {};
    if (min === undefined) return;
    this.place.dataset.from = min;
    this.place.dataset.to = max;
  }

  // Says which curve is near the pointer, its value there, and where it comes from.
  tell(number) {
    this.told = number;
    const line = number ? this.current[number - 1] : null;
    if (!line || this.plot.cursor.idx === null || this.plot.cursor.idx === undefined) {
      this.readout.textContent = this.dropped + HINT;
      return;
    }
    const at = nearest(line.x, this.plot.data[0][this.plot.cursor.idx]);
    const link = document.createElement("a");
    link.href = `#${line.trace}`;
    link.textContent = line.name;
    const rest = `: ${short(line.y[at])}${this.unit()} at step ${line.steps[at].toLocaleString("en")}`;
    this.readout.replaceChildren(link, rest + (line.stalled ? " (stalled)" : ""));
  }

  // Brings out the curves of a run whose switch the pointer or the keyboard is on.
  show(target) {
    const tag = target.closest?.(".run");
    if (tag) this.focus(tag.querySelector("input").value);
    else if (!target.closest?.(".plot")) this.focus(null);
  }

  focus(place) {
    if (!this.plot || this.shown === place) return;
    this.shown = place;
    this.current.forEach((line, i) => {
      const width = WIDTHS[line.part];
      this.plot.series[i + 1].width = place === String(line.place) ? 2 * width : width;
      this.plot.series[i + 1].alpha = place === null || place === String(line.place) ? 1 : 0.25;
    });
    this.plot.redraw(false);
  }

  click(event) {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.zoom) this.zoom(button.dataset.zoom);
    if (button.dataset.all !== undefined) {
      const group = button.closest("fieldset");
      for (const one of group.querySelectorAll("input")) one.checked = Boolean(button.dataset.all);
      this.draw();
    }
  }

  zoom(how) {
    if (!this.plot) return;
    const log = this.isOn("log-x");
    const to = log ? Math.log : Number, from = log ? Math.exp : Number;
    const [low, high] = [this.plot.scales.x.min, this.plot.scales.x.max].map(to);
    const [first, last] = this.whole.map(to);
    const middle = (low + high) / 2, length = high - low;
    let half = length / 2, centre = middle;
    if (how === "in") half = length / 4;
    if (how === "out") half = length;
    if (how === "left") centre -= length / 4;
    if (how === "right") centre += length / 4;
    if (how === "all") half = last - first;
    half = Math.min(half, (last - first) / 2);
    centre = Math.min(Math.max(centre, first + half), last - half);
    this.plot.setScale("x", {min: from(centre - half), max: from(centre + half)});
  }
}

// One line per label and part: the mean over the seeds that did not stall, or over all if all did,
// at the steps that all of them logged.
function means(lines) {
  const groups = new Map();
  for (const line of lines) {
    const key = `${line.place} ${line.part}`;
    groups.set(key, [...(groups.get(key) ?? []), line]);
  }
  return [...groups.values()].map((all) => {
    const moving = all.filter((line) => !line.stalled);
    const seeds = moving.length ? moving : all;
    const [first] = seeds;
    const values = seeds.map((line) => new Map(line.steps.map((step, i) => [step, line.y[i]])));
    const kept = first.steps.map((step, i) => i).filter(
      (i) => values.every((of) => of.has(first.steps[i])));
    const mean = (step) => values.reduce((sum, of) => sum + of.get(step), 0) / values.length;
    return {
      ...first,
      x: kept.map((i) => first.x[i]),
      steps: kept.map((i) => first.steps[i]),
      y: kept.map((i) => mean(first.steps[i])),
      name: `${first.label}, mean of ${seeds.length} seed${seeds.length > 1 ? "s" : ""}, ${first.part}`,
    };
  });
}

// The range of a linear axis: from 0 unless the values are far from it.
function within(plot, low, high) {
  if (low === null) return [0, 1];
  const room = 0.05 * (high - low || Math.abs(high) || 1);
  return [low >= 0 && low <= high / 2 ? 0 : low - room, high + room];
}

function nearest(xs, x) {
  let best = 0;
  xs.forEach((value, i) => {
    if (Math.abs(value - x) < Math.abs(xs[best] - x)) best = i;
  });
  return best;
}

function short(value) {
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(1);
  return String(Number(value.toPrecision(4)));
}

// Rows of a table that fit the filters above it.
function filter(root) {
  const rows = [...root.querySelectorAll("tbody tr")];
  const count = root.querySelector(".count");
  const chosen = () => {
    const wanted = [...root.querySelectorAll("select")].filter((select) => select.value);
    const words = root.querySelector("input").value.trim().toLowerCase();
    for (const row of rows) {
      row.hidden = !(
        wanted.every((select) => row.dataset[select.name] === select.value) &&
        row.textContent.toLowerCase().includes(words)
      );
    }
    const shown = rows.filter((row) => !row.hidden).length;
    count.textContent = `${shown} of ${rows.length}`;
  };
  root.querySelector(".controls").hidden = false;
  root.addEventListener("input", chosen);
  chosen();
}

// Opens what is folded around the element that the address names.
function open() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let part = target; part; part = part.parentElement) {
    if (part.tagName === "DETAILS") part.open = true;
  }
  target.scrollIntoView();
}

for (const root of document.querySelectorAll(".panel")) new Panel(root);
for (const root of document.querySelectorAll(".filtered")) filter(root);
// A click on any number of a row leads to where it comes from; the keyboard uses the row's link.
document.addEventListener("click", (event) => {
  const cell = event.target.closest("tr[data-trace] td");
  if (cell && !getSelection().toString()) location.hash = cell.parentElement.dataset.trace;
});
addEventListener("hashchange", open);
open();
