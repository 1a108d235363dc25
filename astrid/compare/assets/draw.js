"use strict";
// Elements, scales and axes. Text enters by textContent and attributes only, so that no name can become markup.
const SVG = "http://www.w3.org/2000/svg";
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1", "#8a8a00"];
// From worst to best; the best stands out most from the ground, so light and dark pages need palettes of their own.
const LIGHT = ["#cde6d8", "#7fc8b5", "#3c9fb5", "#2668a5", "#25377f", "#12123f"];
const DARK = ["#5b3a7e", "#414f97", "#2a788e", "#22a884", "#7ad151", "#fde725"];
const darkness = window.matchMedia("(prefers-color-scheme: dark)");

function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function shape(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.map((child) => (typeof child === "number" ? String(child) : child)));
  return node;
}

function byId(id) {
  return document.getElementById(id);
}

// Return a function from values to pixels; `log` for ranges over decades.
function scale(low, high, start, end, log = false) {
  const bend = log ? Math.log10 : (value) => value;
  const span = bend(high) - bend(low) || 1;
  return (value) => start + ((bend(value) - bend(low)) / span) * (end - start);
}

// Widen a range of values to round ticks: {low, high, ticks, log}.
function niceAxis(values, { log = false, whole = false } = {}) {
  let low = Math.min(...values), high = Math.max(...values);
  if (log) return logAxis(low, high);
  if (low === high) {
    const pad = whole ? 1 : Math.abs(low) * 0.05 || 1;
    low -= pad;
    high += pad;
  }
  const rough = (high - low) / 5, power = 10 ** Math.floor(Math.log10(rough));
  let step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough);
  if (whole) step = Math.max(1, Math.round(step));
  const first = Math.floor(low / step + 1e-9), last = Math.ceil(high / step - 1e-9);
  const ticks = Array.from({ length: last - first + 1 }, (_, index) => (first + index) * step);
  return { low: ticks[0], high: ticks[ticks.length - 1], ticks, log: false };
}

function logAxis(low, high) {
  const wide = high / low > 100;
  const factors = wide ? [1] : [1, 2, 5];
  const all = [];
  for (let power = Math.floor(Math.log10(low)) - 1; power <= Math.ceil(Math.log10(high)) + 1; power += 1) {
    all.push(...factors.map((factor) => Number(`${factor}e${power}`)));
  }
  const first = all.findLastIndex((tick) => tick <= low), last = all.findIndex((tick) => tick >= high);
  const ticks = all.slice(first, Math.max(last, first + 1) + 1);
  return { low: ticks[0], high: ticks[ticks.length - 1], ticks, log: true };
}

function tickText(value) {
  if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e6)) {
    return String(Number(value.toPrecision(3)).toExponential());
  }
  return String(Number(value.toPrecision(6)));
}

// Draw an empty chart with titled axes and return {svg, x, y}, x and y being functions to pixels.
function chart({ label, xTitle, yTitle, xAxis, yAxis, width = 640, height = 380 }) {
  const box = { left: 74, right: width - 16, top: 14, bottom: height - 52 };
  const x = scale(xAxis.low, xAxis.high, box.left, box.right, xAxis.log);
  const y = scale(yAxis.low, yAxis.high, box.bottom, box.top, yAxis.log);
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  for (const tick of yAxis.ticks) {
    svg.append(shape("line", { class: "grid", x1: box.left, x2: box.right, y1: y(tick), y2: y(tick) }));
    const at = { class: "tick", x: box.left - 8, y: y(tick) + 4, "text-anchor": "end" };
    svg.append(shape("text", at, tickText(tick)));
  }
  for (const tick of xAxis.ticks) {
    svg.append(shape("line", { class: "axis", x1: x(tick), x2: x(tick), y1: box.bottom, y2: box.bottom + 5 }));
    const at = { class: "tick", x: x(tick), y: box.bottom + 20, "text-anchor": "middle" };
    svg.append(shape("text", at, tickText(tick)));
  }
  svg.append(shape("line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }));
  const middle = (box.top + box.bottom) / 2;
  const below = { x: (box.left + box.right) / 2, y: height - 10, "text-anchor": "middle" };
  svg.append(shape("text", below, xTitle));
  const beside = { x: 16, y: middle, "text-anchor": "middle", transform: `rotate(-90 16 ${middle})` };
  svg.append(shape("text", beside, yTitle));
  return { svg, x, y, box };
}

function path(points) {
  return points.map(([x, y], index) => `${index ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
}

// Return a colour for a share of 0 (worst) to 1 (best).
function heat(share) {
  const palette = darkness.matches ? DARK : LIGHT;
  const place = Math.min(Math.max(share, 0), 1) * (palette.length - 1);
  const index = Math.min(Math.floor(place), palette.length - 2);
  const [from, to] = [palette[index], palette[index + 1]].map(channels);
  return from.map((value, channel) => Math.round(value + (to[channel] - value) * (place - index)));
}

function rgb(colour) {
  return `rgb(${colour.join(" ")})`;
}

// Black or white, whichever reads better on a colour; the weights are those of luminance (ITU-R BT.601).
function inkOn([red, green, blue]) {
  return 0.299 * red + 0.587 * green + 0.114 * blue > 140 ? "#000" : "#fff";
}

function channels(hex) {
  return [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));
}

// Return how good a value is among others, from 0 to 1, as a function.
function goodness(values, lower) {
  const low = Math.min(...values), high = Math.max(...values);
  if (low === high) return () => 0.5;
  return (value) => (lower ? high - value : value - low) / (high - low);
}

function better(data) {
  return data.lower ? "lower is better" : "higher is better";
}

function describe(data, run) {
  const lines = [`${run.text[0]}. ${run.name}`];
  data.titles.slice(2).forEach((title, index) => lines.push(`${title}: ${run.text[index + 2] || "unknown"}`));
  return lines.join("\n");
}

function note(text) {
  return make("p", { class: "empty" }, text);
}
