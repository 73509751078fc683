"use strict";

/** What plots and filters need of a run beside its columns. Place i of every column is the candidate birth[i]. */
function prepare(run) {
  const c = run.candidates;
  run.size = c.state.length;
  run.place = new Map(c.birth.map((birth, i) => [birth, i]));
  run.panel = new Map(run.panels.map((panel) => [panel.birth, panel]));
  run.letters = new Map(c.op_names.map((name, i) => [name, String.fromCharCode(65 + i)]));
  run.again = c.operators.indexOf("again");
  c.advantage = c.advantage.map((value) => (typeof value === "string" ? -Infinity : value)); // "-inf": no bits suffice
  run.scores = Object.fromEntries(run.proxies.map((proxy) => [proxy, scoresOf(run, c, proxy)]));
  run.inOrder = range(run.size).filter((i) => c.seq[i] > 0).sort((a, b) => c.seq[a] - c.seq[b]);
  return run;
}

/** Figures on a proxy of which more is better: accuracies, or bits per byte with their sign changed. */
const scoresOf = (run, of, proxy) => (run.in_bits.includes(proxy) ? of.bits_per_byte[proxy].map((bits) => (bits == null ? null : -bits || -Infinity)) : of.accuracy[proxy]);

const range = (n) => Array.from({ length: n }, (_, i) => i);
const sum = (values) => values.reduce((total, each) => total + each, 0);
const stateOf = (run, i) => run.candidates.states[run.candidates.state[i]];
const operatorOf = (run, i) => run.candidates.operators[run.candidates.operator[i]];
const birthOf = (run, i) => run.candidates.birth[i];
const uses = (run, i, op) => run.candidates.ops[i].includes(run.letters.get(op) ?? "-");

/** Whether a candidate was trained itself; others inherited an outcome, or repeat a leader with another seed. */
const isFirst = (run, i) => stateOf(run, i) === "evaluated" && !run.candidates.equal_to[i];

/** What became of a candidate: the gate that stopped it, the kind of its crash, or its state. */
function endOf(run, i) {
  const c = run.candidates;
  if (c.equal_to[i] && c.operator[i] !== run.again && stateOf(run, i) !== "pending") return "inherited";
  return c.stops[c.stopped[i]] || (stateOf(run, i) === "evaluated" ? "trained" : stateOf(run, i));
}

/** How many candidates one stands for: of a sample, those drawn evenly stand for all, and the leaders beside them for none. */
const weightOf = (run, i) => run.weights?.[i] ?? 1;

/** Where candidates ended, by operator: of a sample, the server's count of all. */
function tally(run, rows) {
  if (run.weights) return run.ends ?? [];
  const found = new Map();
  for (const i of rows) {
    const end = endOf(run, i), operator = operatorOf(run, i), key = `${end}\n${operator}`;
    const mine = found.get(key) ?? { end, operator, count: 0, seconds: 0 };
    found.set(key, mine);
    mine.count += 1;
    mine.seconds += run.candidates.seconds[i];
  }
  return [...found.values()];
}

/** The members of the front of two values, both maximised: places among `points`, by falling x. */
function front(points) {
  const order = range(points.length).sort((a, b) => points[b].x - points[a].x || points[b].y - points[a].y);
  let best = -Infinity;
  return order.filter((i, n) => {
    const twin = n && points[order[n - 1]].x === points[i].x && points[order[n - 1]].y === points[i].y;
    const kept = points[i].y > best || (twin && points[i].y === best);
    best = Math.max(best, points[i].y);
    return kept;
  });
}

const BITS = "bits per byte";
const isBits = (run) => run.unit === BITS;
/** The unit of differences, and a difference in it without its name or sign. */
const unitOf = (unit) => ({ accuracy: "points", fitness: "points of fitness" })[unit] ?? unit;
const amount = (unit, value) => (unit === BITS ? value.toFixed(3) : (100 * value).toFixed(1));
/** A gain, of which more is better, as the difference that people read: of bits per byte less is better. */
const points = (unit, gain) => {
  if (gain == null) return "–";
  const difference = unit === BITS ? -gain || 0 : gain;
  return `${difference < 0 ? "−" : "+"}${amount(unit, Math.abs(difference))}`;
};
/** The gain of figures, and its deviation over seeds. */
const gainOf = (figures) => (figures.difference_bits_per_byte == null ? figures.difference ?? null : -figures.difference_bits_per_byte);
const deviationOf = (figures) => figures.difference_spread_bits_per_byte ?? figures.difference_spread ?? null;
/** A score on a proxy as people read it. */
const figure = (run, proxy, score) => share(score != null && run.in_bits.includes(proxy) ? -score : score);
const share = (value) => (value == null ? "–" : value.toFixed(3));
/** What a figure on a proxy is. */
const figureName = (run, proxy) => (run.in_bits.includes(proxy) ? BITS : "accuracy");

function time(seconds) {
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${String(Math.floor(seconds % 60)).padStart(2, "0")} s`;
  return `${Math.floor(seconds / 3600)} h ${String(Math.floor((seconds % 3600) / 60)).padStart(2, "0")} min`;
}

/** An element. Texts become text, never tags. */
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value == null) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((each) => each != null && each !== false));
  return element;
}

/** A table; a cell is a text, a number or an element. Columns of numbers stand to the right. */
function table(titles, rows, caption) {
  const right = titles.map((_, n) => rows.length > 0 && rows.every((row) => isNumber(row[n])));
  const cell = (tag) => (value, n) => h(tag, { scope: tag === "th" ? "col" : null, class: right[n] ? "number" : null }, value ?? "");
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {}, h("caption", {}, caption), h("thead", {}, h("tr", {}, titles.map(cell("th")))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map(cell("td")))))));
}

/** Names with their values. */
const factsTable = (rows) => h("table", { class: "facts" }, h("tbody", {}, rows.map(([name, value]) => h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, value)))));

const isNumber = (value) => /^([+−]?\d[\d.]*[ ±]*(s|min|h|%)? ?)+$|^–$/.test(value instanceof Node ? value.textContent : value);

/** A link that opens a layer's panel. */
const layerLink = (place, birth, text = birth) => h("a", { href: `#layer/${place}/${birth}` }, text);
