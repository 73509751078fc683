"use strict";

const STARS = "evonas-stars"; // of this browser: run and birth, in the order in which they were starred

function stars() {
  try {
    return JSON.parse(localStorage.getItem(STARS)) ?? [];
  } catch {
    return []; // the browser keeps nothing for this page, or something else
  }
}

const starOf = (run, birth) => `${run.name}, ${run.begun}, ${birth}`;

function toggleStar(run, birth) {
  const mine = starOf(run, birth), all = stars();
  try {
    localStorage.setItem(STARS, JSON.stringify(all.includes(mine) ? all.filter((each) => each !== mine) : [...all, mine]));
  } catch { /* it stays unstarred */ }
  dispatchEvent(new Event("starred"));
}

/** A button that stars a layer, or takes its star. */
function starButton(run, birth) {
  const isStarred = stars().includes(starOf(run, birth));
  return h("button", { type: "button", class: "star", "aria-pressed": String(isStarred), "aria-label": `Star birth ${birth}`, "data-star": starOf(run, birth),
    onclick: () => toggleStar(run, birth) }, isStarred ? "★" : "☆");
}

/** Show on every button whether its layer is starred. */
function markStars() {
  const all = stars();
  for (const button of document.querySelectorAll("button[data-star]")) {
    const isStarred = all.includes(button.dataset.star);
    button.setAttribute("aria-pressed", String(isStarred));
    button.textContent = isStarred ? "★" : "☆";
  }
}

/** The starred layers of the runs, side by side. */
async function starredCards(source, runs) {
  const found = stars().flatMap((star) => runs.flatMap((run, place) => {
    const birth = Number(star.slice(star.lastIndexOf(" ")));
    return star === starOf(run, birth) && birth <= run.births ? [{ run, place, birth }] : [];
  }));
  const cards = await Promise.all(found.map(async ({ run, place, birth }) => {
    const layer = await layerOf(source, run, birth);
    return layer && h("article", { class: "card" }, h("h3", {}, layerLink(place, birth, `Birth ${birth}`), runs.length > 1 ? ` of ${run.label} ` : " ", starButton(run, birth)),
      layer.panel ? [typeset(layer.panel), picture(layer)] : h("pre", {}, formulaOf(layer)), factsTable(figures(layer, place)));
  }));
  document.getElementById("starred").hidden = !cards.some(Boolean);
  document.getElementById("tables-starred").replaceChildren(h("div", { class: "cards" }, cards.filter(Boolean)));
}
