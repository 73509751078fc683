"use strict";

const POLL_SECONDS = 3;
const SHARE = 20; // drawing takes at most a twentieth of the time

/** An answer of the server as JSON; null where it is still the one with this tag. */
async function ask(path, known = {}) {
  const response = await fetch(path, { headers: known.tag ? { "If-None-Match": known.tag } : {}, cache: "no-store" });
  if (response.status === 304) return null;
  const value = await response.json();
  if (!response.ok) throw new Error(value.error);
  known.tag = response.headers.get("ETag");
  return value;
}

const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
const isSeen = () => !document.hidden || new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
const clock = () => new Date().toLocaleTimeString("en-GB");
const viewOf = (keys) => `/view?${keys.map((key) => `run=${encodeURIComponent(key)}`).join("&")}`;

/** Ask again and again while the page is seen, and show what has changed. */
async function follow(load, show) {
  const note = document.getElementById("live");
  for (let seconds = POLL_SECONDS; ; await sleep(seconds)) {
    await isSeen();
    try {
      const value = await load();
      const began = performance.now();
      if (value) show(value);
      seconds = Math.max(POLL_SECONDS, (SHARE * (performance.now() - began)) / 1000);
      if (value) note.textContent = `as of ${clock()}; it follows by itself`;
    } catch (error) {
      note.textContent = `not up to date since ${clock()}: ${error.message}`;
      seconds = POLL_SECONDS;
    }
  }
}

/** The values of some runs, from the server. */
function fetched(query) {
  const known = {}, path = (filters) => `/api/page?${query}${filters && `&${filters}`}`;
  let last = "";
  const of = (run) => `/api/runs/${encodeURIComponent(run.key)}`;
  return {
    load(filters) {
      if (path(filters) !== last) { last = path(filters); known.tag = null; }
      return ask(last, known);
    },
    panel: (run, birth) => ask(`${of(run)}/candidates/${birth}/card`),
    rows: (run, query) => ask(`${of(run)}/rows?${query}`),
    ends: (run, query) => ask(`${of(run)}/ends?${query}`),
    layer: (run, birth) => `${of(run)}/candidates/${birth}/layer.py`,
    follow(filters, show) { follow(() => this.load(filters()), show); },
  };
}

function runTable(lines) {
  const shown = (line, name) => {
    const bits = line[`${name}_bits_per_byte`];
    return bits != null ? `${points(BITS, -bits)} bits` : line[name] != null ? points("accuracy", line[name]) : null;
  };
  const best = (line) => (shown(line, "best") ? `${shown(line, "best")} (birth ${line.best_birth})` : shown(line, "in_search") ? `${shown(line, "in_search")} in the search` : "–");
  const began = (line) => (line.started == null ? "–" : new Date(1000 * line.started).toISOString().slice(0, 16).replace("T", " "));
  const picked = new Set([...document.querySelectorAll("input[name=run]:checked")].map((each) => each.value));
  const rows = lines.map((line) => (line.error
    ? ["", line.key, h("span", { class: "state" }, line.state), h("span", { class: "error" }, line.error), "–", "–", began(line)]
    : [h("input", { type: "checkbox", name: "run", value: line.key, checked: picked.has(line.key), "aria-label": `Compare ${line.key}` }), h("a", { href: viewOf([line.key]) }, line.key),
      h("span", { class: `state ${line.state}` }, line.state), best(line), line.births, line.trained, began(line)]));
  return lines.length ? table(["compare", "run", "state", "best, points to its baseline", "births", "trained", "begun, UTC"], rows, "The best: with fresh seeds where a run has its final table; in the search it is partly a lucky one") : h("p", {}, "No run yet.");
}

async function list() {
  const page = document.getElementById("page"), known = {};
  const compare = h("button", { type: "submit" }, "Compare marked runs");
  const holder = h("div"), form = h("form", { action: "/view" }, holder, h("p", {}, compare));
  document.querySelector("h1").textContent = "Runs";
  document.title = "Runs - evonas";
  document.querySelector(".skip").remove();
  const show = (lines) => {
    const focused = document.activeElement?.getAttribute("value") ?? document.activeElement?.getAttribute("href");
    holder.replaceChildren(runTable(lines));
    if (focused) [...holder.querySelectorAll("a, input")].find((each) => [each.getAttribute("value"), each.getAttribute("href")].includes(focused))?.focus();
    mark();
  };
  const mark = () => { compare.disabled = form.querySelectorAll("input:checked").length < 2; };
  form.addEventListener("change", mark);
  page.replaceChildren(form);
  show(await ask("/api/runs", known));
  document.documentElement.dataset.ready = "yes";
  follow(() => ask("/api/runs", known), show);
}

document.querySelector("header").append(h("p", { id: "live" }, `as of ${clock()}; it follows by itself`));
document.querySelector("footer").append(" ", h("a", { href: "/api/openapi.json" }, "JSON API"));
if (location.pathname === "/view") {
  document.querySelector("header").prepend(h("a", { href: "/" }, "All runs"));
  start(fetched(location.search.slice(1))).catch(refuse);
} else list().catch(refuse);
