"use strict";

/** A layer with its panel, in the columns of the run or in some of its own; null where the run has none such. */
async function layerOf(source, run, birth) {
  const panel = run.panel.get(birth) ?? (await source.panel(run, birth));
  if (panel) run.panel.set(birth, panel);
  Object.assign(run.ancestors, panel?.ancestors);
  const of = run.place.has(birth) ? run : panel?.candidates ? prepare({ ...run, candidates: panel.candidates, weights: null }) : null;
  return of && { run: of, i: of.place.get(birth), birth, panel };
}

const formulaOf = ({ run, i }) => run.candidates.formula[i].split("; ").join("\n");

/** Fill and open the panel of a layer. A layer without a panel of its own shows its formula and its figures. */
async function openPanel(dialog, source, runs, place, birth) {
  const layer = runs[place] && (await layerOf(source, runs[place], birth));
  if (!layer) return;
  const { run, panel } = layer;
  dialog.replaceChildren(h("div", {},
    h("header", {}, h("h2", { id: "layer-title", tabindex: "-1" }, `Birth ${birth}`, runs.length > 1 ? ` of ${run.label}` : "", " ", starButton(run, birth)),
      h("button", { type: "button", class: "close", "aria-label": "Close", onclick: () => dialog.close() }, "×")),
    panel?.known_as ? h("p", {}, `Known: ${panel.known_as}.`) : "",
    source.layer ? h("p", {}, h("a", { href: source.layer(run, birth), download: "" }, "Export as a Python module")) : "",
    panel ? typeset(panel) : "",
    h("pre", { class: "formula" }, formulaOf(layer)),
    factsTable(figures(layer, place)),
    panel ? [picture(layer), curves(panel), lineageOf(run, place, birth), measurements(panel)] : h("p", {}, "Only the leaders, the front and their ancestors have pictures and curves here."),
  ));
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  document.getElementById("layer-title").focus();
  const plot = dialog.querySelector(".curves");
  if (plot) draw(plot, curvesPlot(run, panel), () => {});
}

function typeset(panel) {
  const holder = h("div", { class: "typeset scroll", tabindex: "0", role: "img", "aria-label": panel.latex });
  holder.innerHTML = panel.mathml; // ours, of a formula that was parsed
  const text = h("pre", {}, panel.latex);
  return [holder, h("details", {}, h("summary", {}, "LaTeX"), text, h("button", { type: "button", onclick: (event) => copy(text, event.target) }, "Copy LaTeX"))];
}

