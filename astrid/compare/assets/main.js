"use strict";
// Put everything in its place, and again whenever a choice changes.

function start() {
  const data = JSON.parse(byId("comparison").textContent);
  const state = { group: data.groups[0], sort: { column: 0, falling: false }, curve: "", picked: new Set() };
  const runs = data.groups.reduce((sum, group) => sum + group.runs.length, 0);
  byId("summary").textContent = `${runs} runs ranked by ${data.metric} (${better(data)}), ${data.leftOut.length} not ranked.`;
  byId("notes").append(...data.notes.map((text) => make("li", {}, `${text}.`)));
  const redraw = () => draw(data, state);
  chooseData(data, state, redraw);
  byId("curve").addEventListener("change", (event) => { state.curve = event.target.value; redraw(); });
  byId("pick-best").addEventListener("click", () => { pickBest(state); redraw(); });
  byId("pick-none").addEventListener("click", () => { state.picked.clear(); redraw(); });
  byId("differences").append(differences(data));
  byId("left-out").append(leftOut(data));
  document.addEventListener("pointermove", showTip);
  darkness.addEventListener("change", redraw);
  if (state.group) enter(state, state.group, redraw);
}

function chooseData(data, state, redraw) {
  byId("data-choice").hidden = data.groups.length < 2;
  for (const group of data.groups) {
    const name = `${group.number}: ${group.fingerprint || "no fingerprint"}, runs: ${group.runs.length}`;
    byId("data").append(make("option", { value: group.number }, name));
  }
  byId("data").addEventListener("change", (event) => {
    enter(state, data.groups[Number(event.target.value) - 1], redraw);
  });
}

function enter(state, group, redraw) {
  state.group = group;
  const names = curveNames(group);
  byId("curve").replaceChildren(...names.map((name) => make("option", { value: name }, name)));
  state.curve = names[0] || "";
  pickBest(state);
  redraw();
}

function pickBest(state) {
  state.picked = new Set(state.group.runs.slice(0, 8).map((run) => run.id));
}

function draw(data, state) {
  const { group } = state;
  byId("verdict").textContent = `${group.verdict}.`;
  const scrolled = byId("table").scrollTop;
  byId("table").replaceChildren(rankedTable(data, group, state, () => draw(data, state)));
  byId("table").scrollTop = scrolled;
  byId("curves").replaceChildren(...drawCurves(data, group, state));
  byId("heatmap").replaceChildren(...drawHeatmap(data, group));
  byId("energy").replaceChildren(...drawPareto(data, group, "energy"));
  byId("latency").replaceChildren(...drawPareto(data, group, "latency"));
  byId("parallel").replaceChildren(...drawParallel(data, group));
}

function differences(data) {
  if (!data.differences.length) return note("Nothing: the configurations are the same.");
  return plainTable("What differs", ["key", "values (runs)"], data.differences);
}

function leftOut(data) {
  if (!data.leftOut.length) return note("None: every run is ranked.");
  const rows = data.leftOut.map((run) => [run.name, run.reason, run.id]);
  return plainTable("Runs that are not ranked", ["run", "status", "id"], rows);
}

function showTip(event) {
  const tip = byId("tip");
  const mark = event.target.closest && event.target.closest("[data-tip]");
  tip.hidden = !mark;
  if (!mark) return;
  tip.textContent = mark.getAttribute("data-tip");
  const left = Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 8);
  const below = event.clientY + 14 + tip.offsetHeight < window.innerHeight;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${below ? event.clientY + 14 : Math.max(8, event.clientY - tip.offsetHeight - 10)}px`;
}

start();
