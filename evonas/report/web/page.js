"use strict";

const PAGE = 15; // candidates of the table

/** The plots: where each stands, what it is called, and how its traces are made. */
function plotsOf(runs) {
  const pairs = (run) => run.proxies.flatMap((first, n) => run.proxies.slice(n + 1).map((second) => [first, second]));
  const longest = runs.reduce((most, run) => (pairs(run).length > pairs(most).length ? run : most), runs[0]);
  const fronts = range(Math.max(1, pairs(longest).length)).map((n) => ({ id: `front-${n}`, section: "fronts", title: "Pareto front",
    note: "Layers that no other one dominates on these two.",
    draw: (view) => { const pair = pairs(view.run)[n]; return pair ? frontPlot(view, ...pair) : n ? { data: [] } : frontPlot(view, view.run.proxies[0]); } }));
  return [
    { id: "final", section: "found", title: "Final table", note: "The best candidates and known layers, retrained with fresh seeds.", draw: finalPlot, unless: (run) => !run.final.length },
    { id: "births", section: "progress", title: "Best fitness over births", note: "Circles: each trained candidate, with one seed; the best of many is a lucky one. The band is one standard deviation of a layer over seeds.",
      draw: (view) => progress(view, births, (_, rows) => rows.map((i) => i + 1), "births") },
    { id: "cost", section: "progress", title: "Best fitness over core-seconds", note: "Seconds of the search's evaluations times the cores of a worker.",
      draw: (view) => progress(view, (run) => run.inOrder, coreSeconds, "core-seconds") },
    ...fronts,
    { id: "ends", section: "funnel", title: "Where candidates ended", note: "The gates in their order, and what each end cost.", draw: endsPlot },
    { id: "operators", section: "funnel", title: "What each operator proposed", note: "A child of several edits counts with each.", draw: operatorsPlot },
    { id: "sets", section: "survival", title: "Index sets that survive", note: "Share of the population in which an aggregation over these axes is live.", draw: indexSetsPlot },
    { id: "primitives", section: "survival", title: "Primitives that survive", note: "Share of the population in which it is live.", draw: primitivesPlot },
    { id: "utilisation", section: "workers", title: "Busy workers", note: "The search, and what is trained beside it.", draw: utilisationPlot },
    { id: "timeline", section: "workers", title: "Evaluations", note: "A line from the begin of each evaluation to its end.", draw: timelinePlot },
  ];
}

const SECTIONS = { found: "What it found", progress: "Progress", fronts: "Fronts", layers: "Candidates", funnel: "Funnel", survival: "What survives", workers: "Workers", setting: "Setting" };

function frame(main, runs, plots) {
  main.replaceChildren(h("section", { id: "summary", "aria-label": "Summary" }), ...Object.entries(SECTIONS).map(([id, title]) =>
    h("section", { id, "aria-labelledby": `title-${id}` }, h("h2", { id: `title-${id}` }, title),
      id === "fronts" && h("label", {}, h("input", { type: "checkbox", id: "dominated" }), " show dominated layers"),
      h("div", { class: "plots" }, plots.filter((plot) => plot.section === id).map((plot) => h("figure", { id: `figure-${plot.id}` },
        h("figcaption", {}, h("h3", {}, plot.title), h("p", {}, plot.note)), h("div", { class: "plot", id: `plot-${plot.id}`, role: "img", "aria-label": `${plot.title}. ${plot.note}` })))),
      h("div", { class: "tables", id: `tables-${id}` }))));
}

function summaries(value, place) {
  const { runs, comparison } = value;
  document.getElementById("summary").replaceChildren(
    ...runs.map((run, n) => h("article", { class: n === place ? "current" : "other" }, h("h2", {}, run.label, " ", h("small", {}, `${run.state}, begun ${run.begun}`)),
      n === place ? run.summary.map((line) => h("p", {}, line)) : h("p", {}, run.summary[1] ?? ""))),
    comparison ? h("details", { open: comparison.lines.length < 12 }, h("summary", {}, "What differs between the runs"), h("p", {}, comparison.text),
      h("ul", {}, comparison.lines.map((line) => h("li", {}, line)))) : "");
}

