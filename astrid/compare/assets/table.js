"use strict";
// Tables: that of the ranked runs sorts by any column, and its boxes pick the runs to colour.

function rankedTable(data, group, state, changed) {
  const heads = [...data.titles, ...data.keys];
  const rows = sortedRuns(data, group, state.sort);
  const table = make("table", { "aria-label": "Ranked runs" });
  const headRow = make("tr", {}, make("th", { scope: "col" }, "draw"));
  heads.forEach((head, column) => headRow.append(sortHead(data, head, column, state, changed)));
  table.append(make("thead", {}, headRow));
  table.append(make("tbody", {}, ...rows.map((run) => rankedRow(data, run, state, changed))));
  return table;
}

function sortHead(data, head, column, state, changed) {
  const button = make("button", { type: "button" }, head);
  button.addEventListener("click", () => {
    const again = state.sort.column === column;
    state.sort = { column, falling: again && !state.sort.falling };
    changed();
  });
  const falling = state.sort.falling ? "descending" : "ascending";
  const sorted = state.sort.column === column ? falling : "none";
  return make("th", { scope: "col", class: isNumber(data, column) ? "number" : null, "aria-sort": sorted }, button);
}

function isNumber(data, column) {
  return column !== 1 && column < data.titles.length;
}

function rankedRow(data, run, state, changed) {
  const box = make("input", { type: "checkbox", "aria-label": `draw ${run.name} in colour` });
  box.checked = state.picked.has(run.id);
  box.addEventListener("change", () => {
    state.picked[box.checked ? "add" : "delete"](run.id);
    changed();
  });
  const row = make("tr", {}, make("td", {}, box));
  run.text.forEach((text, column) => row.append(make("td", { class: isNumber(data, column) ? "number" : null }, text)));
  data.keys.forEach((key) => row.append(make("td", {}, run.params[key])));
  return row;
}

// Unknown values come last, whichever way the rest is sorted.
function sortedRuns(data, group, { column, falling }) {
  const own = data.titles.length;
  const key = (run) => (column < own ? run.sort[column] : asNumber(run.params[data.keys[column - own]]));
  const sign = falling ? -1 : 1;
  return [...group.runs].sort((one, other) => {
    const [a, b] = [key(one), key(other)];
    if (a === null || b === null) return (a === null) - (b === null);
    if (typeof a === typeof b) return sign * (a < b ? -1 : Number(a > b));
    return sign * (typeof a === "number" ? -1 : 1);
  });
}

function asNumber(text) {
  return text.trim() !== "" && Number.isFinite(Number(text)) ? Number(text) : text;
}

function plainTable(label, heads, rows) {
  const head = make("tr", {}, ...heads.map((text) => make("th", { scope: "col" }, text)));
  const body = rows.map((row) => make("tr", {}, ...row.map((text) => make("td", {}, text))));
  return make("table", { "aria-label": label }, make("thead", {}, head), make("tbody", {}, ...body));
}
