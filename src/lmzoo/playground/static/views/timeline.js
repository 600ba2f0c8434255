// The view "Timeline": the families of language models by era, and the results of the server's run folders.

import { request } from "../api.js";
import { el } from "../dom.js";
import { stateLink } from "../parts/controls.js";
import { saveButtons } from "../parts/export.js";
import { usableModels } from "../parts/models.js";
import { StateElement } from "../state.js";

/**
 * @typedef {{name: string, title: string, year: number, era: string, people: string, idea: string, sees: string,
 *   changed: string, limits: string, beware: string, paper: string, bibtex: string}} Family
 * @typedef {{name: string, start: number, end: number}} Era
 * @typedef {{title: string, note: string, header: string[], rows: string[][]}} Table
 * @typedef {{name: string, tables: Table[], report: string | null}} Run
 */

const [FIRST, LAST] = [1910, 2026];
const DISTANCE = 3; // years between marks on one level, so that they do not touch on a screen 900 pixels wide

class Timeline extends StateElement {
  /** @type {Map<string, HTMLElement>} places for links to models of the server, by family */
  links = new Map();
  /** @type {Promise<void> | null} */
  loading = null;

  build() {
    this.append(el("h2", {}, "A century of language models"));
  }

  /** Shows the history, and links the families of which the server has a model to its prediction. */
  async update() {
    this.loading ??= this.#load();
    try {
      await this.loading;
    } catch (error) {
      this.loading = null;
      throw error;
    }
    for (const model of await usableModels()) {
      const place = this.links.get(model.species);
      if (!place || place.firstChild) continue;
      place.append(stateLink({ view: "predict", models: model.name }, "See it predict", el("span", { class: "hidden" }, `: ${model.title}`)));
    }
  }

  async #load() {
    const { eras, families, runs } = await request("/playground/timeline");
    families.sort((/** @type {Family} */ one, /** @type {Family} */ other) => one.year - other.year);
    this.links = new Map(families.map((/** @type {Family} */ family) => [family.name, el("p")]));
    this.append(axis(eras, families),
      ...eras.map((/** @type {Era} */ era, /** @type {number} */ index) => section(era, index, families, this.links)),
      saveButtons("timeline", { table: () => timelineTable(families) }), results(runs));
  }
}

/** @param {number} year */
function place(year) {
  return `${100 * (Math.min(Math.max(year, FIRST), LAST) - FIRST) / (LAST - FIRST)}%`;
}

/**
 * Returns the axis of years, with a mark for each family that leads to its card.
 * @param {Era[]} eras
 * @param {Family[]} families
 */
function axis(eras, families) {
  const bands = eras.map((era, index) => {
    const band = el("span", { class: `band era-${index}` });
    band.style.left = place(era.start);
    band.style.right = `calc(100% - ${place(era.end)})`;
    return band;
  });
  /** @type {number[]} last year with a mark on each level */
  const levels = [];
  const marks = families.map((family) => {
    let level = levels.findIndex((year) => family.year - year >= DISTANCE);
    if (level < 0) level = levels.length;
    levels[level] = family.year;
    const mark = el("a", {
      class: `mark era-${eras.findIndex((era) => era.name === family.era)}`, href: `#family-${family.name}`,
      "aria-label": `${family.title}, ${family.year}`, title: `${family.year} ${family.title}`,
      onclick: (/** @type {Event} */ event) => show(event, family.name),
    });
    mark.style.left = place(family.year);
    mark.style.bottom = `${1.9 + 1.6 * level}rem`;
    return mark;
  });
  const years = [1920, 1940, 1960, 1980, 2000, 2020].map((year) => {
    const label = el("span", { class: "tick" }, year);
    label.style.left = place(year);
    return label;
  });
  const strip = el("nav", { class: "years-axis", "aria-label": "Years" }, ...bands, ...marks, ...years);
  strip.style.height = `${3.2 + 1.6 * levels.length}rem`;
  return strip;
}

/**
 * Opens the card of a family and moves the focus to it.
 * @param {Event} event
 * @param {string} name
 */
