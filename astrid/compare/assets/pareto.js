"use strict";
// The metric against what it costs; the front is what no other run beats in both.
const COSTS = {
  energy: { title: "energy of the run, kWh", missing: "energy is unavailable" },
  latency: { title: "median latency of one tile, ms", missing: "latency was not measured" },
};

function drawPareto(data, group, cost) {
  const { title, missing } = COSTS[cost];
  const known = group.runs.filter((run) => run[cost] !== null);
  if (!known.length) return [note(`For no ranked run: ${missing}.`)];
  const costs = known.map((run) => run[cost]);
  const log = Math.min(...costs) > 0 && Math.max(...costs) / Math.min(...costs) > 5;
  const metrics = known.flatMap((run) => [run.value, run.low, run.high]).filter((value) => value !== null);
  const view = chart({
    label: `${data.metric} against ${title}, ${known.length} runs`,
    xTitle: title + (log ? ", logarithmic" : ""),
    yTitle: data.metric,
    xAxis: niceAxis(costs, { log }),
    yAxis: niceAxis(metrics),
  });
  const front = group.fronts[cost].map((id) => known.find((run) => run.id === id));
  view.svg.append(shape("path", { class: "front", d: path(steps(front.map((run) => [view.x(run[cost]), view.y(run.value)]))) }));
  for (const run of known) view.svg.append(...paretoPoint(data, run, { view, cost, best: front.includes(run) }));
  const unknown = group.runs.length - known.length;
  const lacking = unknown ? ` Not drawn: ${unknown} of ${group.runs.length} runs, whose ${missing}.` : "";
  const bars = metrics.length > known.length ? " Bars: 95 % intervals." : "";
  const text = `Filled: on the front, beaten by no run in both; ${better(data)}.${bars}${lacking}`;
  return [view.svg, make("p", { class: "caption" }, text)];
}

// Between two runs of the front nothing is known: the metric is that of the cheaper one until the dearer is paid for.
function steps(points) {
  return points.flatMap(([x, y], index) => (index ? [[x, points[index - 1][1]], [x, y]] : [[x, y]]));
}

function paretoPoint(data, run, { view, cost, best }) {
  const x = view.x(run[cost]);
  const marks = [];
  if (run.low !== null && run.high !== null) {
    marks.push(shape("line", { class: "whisker", x1: x, x2: x, y1: view.y(run.low), y2: view.y(run.high) }));
  }
  const look = { class: best ? "dot best" : "dot", r: best ? 5 : 4 };
  marks.push(shape("circle", { ...look, cx: x, cy: view.y(run.value), "data-tip": describe(data, run) }));
  return marks;
}
