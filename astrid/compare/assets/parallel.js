"use strict";
// Parallel coordinates: one line a run through the knobs that differ, to its metric.

function drawParallel(data, group) {
  if (!group.axes.length) return [note("The ranked runs have the same configuration.")];
  const size = { width: 1320, height: 400, top: 46, bottom: 372 };
  const axes = [...group.axes.map((axis) => knobAxis(axis, size)), metricAxis(data, group, size)];
  axes.forEach((axis, index) => { axis.x = 90 + (index * (size.width - 180)) / (axes.length - 1); });
  const label = `${group.runs.length} runs through ${axes.map((axis) => axis.title).join(", ")}`;
  const svg = shape("svg", { viewBox: `0 0 ${size.width} ${size.height}`, role: "img", "aria-label": label });
  const share = goodness(group.runs.map((run) => run.value), data.lower);
  for (const run of [...group.runs].reverse()) {
    const points = axes.map((axis) => [axis.x, axis.place(run)]);
    const look = { class: "line", stroke: rgb(heat(share(run.value))), opacity: group.runs.length > 40 ? 0.55 : 0.9 };
    svg.append(shape("path", { ...look, d: path(points), "data-tip": knobTip(data, group, run) }));
  }
  axes.forEach((axis, index) => svg.append(...axisMarks(axis, size, index)));
  return [svg, make("p", { class: "caption" }, `The stronger the colour, the better: ${data.metric}, ${better(data)}.`)];
}

function knobTip(data, group, run) {
  return [describe(data, run), ...group.axes.map((axis) => `${axis.key}: ${run.params[axis.key]}`)].join("\n");
}

function knobAxis(axis, size) {
  const { named, numbers } = axis;
  const split = numbers.length ? size.bottom - 30 * named.length : size.top; // names below, numbers above
  const y = numbers.length ? numberScale(numbers, split, size.top) : null;
  const gap = numbers.length ? 30 : (size.bottom - size.top) / Math.max(named.length - 1, 1);
  const nameY = (value) => size.bottom - named.indexOf(value) * gap;
  const few = numbers.length <= 8;
  const ticks = numbers.length ? (few ? numbers : y.axis.ticks).map((value) => [tickText(value), y.place(value)]) : [];
  ticks.push(...named.map((value) => [shorten(value), nameY(value)]));
  const place = (run) => {
    const value = run.params[axis.key];
    return named.includes(value) ? nameY(value) : y.place(Number(value));
  };
  return { title: axis.key, ticks, place };
}

function metricAxis(data, group, size) {
  const y = numberScale(group.runs.map((run) => run.value), size.bottom, size.top, false);
  const ticks = y.axis.ticks.map((value) => [tickText(value), y.place(value)]);
  return { title: data.metric, ticks, place: (run) => y.place(run.value) };
}

function numberScale(numbers, bottom, top, mayBeLog = true) {
  const low = Math.min(...numbers), high = Math.max(...numbers);
  const log = mayBeLog && low > 0 && high / low >= 4;
  const few = mayBeLog && numbers.length <= 8 && low < high;
  const axis = few ? { low, high, ticks: numbers, log } : niceAxis(numbers, { log });
  return { axis, place: scale(axis.low, axis.high, bottom, top, axis.log) };
}

function axisMarks(axis, size, index) {
  const marks = [shape("line", { class: "axis", x1: axis.x, x2: axis.x, y1: size.top, y2: size.bottom })];
  const lift = index % 2 ? 0 : -16; // neighbours' titles take turns, or long ones would touch
  marks.push(shape("text", { x: axis.x, y: size.top - 14 + lift, "text-anchor": "middle" }, axis.title));
  for (const [text, y] of axis.ticks) {
    marks.push(shape("circle", { cx: axis.x, cy: y, r: 2.5, fill: "var(--soft)" }));
    const halo = "paint-order:stroke;stroke:var(--panel);stroke-width:4px";
    marks.push(shape("text", { class: "tick", x: axis.x + 8, y: y + 4, style: halo, "pointer-events": "none" }, text));
  }
  return marks;
}

function shorten(text) {
  return text.length > 20 ? `${text.slice(0, 19)}…` : text;
}
