"use strict";

const MANY = 3000; // points from which WebGL draws, which is quick and does not print as sharply
const HUES = ["blue", "vermilion", "green", "purple", "orange", "sky"]; // Okabe and Ito; the style sheet has their values
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"];
const SYMBOLS = ["circle", "square", "diamond", "cross", "triangle-up", "star"];

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const scatter = (size) => (size > MANY ? "scattergl" : "scatter");

/** Plotly reads some tags in texts: names and formulas have none. */
const plain = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

function wrapped(text, width = 60) {
  const lines = [];
  for (let rest = text; rest && lines.length < 5; rest = rest.slice(width)) lines.push(plain(rest.slice(0, width)));
  return lines.join("<br>") + (text.length > 5 * width ? " ..." : "");
}

function hover(run, i) {
  const c = run.candidates;
  const found = c.advantage[i] == null ? endOf(run, i) : `${points(run.unit, c.advantage[i])} ${unitOf(run.unit)} to ${run.baseline.name}`;
  return `birth ${birthOf(run, i)}, ${plain(operatorOf(run, i))}: ${plain(found)}<br>${wrapped(c.formula[i])}`;
}

/** Markers that open a layer: their custom data name it. */
function marks(run, place, rows, x, y, more) {
  return { type: scatter(rows.length), mode: "markers", x, y, text: rows.map((i) => hover(run, i)), hoverinfo: "text",
    customdata: rows.map((i) => [place, birthOf(run, i)]), ...more };
}

/** Best fitness so far against a measure of effort. */
function progress({ runs, picked, place }, order, effort, title) {
  const data = [];
  runs.forEach((run, n) => {
    const hue = css(HUES[n % HUES.length]);
    const wanted = new Set(picked[n]);
    const rows = order(run);
    const at = effort(run, rows);
    const trained = range(rows.length).filter((k) => wanted.has(rows[k]) && isFirst(run, rows[k]) && run.candidates.advantage[rows[k]] != null);
    const value = (k) => factor(run) * run.candidates.advantage[rows[k]];
    const x = [], y = [], who = [];
    let best = -Infinity;
    for (const k of trained) {
      if (value(k) <= best) continue;
      best = value(k);
      x.push(at[k]); y.push(best); who.push(rows[k]);
    }
    if (n === place) data.push(marks(run, n, trained.map((k) => rows[k]), trained.map((k) => at[k]), trained.map(value),
      { name: "each trained", marker: { color: hue, size: 5, opacity: 0.35, symbol: "circle-open" }, showlegend: runs.length === 1 }));
    if (x.length && at.length) { x.push(at[at.length - 1]); y.push(best); who.push(who[who.length - 1]); }
    data.push({ ...marks(run, n, who, x, y, {}), type: "scatter", mode: "lines+markers", name: runs.length > 1 ? plain(run.label) : "best so far",
      line: { shape: "hv", color: hue, dash: DASHES[n % DASHES.length], width: 2 }, marker: { color: hue, symbol: SYMBOLS[n % SYMBOLS.length], size: 7 } });
  });
  const run = runs[place], spread = run.noise?.deviation, margin = factor(run) / 100;
  const shapes = [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: 0, y1: 0, line: { color: css("ink"), width: 1 } }];
  if (spread) shapes.push({ type: "rect", xref: "paper", x0: 0, x1: 1, y0: -factor(run) * spread, y1: factor(run) * spread, fillcolor: css("ink"), opacity: 0.08, line: { width: 0 }, layer: "below" });
  const annotations = [{ xref: "paper", x: 1, xanchor: "right", y: 0, yanchor: "bottom", text: runs[place].baseline.name, showarrow: false }];
  const values = data.flatMap((each) => each.y).sort((a, b) => a - b);
  const low = Math.max(values[0] ?? -margin, (values[values.length - 1] ?? 0) - 30 * margin); // outliers below would flatten the rest
  return { data, layout: { shapes, annotations, xaxis: { title: { text: title }, rangemode: "tozero" },
    yaxis: { title: { text: above(run, run.judged_by === "loss") },
      range: values.length ? [Math.min(low, -margin) - margin, Math.max(values[values.length - 1], 0) + margin] : undefined } } };
}

/** Gains on an axis: in points, or bits per byte. */
const factor = (run) => (isBits(run) ? 1 : 100);
const above = (run, byLoss = false) => (isBits(run) ? `${BITS}${byLoss ? " of the training loss" : ""} below ${run.baseline.name}` : `${byLoss ? "exp(−loss) " : ""}above ${run.baseline.name}, ${unitOf(run.unit)}`);

