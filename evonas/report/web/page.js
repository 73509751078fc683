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
      draw: (view) => progress(view, (run) => range(run.size), (run, rows) => rows.map((i) => birthOf(run, i)), "births") },
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

const SECTIONS = { found: "What it found", progress: "Progress", fronts: "Fronts", layers: "Candidates", starred: "Starred", funnel: "Funnel", survival: "What survives", workers: "Workers", setting: "Setting" };

function frame(main, runs, plots) {
  main.replaceChildren(h("section", { id: "summary", "aria-label": "Summary" }), ...Object.entries(SECTIONS).map(([id, title]) =>
    h("section", { id, "aria-labelledby": `title-${id}` }, h("h2", { id: `title-${id}` }, title),
      id === "fronts" && h("label", {}, h("input", { type: "checkbox", id: "dominated" }), " show dominated layers"),
      h("div", { class: "plots" }, plots.filter((plot) => plot.section === id).map((plot) => h("figure", { id: `figure-${plot.id}` },
        h("figcaption", {}, h("h3", {}, plot.title), h("p", {}, plot.note)), h("div", { class: "plot", id: `plot-${plot.id}`, role: "group", "aria-label": `${plot.title}. ${plot.note}` })))),
      h("div", { class: "tables", id: `tables-${id}` }))));
}

function summaries(value, place) {
  const { runs, comparison } = value;
  document.getElementById("summary").replaceChildren(
    ...runs.map((run, n) => h("article", { class: n === place ? "current" : "other" }, h("h2", {}, run.label, " ", h("small", {}, `${run.state}, begun ${run.begun}`)),
      n === place ? run.summary.map((line) => h("p", {}, line)) : h("p", {}, run.summary[1] ?? ""))),
    runs[place].weights ? h("p", { class: "note" }, `Plots draw a sample of ${runs[place].size.toLocaleString("en")} of ${runs[place].births.toLocaleString("en")} candidates: the leaders, each that was the best so far, and others drawn evenly. Counts are of all.`) : "",
    comparison ? h("details", { open: comparison.lines.length < 12 }, h("summary", {}, "What differs between the runs"), h("p", {}, comparison.text),
      h("ul", {}, comparison.lines.map((line) => h("li", {}, line)))) : "");
}

/** Tables of the whole run: the figures of `evonas funnel`. The server counts no funnel of a run that it draws a sample of. */
function wholeRun(run) {
  const gates = run.funnel.map((row) => [row.gate, row.asked, row.stopped, time(row.spent), time(row.saved),
    row.audited ? `${row.wrong} of ${row.audited} [${row.interval.map((each) => (100 * each).toFixed(0)).join(", ")}] %` : "–"]);
  const operators = run.operators.map((row) => [row.operator, row.births, row.trained, row.stopped, row.crashed, row.inherited, `${row.improved} of ${row.compared}`, points(run.unit, row.best_advantage ?? (row.best_difference_bits_per_byte == null ? null : -row.best_difference_bits_per_byte)), time(row.seconds)]);
  document.getElementById("tables-funnel").replaceChildren(...(run.weights ? [] : [
    table(["gate", "asked", "stopped", "spent", "saved", "wrongly"], gates, "Gates of the whole run; wrongly: of its audited rejections, with a 95 % interval"),
    table(["operator", "births", "trained", "stopped", "crashed", "inherited", "above parent", `best, ${unitOf(run.unit)}`, "seconds"], operators, "Operators of the whole run")]));
  const setting = document.getElementById("tables-setting"), wasOpen = setting.querySelector("details")?.open ?? false;
  setting.replaceChildren(factsTable(Object.entries(run.facts).filter(([, value]) => value)),
    h("details", { open: wasOpen }, h("summary", {}, "Config"), h("pre", { tabindex: "0" }, run.config)));
}

/** The orders of the table: by what, and the value of a candidate; missing values come last. */
const ORDERS = { birth: birthOf, advantage: (run, i) => (isFirst(run, i) ? run.candidates.advantage[i] : null), nodes: (run, i) => run.candidates.nodes[i], seconds: (run, i) => run.candidates.seconds[i] };
const valueBy = (order) => ORDERS[order] ?? ((run, i) => (isFirst(run, i) ? run.scores[order]?.[i] : null));

/** A page of the filtered candidates, in the columns of the run; of a sample the server has all. */
async function pageOf(source, { run, rows, query }, { order, descending, from }) {
  if (run.weights) {
    const candidates = await source.rows(run, `${query}&order=${encodeURIComponent(order)}&descending=${descending}&offset=${from}&limit=${PAGE}`);
    const page = prepare({ ...run, candidates, weights: null });
    return { of: page, shown: range(page.size), total: run.chosen };
  }
  const value = valueBy(order), sign = descending ? -1 : 1, c = run.candidates;
  const sorted = [...rows].sort((a, b) => {
    const x = value(run, a), y = value(run, b);
    return (x == null) - (y == null) || (x == null ? 0 : sign * (x - y)) || c.birth[a] - c.birth[b];
  });
  return { of: run, shown: sorted.slice(from, from + PAGE), total: rows.length };
}

