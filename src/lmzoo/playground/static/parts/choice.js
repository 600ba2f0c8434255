// The elements with which models are chosen: a list for one model, and a menu for several.

import { el, setChildren } from "../dom.js";
import { StateElement, write } from "../state.js";
import { menu } from "./controls.js";
import { caption, chosenModel, chosenModels, listModels, textModels, usableModels } from "./models.js";

/** @typedef {import("./models.js").ListedModel} ListedModel */

/**
 * Returns a list from which one model is chosen. Without `preferred`, its first entry is "none".
 * @param {string} label
 * @param {string} parameter name of the value in the address
 * @param {string[]} preferred names of model families, of which the first that the server has is the default
 * @param {(model: ListedModel) => boolean} [fits] tells which models can be chosen
 * @returns {HTMLElement}
 */
export function modelChoice(label, parameter, preferred, fits = () => true) {
  const element = /** @type {ModelChoice} */ (document.createElement("lmzoo-model-choice"));
  Object.assign(element, { label, parameter, preferred, fits });
  return element;
}

class ModelChoice extends StateElement {
  label = "";
  parameter = "";
  /** @type {string[]} */
  preferred = [];
  /** @type {(model: ListedModel) => boolean} */
  fits = () => true;
  /** @type {Map<string, HTMLOptionElement>} */
  options = new Map();

  build() {
    const choose = () => write({ [this.parameter]: this.select.value || null }, { history: true });
    this.select = el("select", { name: this.parameter, onchange: choose });
    if (!this.preferred.length) this.options.set("", el("option", { value: "" }, "none"));
    this.append(el("label", { class: "field" }, el("span", {}, this.label), this.select));
  }

  async update() {
    const models = (await usableModels()).filter(this.fits);
    const chosen = await chosenModel(this.parameter, this.preferred, this.fits);
    for (const model of models.filter(({ name }) => !this.options.has(name))) {
      this.options.set(model.name, el("option", { value: model.name }, caption(model)));
    }
    setChildren(this.select, ["", ...models.map(({ name }) => name)].flatMap((name) => this.options.get(name) ?? []));
    this.select.value = chosen?.name ?? "";
  }
}

/**
 * `<lmzoo-models>`: a menu in which models are chosen, whose names it writes to the address.
 *
 * Attributes: `param`, the name of the value in the address ("models" by default); `limit`, the number of models chosen
 * if the address names none (by default, all that have learned from plain text).
 */
class Models extends StateElement {
  parameter = "models";
  limit = Infinity;
  /** @type {Map<string, HTMLLabelElement>} */
  labels = new Map();
  /** @type {string[]} names of the models of text */
  ofText = [];

  build() {
    this.parameter = this.getAttribute("param") ?? this.parameter;
    this.limit = Number(this.getAttribute("limit") ?? Infinity);
    const all = (/** @type {boolean} */ checked) => () => {
      for (const box of this.#boxes()) box.checked = checked;
      this.#choose();
    };
    this.summary = el("summary", {}, "Models");
    this.list = el("div", { class: "boxes" });
    this.problems = el("div");
    this.append(menu(this.summary, el("fieldset", {}, el("legend", { class: "hidden" }, "Models"), this.list, this.problems,
      el("p", { class: "row" }, el("button", { type: "button", onclick: all(true) }, "All"),
        el("button", { type: "button", onclick: all(false) }, "Only the first")))));
  }

  /** @returns {HTMLInputElement[]} */
  #boxes() {
    return [...this.list.querySelectorAll("input")];
  }

  #choose() {
    const boxes = this.#boxes();
    const names = boxes.filter((box) => box.checked).map((box) => box.value);
    const chosen = names.length ? names : boxes.slice(0, 1).map((box) => box.value);
    const isDefault = this.limit === Infinity && chosen.join() === this.ofText.join();
    write({ [this.parameter]: isDefault ? null : chosen.join() }, { history: true });
  }

  async update() {
    const models = await listModels();
    const usable = await usableModels();
    this.ofText = (await textModels()).map(({ name }) => name);
    const chosen = await chosenModels(this.parameter, this.limit);
    for (const model of usable.filter(({ name }) => !this.labels.has(name))) {
      this.labels.set(model.name, el("label", { title: model.idea },
        el("input", { type: "checkbox", value: model.name, onchange: () => this.#choose() }), caption(model)));
    }
    setChildren(this.list, usable.map(({ name }) => /** @type {HTMLElement} */ (this.labels.get(name))));
    for (const box of this.#boxes()) box.checked = chosen.some(({ name }) => name === box.value);
    this.summary.textContent = `Models: ${chosen.length} of ${usable.length}`;
    this.problems.replaceChildren(...models.filter((model) => model.error).map(({ name, error }) =>
      el("p", { class: "error" }, `${name} cannot be loaded: ${error}`)));
  }
}

customElements.define("lmzoo-model-choice", ModelChoice);
customElements.define("lmzoo-models", Models);