/** Tables of the whole run: the figures of `evonas funnel`. */
function wholeRun(run) {
  const gates = run.funnel.map((row) => [row.gate, row.asked, row.stopped, time(row.spent), time(row.saved),
    row.audited ? `${row.wrong} of ${row.audited} [${row.interval.map((each) => (100 * each).toFixed(0)).join(", ")}] %` : "–"]);
  const operators = run.operators.map((row) => [row.operator, row.births, row.trained, row.stopped, row.crashed, row.inherited, `${row.improved} of ${row.compared}`, points(row.best_advantage), time(row.seconds)]);
  document.getElementById("tables-funnel").replaceChildren(
    table(["gate", "asked", "stopped", "spent", "saved", "wrongly"], gates, "Gates of the whole run; wrongly: of its audited rejections, with a 95 % interval"),
    table(["operator", "births", "trained", "stopped", "crashed", "inherited", "above parent", "best, points", "seconds"], operators, "Operators of the whole run"));
  document.getElementById("tables-setting").replaceChildren(
    factsTable(Object.entries(run.facts).filter(([, value]) => value)),
    h("details", {}, h("summary", {}, "Config"), h("pre", { tabindex: "0" }, run.config)));
}

/** A page of the filtered candidates, the best first; those without a fitness follow by birth. */
function candidateTable({ run, rows, place }, from) {
  const c = run.candidates;
  const order = [...rows].sort((a, b) => (isFirst(run, b) - isFirst(run, a)) || ((c.advantage[b] ?? -9) - (c.advantage[a] ?? -9)) || a - b);
  const shown = order.slice(from, from + PAGE);
  const lines = shown.map((i) => [layerLink(place, i + 1), points(c.advantage[i]), ...run.proxies.map((proxy) => share(c.accuracy[proxy][i])), endOf(run, i), operatorOf(run, i), h("code", {}, c.formula[i])]);
  const turn = (to, text) => h("button", { type: "button", disabled: to < 0 || to >= order.length, onclick: () => candidateTable({ run, rows, place }, to) }, text);
  document.getElementById("tables-layers").replaceChildren(
    table(["birth", "to BN-ReLU", ...run.proxies, "outcome", "origin", "formula"], lines, "Candidates by the search's own figures, in points and accuracies with one seed"),
    h("nav", { "aria-label": "Pages of candidates" }, turn(from - PAGE, "Previous"), ` ${rows.length ? from + 1 : 0} to ${from + shown.length} of ${rows.length} `, turn(from + PAGE, "Next")));
}

async function main() {
  const value = await load();
  const runs = value.runs.map(prepare), plots = plotsOf(runs);
  const form = document.getElementById("filters"), dialog = document.getElementById("layer");
  const open = (place, birth) => { location.hash = `#layer/${place}/${birth}`; };
  let drawn = -1;

  function update() {
    const place = Number(new FormData(form).get("run") ?? 0), run = runs[place];
    const picked = runs.map((each) => chosen(form, each)), rows = picked[place];
    const view = { runs, picked, place, run, rows, dominated: document.getElementById("dominated").checked };
    if (drawn !== place) { summaries(value, place); wholeRun(run); drawn = place; }
    document.getElementById("count").textContent = `${rows.length} of ${run.size} candidates`;
    for (const plot of plots) {
      const none = plot.unless?.(run) ?? false;
      document.getElementById(`figure-${plot.id}`).hidden = none;
      if (!none) draw(document.getElementById(`plot-${plot.id}`), plot.draw(view), open);
    }
    document.getElementById("found").hidden = plots.every((plot) => plot.section !== "found" || plot.unless?.(run));
    candidateTable(view, 0);
  }

  function show() {
    const [, place, birth] = location.hash.match(/^#layer\/(\d+)\/(\d+)$/) ?? [];
    if (birth) openPanel(dialog, runs, Number(place), Number(birth));
    else if (dialog.open) dialog.close();
  }

  filterForm(form, runs, update);
  frame(document.getElementById("page"), runs, plots);
  document.getElementById("dominated").addEventListener("change", update);
  dialog.addEventListener("close", () => { if (location.hash.startsWith("#layer/")) history.replaceState(null, "", "#"); });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  addEventListener("hashchange", show);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", update);
  for (const moment of ["beforeprint", "afterprint"]) addEventListener(moment, () => { document.documentElement.classList.toggle("print", moment === "beforeprint"); update(); });
  update();
  show();
  document.documentElement.dataset.ready = "yes";
}

main().catch((error) => {
  document.getElementById("page").replaceChildren(h("p", { role: "alert" }, `The records cannot be shown: ${error.message}`));
  throw error;
});
