"use strict";
// One metric by epoch, all runs over each other: the picked ones in colour, the others faint.

function curveNames(group) {
  const names = group.runs.flatMap((run) => Object.keys(run.curves));
  return [...new Set(names)].sort((one, other) => (other === "val/auprc") - (one === "val/auprc") || one.localeCompare(other));
}

function drawCurves(data, group, state) {
  const name = state.curve;
  const drawn = group.runs.filter((run) => run.curves[name]);
  if (!drawn.length) return [note("No run has recorded a metric for each epoch.")];
  const points = drawn.flatMap((run) => run.curves[name]);
  const { svg, x, y } = chart({
    label: `${name} by epoch of ${drawn.length} runs`,
    xTitle: "epoch",
    yTitle: name,
    xAxis: niceAxis(points.map(([epoch]) => epoch), { whole: true }),
    yAxis: niceAxis(points.map(([, value]) => value), { log: isLoss(name, points) }),
  });
  const styles = pickedStyles(group, state);
  const faintFirst = [...drawn].sort((one, other) => styles.has(one.id) - styles.has(other.id));
  for (const run of faintFirst) svg.append(curve(data, run, run.curves[name], { x, y, style: styles.get(run.id) }));
  return [svg, legend(group, styles)];
}

// A loss falls over decades: its late differences need a logarithmic axis.
function isLoss(name, points) {
  const values = points.map(([, value]) => value);
  return !/au(prc|roc)/.test(name) && Math.min(...values) > 0 && Math.max(...values) / Math.min(...values) > 5;
}

function pickedStyles(group, state) {
  const picked = group.runs.filter((run) => state.picked.has(run.id));
  return new Map(picked.map((run, index) => [run.id, {
    stroke: COLOURS[index % COLOURS.length],
    "stroke-dasharray": ["none", "6 3", "2 2"][Math.floor(index / COLOURS.length) % 3],
  }]));
}

function curve(data, run, points, { x, y, style }) {
  const where = points.map(([epoch, value]) => [x(epoch), y(value)]);
  const tip = describe(data, run);
  if (points.length === 1) {
    return shape("circle", { cx: where[0][0], cy: where[0][1], r: 4, class: "dot", "data-tip": tip, ...style });
  }
  return shape("path", { class: style ? "line" : "line faint", d: path(where), "data-tip": tip, ...style });
}

function legend(group, styles) {
  const list = make("ul", { class: "legend" });
  for (const run of group.runs.filter((one) => styles.has(one.id))) {
    const line = shape("line", { x1: 0, x2: 26, y1: 5, y2: 5, "stroke-width": 3, ...styles.get(run.id) });
    const swatch = shape("svg", { viewBox: "0 0 26 10", "aria-hidden": "true" }, line);
    list.append(make("li", {}, swatch, `${run.text[0]}. ${run.name}`));
  }
  return list;
}