const coreSeconds = (run, rows) => { let total = 0; return rows.map((i) => (total += run.cores * weightOf(run, i) * run.candidates.seconds[i])); };

/** Accuracies on two proxies; of one alone, its accuracy and the size of the layer. */
function frontPlot({ run, rows, place, dominated }, first, second) {
  const c = run.candidates;
  const x = run.scores[first], y = second ? run.scores[second] : c.nodes.map((each) => -each);
  const known = rows.filter((i) => isFirst(run, i) && x[i] != null && y[i] != null);
  const best = front(known.map((i) => ({ x: x[i], y: y[i] }))).map((k) => known[k]);
  const read = (proxy, score) => (run.in_bits.includes(proxy) ? -score : score);
  const shown = (i) => (second ? read(second, y[i]) : -y[i]);
  const data = [];
  if (dominated) {
    const members = new Set(best), others = known.filter((i) => !members.has(i));
    data.push(marks(run, place, others, others.map((i) => read(first, x[i])), others.map(shown),
      { name: "dominated", marker: { color: css("faint"), size: 5, symbol: "circle-open" } }));
  }
  data.push(marks(run, place, best, best.map((i) => read(first, x[i])), best.map(shown), { name: "front", type: "scatter", mode: "lines+markers",
    line: { color: css("blue"), shape: "vh", width: 1 }, marker: { color: css("blue"), size: 10, symbol: "diamond" } }));
  const base = { ...run.baseline.accuracy, ...run.baseline.bits_per_byte };
  if (second && base[first] != null) data.push({ type: "scatter", mode: "markers+text", x: [base[first]], y: [base[second]], name: run.baseline.name, text: [run.baseline.name],
    textposition: "bottom right", hoverinfo: "name", marker: { color: css("vermilion"), size: 11, symbol: "x" }, showlegend: false });
  const axis = (proxy) => ({ title: { text: `${figureName(run, proxy)} on ${plain(proxy)}` }, autorange: run.in_bits.includes(proxy) ? "reversed" : undefined });
  return { data, layout: { xaxis: axis(first), yaxis: second ? axis(second) : { title: { text: "live nodes" } } } };
}

/** Candidates and their seconds, by name, in two columns of bars. */
function bars(names, count, seconds, data = [{ name: "", hue: "blue", count }]) {
  const traces = data.map((each) => ({ type: "bar", orientation: "h", y: names.map(plain), x: names.map(each.count), name: each.name,
    marker: { color: css(each.hue), pattern: { shape: each.pattern ?? "" } }, hovertemplate: `%{y}: %{x} ${each.name}<extra></extra>`, showlegend: data.length > 1 }));
  traces.push({ type: "bar", orientation: "h", y: names.map(plain), x: names.map(seconds), xaxis: "x2", yaxis: "y2", marker: { color: css("orange") },
    hovertemplate: "%{y}: %{x:.1f} s<extra></extra>", showlegend: false });
  const axis = { autorange: "reversed", automargin: true, type: "category" };
  return { data: traces, height: 110 + 26 * Math.max(names.length, 2), layout: { barmode: "stack", grid: { rows: 1, columns: 2, pattern: "independent" },
    xaxis: { title: { text: "candidates" }, domain: [0, 0.47] }, xaxis2: { title: { text: "seconds of workers" }, domain: [0.53, 1] },
    yaxis: axis, yaxis2: { ...axis, matches: "y", showticklabels: false } } };
}

function endsPlot({ run, rows }) {
  const count = new Map(), seconds = new Map();
  for (const each of tally(run, rows)) {
    count.set(each.end, (count.get(each.end) ?? 0) + each.count);
    seconds.set(each.end, (seconds.get(each.end) ?? 0) + each.seconds);
  }
  const order = [...run.gates, "diverged"];
  const place = (name) => (order.includes(name) ? order.indexOf(name) : { trained: 1000, inherited: 1001, pending: 1002 }[name] ?? 999);
  const names = [...count.keys()].sort((a, b) => place(a) - place(b));
  return bars(names, (name) => count.get(name), (name) => seconds.get(name));
}

function operatorsPlot({ run, rows }) {
  const found = new Map();
  for (const { end, operator, count, seconds } of tally(run, rows)) {
    for (const name of operator.split("+")) {
      const mine = found.get(name) ?? { trained: 0, other: 0, seconds: 0 };
      found.set(name, mine);
      mine[end === "trained" ? "trained" : "other"] += count;
      mine.seconds += seconds;
    }
  }
  const known = run.operators.map((row) => row.operator);
  const names = [...known.filter((name) => found.has(name)), ...[...found.keys()].filter((name) => !known.includes(name)).sort()];
  return bars(names, null, (name) => found.get(name).seconds, [
    { name: "trained to the end", hue: "blue", count: (name) => found.get(name).trained },
    { name: "others", hue: "faint", pattern: "/", count: (name) => found.get(name).other }]);
}

