"use strict";
// The metric for each depth and number of filters, as the mean of the runs that have them.

function drawHeatmap(data, group) {
  const { cells } = group;
  if (!cells.length) return [note("No ranked run says its model.depth and model.filters.")];
  const depths = distinct(cells.map((cell) => cell.depth)), filters = distinct(cells.map((cell) => cell.filters));
  const share = goodness(cells.map((cell) => cell.mean), data.lower);
  const size = { width: 640, left: 74, top: 14, cell: Math.min(90, Math.max(36, 300 / depths.length)) };
  const wide = (size.width - size.left - 16) / filters.length;
  const bottom = size.top + depths.length * size.cell;
  const label = `mean ${data.metric} by depth and filters`;
  const svg = shape("svg", { viewBox: `0 0 ${size.width} ${bottom + 52}`, role: "img", "aria-label": label });
  for (const cell of cells) {
    const left = size.left + filters.indexOf(cell.filters) * wide;
    const top = size.top + (depths.length - 1 - depths.indexOf(cell.depth)) * size.cell;
    svg.append(...heatCell(data, cell, { left, top, wide, high: size.cell, share: share(cell.mean) }));
  }
  filters.forEach((value, index) => svg.append(middleText(size.left + (index + 0.5) * wide, bottom + 18, value)));
  depths.forEach((value, index) => {
    const y = bottom - (index + 0.5) * size.cell + 4;
    svg.append(shape("text", { class: "tick", x: size.left - 8, y, "text-anchor": "end" }, value));
  });
  svg.append(shape("text", { x: (size.left + size.width) / 2, y: bottom + 42, "text-anchor": "middle" }, "filters of the first level"));
  const centre = (size.top + bottom) / 2;
  svg.append(shape("text", { x: 22, y: centre, "text-anchor": "middle", transform: `rotate(-90 22 ${centre})` }, "depth"));
  const several = cells.some((cell) => cell.count > 1) ? "mean of the runs of each cell; " : "one run a cell; ";
  return [svg, make("p", { class: "caption" }, `${data.metric}, ${several}${better(data)}, in the stronger colour.`)];
}

function heatCell(data, cell, { left, top, wide, high, share }) {
  const ground = heat(share);
  const runs = cell.count === 1 ? "1 run" : `${cell.count} runs, ${cell.range}`;
  const tip = `depth ${cell.depth}, ${cell.filters} filters\n${data.metric}: ${cell.text}\n${runs}`;
  const place = { x: left + 1, y: top + 1, width: wide - 2, height: high - 2, rx: 3 };
  const block = shape("rect", { class: "cell", fill: rgb(ground), "data-tip": tip, ...place });
  const at = { x: left + wide / 2, y: top + high / 2 + 5, "text-anchor": "middle", style: `fill:${inkOn(ground)}` };
  return [block, shape("text", { ...at, "pointer-events": "none" }, cell.text)];
}

function middleText(x, y, text) {
  return shape("text", { class: "tick", x, y, "text-anchor": "middle" }, text);
}

function distinct(values) {
  return [...new Set(values)].sort((one, other) => one - other);
}
