"use strict";

/** Fill and open the panel of a layer. A layer without a panel of its own shows its formula and its figures. */
function openPanel(dialog, runs, place, birth) {
  const run = runs[place], i = birth - 1;
  if (!run || !(i >= 0 && i < run.size)) return;
  const panel = run.panel.get(birth);
  dialog.replaceChildren(h("div", {},
    h("header", {}, h("h2", { id: "layer-title", tabindex: "-1" }, `Birth ${birth}`, runs.length > 1 ? ` of ${run.label}` : ""),
      h("button", { type: "button", class: "close", "aria-label": "Close", onclick: () => dialog.close() }, "×")),
    panel?.known_as ? h("p", {}, `Known: ${panel.known_as}.`) : "",
    panel ? typeset(panel) : "",
    h("pre", { class: "formula" }, run.candidates.formula[i].split("; ").join("\n")),
    factsTable(figures(run, place, i, panel)),
    panel ? [picture(run, i, panel), curves(panel), lineageOf(run, place, i), measurements(panel)] : h("p", {}, "Only the leaders, the front and their ancestors have pictures and curves here."),
  ));
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  document.getElementById("layer-title").focus();
  const plot = dialog.querySelector(".curves");
  if (plot) draw(plot, curvesPlot(panel), () => {});
}

function typeset(panel) {
  const holder = h("div", { class: "typeset scroll", tabindex: "0", role: "img", "aria-label": panel.latex });
  holder.innerHTML = panel.mathml; // ours, of a formula that was parsed
  return [holder, h("details", {}, h("summary", {}, "LaTeX"), h("pre", {}, panel.latex))];
}

function figures(run, place, i, panel) {
  const c = run.candidates, f = panel?.figures;
  const spread = (value) => (value == null ? "–" : value[1] == null ? share(value[0]) : `${share(value[0])} ±${share(value[1])}`);
  const seeds = f && `${f.seeds} ${f.is_fresh ? "fresh " : ""}seed${f.seeds === 1 ? "" : "s"}${f.is_fresh ? "" : " of the search"}`;
  return [
    ["outcome", endOf(run, i)],
    ...(f ? [["trained with", seeds], ["points to BN-ReLU", points(f.difference) + (f.difference_spread == null ? "" : ` ±${(100 * f.difference_spread).toFixed(1)}`)]]
      : [["points to BN-ReLU", points(c.advantage[i])]]),
    ...run.proxies.map((proxy) => [`accuracy on ${proxy}`, f ? spread(f.accuracy[proxy]) : share(c.accuracy[proxy][i])]),
    ["depends on its batch", c.batch[i] ? "yes" : "no"],
    ["live nodes", c.nodes[i]],
    ["origin", operatorOf(run, i)],
    ...(c.equal_to[i] ? [["same function as", layerLink(place, c.equal_to[i])]] : []),
    ["seconds in the search", c.seconds[i].toFixed(1)],
    ...(panel?.amplification == null ? [] : [["amplification at one position", panel.amplification.toPrecision(3)]]),
  ];
}

const picture = (run, i, panel) => h("figure", { class: "picture" },
  h("img", { src: `data:image/svg+xml;charset=utf-8,${encodeURIComponent(panel.picture)}`, alt: `Graph of ${run.candidates.formula[i]}` }));

/** A plot, where the training was looked at more than once. */
function curves(panel) {
  const steps = new Set(panel.points.map((point) => point[2]));
  return steps.size > 1 && [h("h3", {}, "Learning curves"), h("div", { class: "curves" })];
}

function curvesPlot(panel) {
  const names = [...new Set(panel.points.map(([proxy, repeat]) => `${proxy}\n${repeat}`))];
  const data = names.map((each, n) => {
    const [proxy, repeat] = each.split("\n");
    const mine = panel.points.filter((point) => point[0] === proxy && String(point[1]) === repeat);
    return { type: "scatter", mode: "lines+markers", name: plain(repeat === "0" ? proxy : `${proxy}, seed ${Number(repeat) + 1}`), x: mine.map((p) => p[2]), y: mine.map((p) => p[3]),
      line: { color: css(HUES[n % HUES.length]), dash: DASHES[n % DASHES.length] }, marker: { symbol: SYMBOLS[n % SYMBOLS.length], size: 7 } };
  });
  return { data, height: 280, layout: { xaxis: { title: { text: "training steps" }, rangemode: "tozero" }, yaxis: { title: { text: "validation accuracy" } } } };
}

/** The ancestors, the youngest first, each with its edit and its change of fitness. */
function lineageOf(run, place, i) {
  const c = run.candidates, line = [i];
  for (let at = i; c.parent[at] > 0 && c.parent[at] - 1 < at; at = c.parent[at] - 1) line.push(c.parent[at] - 1);
  if (line.length === 1) return [h("h3", {}, "Lineage"), h("p", {}, `No parent: its origin is ${operatorOf(run, i)}.`)];
  const noise = run.noise ? ` One layer's fitness spreads by ±${(100 * run.noise.deviation).toFixed(1)} points over seeds.` : "";
  const rows = line.map((at, n) => {
    const parent = line[n + 1], mine = c.advantage[at], theirs = parent == null ? null : c.advantage[parent];
    const changes = run.panel.get(at + 1)?.changes;
    const parts = changes ? changes.map(([text, isNew]) => (isNew ? h("mark", {}, text) : text)) : c.formula[at];
    const second = run.panel.get(at + 1)?.second_parent;
    const edit = second ? h("span", {}, `${operatorOf(run, at)}, with `, layerLink(place, second)) : operatorOf(run, at);
    return [layerLink(place, at + 1), edit, points(mine), mine == null || theirs == null ? "–" : points(mine - theirs), h("code", {}, parts)];
  });
  return [h("h3", {}, "Lineage"), h("p", {}, `The youngest first, each with what its parent lacks marked, in points with the search's seed.${noise}`),
    table(["birth", "edit", "to BN-ReLU", "to its parent", "formula"], rows, "Ancestors")];
}

const measurements = (panel) => panel.measured.length > 0 && [h("h3", {}, "Gates"),
  table(["gate", "proxy", "measured", "threshold", "passed", "seconds"], panel.measured.map((m) =>
    [m.gate, m.proxy, number(m.value), number(m.threshold), m.passed ? "yes" : "no", m.seconds.toFixed(2)]), "What the gates measured")];

const number = (value) => (typeof value === "number" ? value.toPrecision(3) : value);