/** The table of candidates. `turn` is called with what changes of its order and its place. */
async function candidateTable(source, view, wanted, turn) {
  const { of, shown, total } = await pageOf(source, view, wanted), { place } = view, { order, descending, from } = wanted, c = of.candidates;
  const lines = shown.map((i) => [starButton(of, c.birth[i]), layerLink(place, c.birth[i]), points(of.unit, c.advantage[i]), ...of.proxies.map((proxy) => figure(of, proxy, of.scores[proxy][i])), c.nodes[i], c.seconds[i].toFixed(1),
    endOf(of, i), operatorOf(of, i), h("code", {}, c.formula[i])]);
  const title = (name, text = name) => h("button", { type: "button", class: "sort", "data-order": name, "aria-label": `Sort by ${text}`, onclick: () => turn({ order: name, descending: order === name ? !descending : name !== "birth", from: 0 }) },
    text, order === name ? (descending ? " ↓" : " ↑") : "");
  const step = (to, text) => h("button", { type: "button", "data-step": text, disabled: to < 0 || to >= total, onclick: () => turn({ from: to }) }, text);
  const focused = document.activeElement?.closest("#tables-layers") && [..."order step star".split(" ").map((name) => [`data-${name}`, document.activeElement.getAttribute(`data-${name}`)]), ["href", document.activeElement.getAttribute("href")]].find(([, value]) => value);
  const holder = document.getElementById("tables-layers");
  holder.replaceChildren(
    table(["star", title("birth"), title("advantage", `to ${of.baseline.name}`), ...of.proxies.map((proxy) => title(proxy)), title("nodes"), title("seconds"), "outcome", "origin", "formula"], lines, `Candidates by the search's own figures, in ${unitOf(of.unit)} and ${of.in_bits.length === of.proxies.length ? BITS : of.in_bits.length ? `accuracies (${of.in_bits.join(", ")}: ${BITS})` : "accuracies"} with one seed`),
    h("nav", { "aria-label": "Pages of candidates" }, step(from - PAGE, "Previous"), ` ${shown.length ? from + 1 : 0} to ${from + shown.length} of ${total.toLocaleString("en")} `, step(from + PAGE, "Next")));
  if (focused) [...holder.querySelectorAll(`[${focused[0]}]`)].find((each) => each.getAttribute(focused[0]) === focused[1])?.focus();
}

/** The page of some runs. A source has `load(query, known)`, which gives null where nothing has changed, and `panel`; the live
 *  page's has `rows`, `ends` and `layer` too, and follows the runs. */
async function start(source) {
  const form = document.getElementById("filters"), dialog = document.getElementById("layer");
  const open = (place, birth) => { location.hash = `#layer/${place}/${birth}`; };
  let value = null, runs = [], drawn = -1, wanted = { order: "advantage", descending: true, from: 0 };

  function adopt(loaded) {
    [value, runs, drawn] = [loaded, loaded.runs.map(prepare), -1];
    if (!form.hidden) offerChoices(form, runs);
  }

  function view() {
    const place = Number(new FormData(form).get("run") ?? 0), picked = runs.map((each) => chosen(form, each));
    return { runs, picked, place, run: runs[place], rows: picked[place], query: filterQuery(form), dominated: document.getElementById("dominated").checked };
  }

  const turn = (change) => { wanted = { ...wanted, ...change }; return candidateTable(source, view(), wanted, turn); };

  function updateTexts(now) {
    const { place, run, rows } = now;
    if (drawn !== place) { summaries(value, place); wholeRun(run); drawn = place; }
    document.getElementById("count").textContent = `${(run.chosen ?? rows.length).toLocaleString("en")} of ${run.births.toLocaleString("en")} candidates`;
    turn({});
  }

  function updatePlots(now) {
    for (const plot of plots) {
      const none = plot.unless?.(now.run) ?? false;
      document.getElementById(`figure-${plot.id}`).hidden = none;
      if (!none) draw(document.getElementById(`plot-${plot.id}`), plot.draw(now), open);
    }
    document.getElementById("found").hidden = plots.every((plot) => plot.section !== "found" || plot.unless?.(now.run));
  }

  function update() {
    const now = view();
    updateTexts(now);
    updatePlots(now);
    for (const run of runs) if (run.weights && !run.ends) source.ends(run, now.query).then((ends) => { run.ends = ends; updatePlots(view()); });
  }

  async function filter() {
    wanted.from = 0;
    if (runs.some((run) => run.weights)) adopt(await source.load(filterQuery(form)));
    update();
  }

  function show() {
    const [, place, birth] = location.hash.match(/^#layer\/(\d+)\/(\d+)$/) ?? [];
    if (birth) openPanel(dialog, source, runs, Number(place), Number(birth));
    else if (dialog.open) dialog.close();
  }

  adopt(await source.load(""));
  if (runs.some((run) => run.in_bits.length)) {
    const about = document.querySelector("footer").firstChild;
    about.textContent = about.textContent.replace("points of accuracy", `points of fitness (accuracy, or of text 2^-bits), or in ${BITS}, of which less is better`);
  }
  document.querySelector("h1").textContent = runs.map((run) => run.label).join(", ");
  document.title = `${runs.map((run) => run.label).join(", ")} - evonas`;
  const plots = plotsOf(runs);
  filterForm(form, runs, filter);
  frame(document.getElementById("page"), runs, plots);
  document.getElementById("dominated").addEventListener("change", update);
  dialog.addEventListener("close", () => { if (location.hash.startsWith("#layer/")) history.replaceState(null, "", "#"); });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  addEventListener("hashchange", show);
  addEventListener("starred", () => { markStars(); starredCards(source, runs); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", update);
  for (const moment of ["beforeprint", "afterprint"]) addEventListener(moment, () => { document.documentElement.classList.toggle("print", moment === "beforeprint"); update(); });
  updateTexts(view());
  if (source.follow) await new Promise(requestAnimationFrame); // the texts are there before the plots are drawn
  update();
  starredCards(source, runs);
  show();
  document.documentElement.dataset.ready = "yes";
  source.follow?.(() => filterQuery(form), (loaded) => { adopt(loaded); update(); });
}

/** Say why a page is not there. */
function refuse(error) {
  document.getElementById("page").replaceChildren(h("p", { role: "alert" }, `The records cannot be shown: ${error.message}`));
  throw error;
}