/** The share of the population, the newest survivors, of which something holds, at up to 60 moments. */
function population(run, rows) {
  const wanted = new Set(rows), size = run.weights ? Math.max(20, Math.round((run.population * run.size) / run.births)) : run.population;
  const survivors = run.inOrder.filter((i) => wanted.has(i) && weightOf(run, i) && stateOf(run, i) === "evaluated" && run.candidates.operator[i] !== run.again);
  const moments = Math.min(60, survivors.length);
  const ends = range(moments).map((k) => Math.round(((k + 1) * survivors.length) / moments));
  return ends.map((end) => ({ at: run.candidates.seq[survivors[end - 1]], members: survivors.slice(Math.max(0, end - size), end) }));
}

const shareOf = (members, holds) => (100 * members.filter(holds).length) / members.length;

function indexSetsPlot({ run, rows }) {
  const moments = population(run, rows), c = run.candidates;
  const data = run.index_sets.map((name, n) => {
    const letters = c.op_names.filter((op) => op.endsWith(`_${name}`)).map((op) => run.letters.get(op));
    return { type: "scatter", mode: "lines", name: plain(name), x: moments.map((m) => m.at), y: moments.map((m) => shareOf(m.members, (i) => letters.some((l) => c.ops[i].includes(l)))),
      line: { color: css(HUES[n % HUES.length]), dash: DASHES[n % DASHES.length], width: 2 }, hovertemplate: `${plain(name)}: %{y:.0f} %<extra></extra>` };
  });
  return { data, layout: { xaxis: { title: { text: "outcomes" } }, yaxis: { title: { text: "share of the population, %" }, range: [-2, 102] } } };
}

function primitivesPlot({ run, rows }) {
  const moments = population(run, rows), c = run.candidates;
  const names = [...c.op_names].sort();
  const z = names.map((op) => moments.map((m) => shareOf(m.members, (i) => uses(run, i, op))));
  const last = (n) => z[n][z[n].length - 1] ?? 0;
  const order = range(names.length).sort((a, b) => last(a) - last(b));
  return { data: moments.length ? [{ type: "heatmap", x: moments.map((m) => m.at), y: order.map((n) => plain(names[n])), z: order.map((n) => z[n]), zmin: 0, zmax: 100, colorscale: "Cividis",
    hovertemplate: "%{y}, outcome %{x}: %{z:.0f} %<extra></extra>", colorbar: { title: { text: "%" }, thickness: 12 } }] : [],
    height: 130 + 17 * names.length, layout: { xaxis: { title: { text: "outcomes" } }, yaxis: { automargin: true, dtick: 1 } } };
}

const KINDS = { search: "blue", baseline: "vermilion", audit: "purple", rerank: "green", validate: "orange" };

/** Every evaluation as begin, end and kind; those that took no worker are left out. */
function evaluations(run, rows) {
  const c = run.candidates;
  const found = rows.filter((i) => c.at[i] != null && c.seconds[i] >= 0.05).map((i) => ({ kind: "search", from: c.at[i] - c.seconds[i], to: c.at[i], i, weight: weightOf(run, i) }));
  for (const [kind, at, seconds] of run.beside) found.push({ kind, from: at - seconds, to: at, weight: 1 });
  return found.sort((a, b) => a.from - b.from);
}

/** Busy workers over time, in 200 steps. */
function utilisationPlot({ run, rows }) {
  const all = evaluations(run, rows);
  const end = Math.max(...all.map((each) => each.to), 1), step = end / 200;
  const kinds = Object.keys(KINDS).filter((kind) => all.some((each) => each.kind === kind));
  const data = kinds.map((kind) => {
    const busy = new Array(200).fill(0);
    for (const { from, to, weight } of all.filter((each) => each.kind === kind)) {
      for (let k = Math.max(0, Math.floor(from / step)); k < 200 && k * step < to; k++) busy[k] += (weight * Math.max(0, Math.min(to, (k + 1) * step) - Math.max(from, k * step))) / step;
    }
    return { type: "scatter", mode: "lines", stackgroup: "busy", name: kind, x: range(200).map((k) => ((k + 0.5) * step) / 60), y: busy,
      line: { width: 0.5, color: css(KINDS[kind]) }, hovertemplate: `${kind}: %{y:.1f}<extra></extra>` };
  });
  return { data, layout: { xaxis: { title: { text: "minutes since the begin" }, rangemode: "tozero" }, yaxis: { title: { text: "busy workers" }, rangemode: "tozero" } } };
}

