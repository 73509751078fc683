"use strict";

const ALL = "";
const DEPENDENCE = { 0: "does not depend", 1: "depends" };

/** The filters, each with the choices that the runs offer and the test of a candidate. */
const FILTERS = [
  { name: "state", label: "State", choices: (run) => run.candidates.states, holds: (run, i, value) => stateOf(run, i) === value },
  { name: "gate", label: "Stopped by", choices: (run) => run.candidates.stops, holds: (run, i, value) => run.candidates.stops[run.candidates.stopped[i]] === value },
  { name: "operator", label: "Operator", choices: (run) => run.candidates.operators.flatMap((each) => each.split("+")), holds: (run, i, value) => operatorOf(run, i).split("+").includes(value) },
  { name: "op", label: "Uses", choices: (run) => run.candidates.op_names, holds: uses },
  { name: "batch", label: "Batch", choices: () => Object.values(DEPENDENCE), holds: (run, i, value) => DEPENDENCE[run.candidates.batch[i]] === value },
  { name: "proxy", label: "Figure on", choices: (run) => run.proxies, holds: (run, i, value, values) => {
    const score = run.scores[value]?.[i], least = Number(values.get("at_least") ?? 0);
    return score != null && (!least || score >= (run.in_bits.includes(value) ? -least : least));
  } },
];
const UNSORTED = ["batch", "state", "proxy"];

/** The form. `changed` is called after every choice. */
function filterForm(form, runs, changed) {
  const select = (name, label, options) => h("label", {}, `${label} `, h("select", { id: `filter-${name}`, name, onchange: changed }, options));
  if (runs.length > 1) form.append(select("run", "Run", runs.map((run, i) => h("option", { value: i }, run.label))));
  for (const { name, label } of FILTERS) form.append(select(name, label, []));
  const inBits = runs.some((run) => run.in_bits.length), onlyBits = runs.every((run) => run.in_bits.length === run.proxies.length);
  const [what, limit] = onlyBits ? ["Bits per byte on", "at most "] : inBits ? ["Figure on", "at least, of bits at most "] : ["Accuracy on", "at least "];
  form.elements.proxy.parentElement.firstChild.textContent = `${what} `;
  form.append(h("label", {}, limit, h("input", { id: "filter-at_least", name: "at_least", type: "number", min: 0, max: inBits ? 1000 : 1, step: 0.01, value: 0, onchange: changed })),
    h("button", { type: "reset" }, "Reset"), h("output", { id: "count", "aria-live": "polite" }));
  form.addEventListener("reset", () => setTimeout(changed));
  form.addEventListener("submit", (event) => event.preventDefault());
  offerChoices(form, runs);
  form.hidden = false;
}

/** Offer what the runs have; what is chosen stays so. */
function offerChoices(form, runs) {
  for (const { name, choices } of FILTERS) {
    const element = form.elements[name], value = element.value;
    const names = [...new Set([...runs.flatMap(choices), value])].filter((each) => each !== ALL);
    if (!UNSORTED.includes(name)) names.sort();
    element.replaceChildren(h("option", { value: ALL }, "all"), ...names.map((each) => h("option", { value: each }, each)));
    element.value = value;
  }
}

/** The filters that are set, as the JSON API takes them. */
function filterQuery(form) {
  const values = new FormData(form), query = new URLSearchParams();
  for (const { name } of FILTERS) if (values.get(name)) query.set(name, name === "batch" ? values.get(name) === DEPENDENCE[1] : values.get(name));
  if (query.has("proxy")) query.set("at_least", Number(values.get("at_least") ?? 0));
  return query.toString();
}

/** The candidates of a run that pass all filters: places in its columns. */
function chosen(form, run) {
  const values = new FormData(form);
  const active = FILTERS.filter(({ name }) => values.get(name));
  return range(run.size).filter((i) => active.every(({ name, holds }) => holds(run, i, values.get(name), values)));
}