function show(event, name) {
  event.preventDefault();
  const card = document.getElementById(`family-${name}`);
  card?.scrollIntoView({ block: "center" });
  const details = card?.querySelector("details");
  if (!details) return;
  details.open = true;
  details.querySelector("summary")?.focus({ preventScroll: true });
}

/**
 * @param {Era} era
 * @param {number} index
 * @param {Family[]} families
 * @param {Map<string, HTMLElement>} links places for links to models of the server, by family
 */
function section(era, index, families, links) {
  const members = families.filter((family) => family.era === era.name);
  const last = index ? `${era.start} – ${era.end > LAST ? "today" : era.end - 1}` : `before ${era.end}`;
  return el("section", { class: `era era-${index}`, "aria-labelledby": `era-${index}` },
    el("h3", { id: `era-${index}` }, era.name, " ", el("span", { class: "years" }, last)),
    el("ol", { class: "families" }, ...members.map((family) => card(family, links.get(family.name)))));
}

/**
 * @param {Family} family
 * @param {HTMLElement | undefined} link
 */
function card(family, link) {
  const facts = [["Sees", family.sees], ["What changed", family.changed], ["Limits", family.limits],
    ["Beware", family.beware], ["Paper", family.paper]].filter(([, text]) => text);
  const list = el("dl", {}, ...facts.flatMap(([term, text]) => [el("dt", {}, term), el("dd", {}, text)]));
  return el("li", { id: `family-${family.name}` },
    el("p", { class: "when" }, family.year), el("h4", {}, family.title), el("p", { class: "people" }, family.people),
    el("p", {}, family.idea),
    el("details", {}, el("summary", {}, "More", el("span", { class: "hidden" }, ` about ${family.title}`)), list,
      family.bibtex ? el("pre", { tabindex: 0, "aria-label": `BibTeX of ${family.title}` }, family.bibtex) : null),
    link ?? null);
}

/**
 * @param {Family[]} families
 * @returns {import("../parts/export.js").Table}
 */
function timelineTable(families) {
  return [["name", "year", "title", "era", "people", "idea", "sees", "paper"],
    ...families.map(({ name, year, title, era, people, idea, sees, paper }) => [name, year, title, era, people, idea, sees, paper])];
}

/** @param {Run[]} runs */
function results(runs) {
  const parts = runs.map((run) => el("section", {}, el("h4", {}, run.name), ...run.tables.map(table),
    run.report ? report(run.name, run.report) : el("p", { class: "note" }, "This run has no report yet. The command lmzoo report writes one.")));
  if (!runs.length) {
    parts.push(el("p", { class: "note" }, "The playground was opened without a run folder. This command makes one, in which models are compared: ",
      el("code", {}, "lmzoo compare --out runs/quick")));
  }
  return el("section", { class: "runs" }, el("h3", {}, "Results"), ...parts);
}

/** @param {Table} table */
function table(table) {
  const head = el("tr", {}, ...table.header.map((title) => el("th", { scope: "col" }, title)));
  const rows = table.rows.map(([name, ...cells]) =>
    el("tr", {}, el("th", { scope: "row" }, name), ...cells.map((cell) => el("td", {}, cell))));
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": table.title },
    el("table", {}, el("caption", {}, table.title), el("thead", {}, head), el("tbody", {}, ...rows)),
    table.note ? el("p", { class: "note" }, table.note) : null,
    saveButtons("leaderboard", { table: () => [table.header, ...table.rows] }));
}

/**
 * @param {string} name
 * @param {string} address
 */
function report(name, address) {
  const open = (/** @type {Event} */ event) => {
    const details = /** @type {HTMLDetailsElement} */ (event.currentTarget);
    if (!details.open || details.querySelector("iframe")) return;
    details.append(el("iframe", { src: address, title: `Report of ${name}`, sandbox: "allow-scripts allow-popups" }));
  };
  return el("div", {}, el("p", {}, el("a", { href: address, target: "_blank", rel: "noopener" }, `Report of ${name} in a new tab`)),
    el("details", { ontoggle: open }, el("summary", {}, "Report on this page")));
}

customElements.define("lmzoo-timeline", Timeline);
