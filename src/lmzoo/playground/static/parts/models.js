// The models of the server, and the element with which one chooses among them.

import { request } from "../api.js";
import { el } from "../dom.js";
import { StateElement, read, write } from "../state.js";

/**
 * A model of the server; models come in the order of the years in which their families were introduced.
 * @typedef {{name: string, species: string, title: string, year: number | null, people: string, idea: string,
 *   sees: string, tokenizer: string, vocab_size: number, error: string | null}} ListedModel
 */

/** @type {Promise<ListedModel[]> | null} */
let listed = null;

/** Returns all models of the server; they are requested once. */
export function listModels() {
  listed ??= request("/playground/models");
  return listed;
}

/**
 * Returns the models that the address names, or `limit` models of different eras if it names none.
 * @param {string} [parameter] name of the value in the address, which holds names separated by commas
 * @param {number} [limit]
 * @returns {Promise<ListedModel[]>}
 */
export async function chosenModels(parameter = "models", limit = Infinity) {
  const models = (await listModels()).filter((model) => !model.error);
  const names = read(parameter, "").split(",").filter((name) => name);
  const known = models.filter((model) => names.includes(model.name));
  if (known.length || models.length <= limit) return known.length ? known : models;
  const step = limit > 1 ? (models.length - 1) / (limit - 1) : 0;
  return Array.from({ length: limit }, (_, index) => models[Math.round(index * step)]);
}

/** @param {ListedModel} model */
function caption(model) {
  const title = model.species === model.name || !model.species ? model.title : `${model.title} (${model.name})`;
  return model.year === null ? title : `${model.year} ${title}`;
}

/**
 * `<lmzoo-models>`: chooses models, and writes their names to the address.
 *
 * Attributes: `param`, the name of the value in the address ("models" by default); `limit`, the number of models chosen
 * if the address names none (all by default); `single`, to choose one model from a list; `label`.
 */
class Models extends StateElement {
  parameter = "models";
  limit = Infinity;

  build() {
    this.parameter = this.getAttribute("param") ?? this.parameter;
    this.limit = this.hasAttribute("single") ? 1 : Number(this.getAttribute("limit") ?? Infinity);
    listModels().then((models) => {
      const usable = models.filter((model) => !model.error);
      if (this.hasAttribute("single")) this.#buildList(usable);
      else this.#buildBoxes(usable);
      this.update();
    }, (error) => this.replaceChildren(el("p", { class: "error" }, error.message)));
  }

  /** @param {ListedModel[]} models */
  #buildList(models) {
    const choose = (/** @type {Event} */ event) =>
      write({ [this.parameter]: /** @type {HTMLSelectElement} */ (event.target).value }, { history: true });
    const options = models.map((model) => el("option", { value: model.name }, caption(model)));
    this.append(el("label", { class: "field" },
      el("span", {}, this.getAttribute("label") ?? "Model"), el("select", { onchange: choose }, ...options)));
  }

  /** @param {ListedModel[]} models */
  #buildBoxes(models) {
    const boxes = models.map((model) => el("label", { title: model.idea },
      el("input", { type: "checkbox", value: model.name, onchange: () => this.#choose() }), caption(model)));
    const all = (/** @type {boolean} */ checked) => () => {
      for (const box of this.querySelectorAll("input")) box.checked = checked;
      this.#choose();
    };
    this.append(el("details", { class: "menu", onkeydown: closeOnEscape, onfocusout: closeOnLeave },
      el("summary", {}, "Models"),
      el("fieldset", {}, el("legend", { class: "hidden" }, this.getAttribute("label") ?? "Models"),
        el("div", { class: "boxes" }, ...boxes),
        el("p", { class: "row" }, el("button", { type: "button", onclick: all(true) }, "All"),
          el("button", { type: "button", onclick: all(false) }, "Only the first")))));
  }

  #choose() {
    const boxes = [...this.querySelectorAll("input")];
    const names = boxes.filter((box) => box.checked).map((box) => box.value);
    const chosen = names.length ? names : [boxes[0].value];
    write({ [this.parameter]: chosen.length === boxes.length && this.limit === Infinity ? null : chosen.join(",") },
      { history: true });
  }

  async update() {
    if (!this.firstChild) return;
    const names = (await chosenModels(this.parameter, this.limit)).map((model) => model.name);
    const select = this.querySelector("select");
    if (select) select.value = names[0];
    const boxes = [...this.querySelectorAll("input")];
    for (const box of boxes) box.checked = names.includes(box.value);
    const summary = this.querySelector("summary");
    if (summary) summary.textContent = `Models: ${names.length} of ${boxes.length}`;
  }
}

/**
 * Closes an open menu, and returns the focus to its button.
 * @param {KeyboardEvent} event
 */
function closeOnEscape(event) {
  const menu = /** @type {HTMLDetailsElement} */ (event.currentTarget);
  if (event.key !== "Escape" || !menu.open) return;
  menu.open = false;
  menu.querySelector("summary")?.focus();
}

/**
 * Closes an open menu when the focus goes to another part of the page.
 * @param {FocusEvent} event
 */
function closeOnLeave(event) {
  const menu = /** @type {HTMLDetailsElement} */ (event.currentTarget);
  if (event.relatedTarget && !menu.contains(/** @type {Node} */ (event.relatedTarget))) menu.open = false;
}

customElements.define("lmzoo-models", Models);