/** Every evaluation as a line, on the first lane that is free. */
function timelinePlot({ run, rows, place }) {
  const all = evaluations(run, rows), lanes = [];
  for (const each of all) {
    const free = lanes.findIndex((to) => to <= each.from + 0.2 * (each.to - each.from));
    each.lane = free < 0 ? lanes.length : free;
    lanes[each.lane] = each.to;
  }
  const kinds = Object.keys(KINDS).filter((kind) => all.some((each) => each.kind === kind));
  const data = kinds.map((kind) => {
    const x = [], y = [], text = [], customdata = [];
    for (const each of all.filter((one) => one.kind === kind)) {
      const what = each.i == null ? `${kind}, ${time(each.to - each.from)}` : `${hover(run, each.i)}<br>${time(each.to - each.from)}`;
      for (const at of [each.from, each.to, null]) {
        x.push(at == null ? null : at / 60); y.push(each.lane + 1); text.push(what); customdata.push(each.i == null ? null : [place, birthOf(run, each.i)]);
      }
    }
    return { type: scatter(x.length), mode: "lines+markers", name: kind, x, y, text, customdata, hoverinfo: "text", line: { width: 6, color: css(KINDS[kind]) },
      marker: { symbol: "line-ns-open", size: 9, color: css("ink") } };
  });
  return { data, height: 150 + 26 * Math.min(lanes.length, 30), layout: { xaxis: { title: { text: "minutes since the begin" }, rangemode: "tozero" },
    yaxis: { title: { text: "lane" }, dtick: lanes.length > 12 ? undefined : 1, range: [0.3, Math.max(lanes.length, 1) + 0.7] } } };
}

/** The final table: mean differences with their standard deviations over fresh seeds. */
function finalPlot({ run, rows, place }) {
  const wanted = new Set(rows);
  const shown = run.final.filter((row) => gainOf(row) != null && (row.birth == null || wanted.has(run.place.get(row.birth))));
  const name = (row) => (row.birth == null ? plain(row.name) : `birth ${row.birth}${row.same_as ? ` = ${plain(row.same_as)}` : ""}`);
  const part = (rows, label, hue, symbol) => ({ type: "scatter", mode: "markers", name: label, x: rows.map((row) => factor(run) * gainOf(row)), y: rows.map(name),
    error_x: { array: rows.map((row) => factor(run) * (deviationOf(row) ?? 0)), color: css(hue), thickness: 1.5 }, marker: { color: css(hue), size: 10, symbol },
    text: rows.map((row) => `${name(row)}: ${points(run.unit, gainOf(row))} ±${amount(run.unit, deviationOf(row) ?? 0)} ${unitOf(run.unit)}, ${row.seeds} seeds<br>${wrapped(row.formula)}`), hoverinfo: "text",
    customdata: rows.map((row) => (row.birth ? [place, row.birth] : null)) });
  return { data: [part(shown.filter((row) => row.birth), "candidates", "blue", "diamond"), part(shown.filter((row) => !row.birth), "known layers", "vermilion", "x")],
    height: 120 + 26 * shown.length, layout: { xaxis: { title: { text: `${above(run)} (± standard deviation over seeds)` }, zeroline: true },
      yaxis: { automargin: true, autorange: "reversed", type: "category", categoryorder: "array", categoryarray: shown.map(name) } } };
}

/** Draw one, in the colours of the page. A click on a mark opens its layer. */
function draw(element, { data, layout, height = 380 }, open) {
  const ink = css("ink"), grid = css("line");
  const axis = { gridcolor: grid, zerolinecolor: grid, linecolor: grid };
  const empty = !data.some((each) => each.x?.length);
  const full = { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink, family: "system-ui, sans-serif", size: 13 }, height, hovermode: "closest", uirevision: "kept",
    margin: { l: 60, r: 16, t: 34, b: 50 }, legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom" }, hoverlabel: { align: "left", bgcolor: css("card"), font: { color: ink } }, ...layout };
  for (const name of ["xaxis", "yaxis", "xaxis2", "yaxis2"]) if (full[name] || name.length === 5) full[name] = { ...axis, ...full[name] };
  if (empty) full.annotations = [{ xref: "paper", yref: "paper", x: 0.5, y: 0.5, text: "nothing to show", showarrow: false }];
  const config = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
  return Plotly.react(element, data, full, config).then(() => {
    if (element.dataset.clicks) return;
    element.dataset.clicks = "yes";
    element.on("plotly_click", ({ points }) => points[0].customdata && open(...points[0].customdata));
  });
}