/** Copy a text; where the browser does not let a page do that, select it. */
async function copy(element, button) {
  try {
    await navigator.clipboard.writeText(element.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(element);
    button.textContent = "Selected: copy it with the keyboard";
  }
}

function figures({ run, i, panel }, place) {
  const c = run.candidates, f = panel?.figures;
  const spread = (value) => share(value?.[0]) + (value?.[1] == null ? "" : ` ±${share(value[1])}`);
  const to = `${unitOf(run.unit)} to ${run.baseline.name}`;
  const seeds = f && `${f.seeds} ${f.is_fresh ? "fresh " : ""}seed${f.seeds === 1 ? "" : "s"}${f.is_fresh ? "" : " of the search"}`;
  return [
    ["outcome", endOf(run, i)],
    ...(f ? [["trained with", seeds], [to, points(run.unit, gainOf(f)) + (deviationOf(f) == null ? "" : ` ±${amount(run.unit, deviationOf(f))}`)]]
      : [[to, points(run.unit, c.advantage[i])]]),
    ...run.proxies.map((proxy) => [`${figureName(run, proxy)} on ${proxy}`, f ? spread((f.accuracy?.[proxy]) ?? f.bits_per_byte?.[proxy]) : figure(run, proxy, run.scores[proxy][i])]),
    ...Object.entries(panel?.own_objectives ?? {}).map(([name, value]) => [name, Number(value.toPrecision(4))]),
    ["depends on its batch", c.batch[i] ? "yes" : "no"],
    ["live nodes", c.nodes[i]],
    ["origin", operatorOf(run, i)],
    ...(c.equal_to[i] ? [["same function as", layerLink(place, c.equal_to[i])]] : []),
    ["seconds in the search", c.seconds[i].toFixed(1)],
    ...(panel?.amplification == null ? [] : [["amplification at one position", panel.amplification.toPrecision(3)]]),
  ];
}

const picture = ({ run, i, panel }) => h("figure", { class: "picture" },
  h("img", { src: `data:image/svg+xml;charset=utf-8,${encodeURIComponent(panel.picture)}`, alt: `Graph of ${run.candidates.formula[i]}` }));

/** A plot, where the training was looked at more than once. */
function curves(panel) {
  const steps = new Set(panel.points.map((point) => point[2]));
  return steps.size > 1 && [h("h3", {}, "Learning curves"), h("div", { class: "curves" })];
}

function curvesPlot(run, panel) {
  const names = [...new Set(panel.points.map(([proxy, repeat]) => `${proxy}\n${repeat}`))];
  const data = names.map((each, n) => {
    const [proxy, repeat] = each.split("\n");
    const mine = panel.points.filter((point) => point[0] === proxy && String(point[1]) === repeat);
    return { type: "scatter", mode: "lines+markers", name: plain(repeat === "0" ? proxy : `${proxy}, seed ${Number(repeat) + 1}`), x: mine.map((p) => p[2]), y: mine.map((p) => p[3]),
      line: { color: css(HUES[n % HUES.length]), dash: DASHES[n % DASHES.length] }, marker: { symbol: SYMBOLS[n % SYMBOLS.length], size: 7 } };
  });
  return { data, height: 280, layout: { xaxis: { title: { text: "training steps" }, rangemode: "tozero" }, yaxis: { title: { text: `validation ${[...new Set(panel.points.map(([proxy]) => figureName(run, proxy)))].join(", or ")}` } } } };
}

/** The ancestors, the youngest first, each with its edit and its change of fitness. */
function lineageOf(run, place, birth) {
  const line = [birth], of = run.ancestors;
  for (let at = birth; of[at]?.parent < at && of[of[at].parent]; at = of[at].parent) line.push(of[at].parent);
  if (line.length === 1) return [h("h3", {}, "Lineage"), h("p", {}, `No parent: its origin is ${of[birth].operator}.`)];
  const noise = run.noise ? ` One layer's fitness spreads by ±${amount(run.unit, run.noise.deviation)} ${unitOf(run.unit)} over seeds.` : "";
  const rows = line.map((at, n) => {
    const mine = of[at], theirs = of[line[n + 1]]?.advantage;
    const parts = mine.changes.map(([text, isNew]) => (isNew ? h("mark", {}, text) : text));
    const edit = mine.second_parent ? h("span", {}, `${mine.operator}, with `, layerLink(place, mine.second_parent)) : mine.operator;
    return [layerLink(place, at), edit, points(run.unit, mine.advantage), mine.advantage == null || theirs == null ? "–" : points(run.unit, mine.advantage - theirs), h("code", {}, parts)];
  });
  return [h("h3", {}, "Lineage"), h("p", {}, `The youngest first, each with what its parent lacks marked, in ${unitOf(run.unit)} with the search's seed.${noise}`),
    table(["birth", "edit", `to ${run.baseline.name}`, "to its parent", "formula"], rows, "Ancestors")];
}

const measurements = (panel) => panel.measured.length > 0 && [h("h3", {}, "Gates"),
  table(["gate", "proxy", "measured", "threshold", "passed", "seconds"], panel.measured.map((m) =>
    [m.gate, m.proxy, number(m.value) + (m.unit ? " bits" : ""), number(m.threshold) + (m.unit ? " bits" : ""), m.passed ? "yes" : "no", m.seconds.toFixed(2)]), "What the gates measured")];

const number = (value) => (typeof value === "number" ? value.toPrecision(3) : value);
