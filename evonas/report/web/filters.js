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
];

/** The form. `changed` is called after every choice. */
function filterForm(form, runs, changed) {
  const select = (name, label, options) => h("label", {}, `${label} `, h("select", { id: `filter-${name}`, name, onchange: changed }, options));
  if (runs.length > 1) form.append(select("run", "Run", runs.map((run, i) => h("option", { value: i }, run.label))));
  for (const { name, label, choices } of FILTERS) {
    const names = [...new Set(runs.flatMap(choices))].filter((each) => each !== ALL);
    if (name !== "batch" && name !== "state") names.sort();
    form.append(select(name, label, [h("option", { value: ALL }, "all"), names.map((each) => h("option", { value: each }, each))]));
  }
  form.append(h("button", { type: "reset" }, "Reset"), h("output", { id: "count", "aria-live": "polite" }));
  form.addEventListener("reset", () => setTimeout(changed));
  form.addEventListener("submit", (event) => event.preventDefault());
}

/** The candidates of a run that pass all filters: places, by birth. */
function chosen(form, run) {
  const values = new FormData(form);
  const active = FILTERS.filter(({ name }) => values.get(name));
  return range(run.size).filter((i) => active.every(({ name, holds }) => holds(run, i, values.get(name))));
}
