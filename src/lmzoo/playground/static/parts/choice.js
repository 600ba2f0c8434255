// A list from which one model is chosen; other than `<lmzoo-models single>`, the view says which one comes first.

import { el } from "../dom.js";
import { StateElement, read, write } from "../state.js";
import { listModels } from "./models.js";

/** @typedef {import("./models.js").ListedModel} ListedModel */

/**
 * Returns the model that the address names, or else the first of `preferred` families that the server has.
 * @param {string} parameter name of the value in the address
 * @param {string[]} preferred names of model families; without any, no model is the default
 * @returns {Promise<ListedModel | null>}
 */
export async function chosenModel(parameter, preferred) {
  const models = (await listModels()).filter((model) => !model.error);
  const name = read(parameter, "");
  const asked = models.find((model) => model.name === name);
  if (asked || !preferred.length) return asked ?? null;
  for (const family of preferred) {
    const found = models.find((model) => model.species === family);
    if (found) return found;
  }
  return models[0] ?? null;
}

/**
 * Returns a list from which one model is chosen. Without `preferred`, its first entry is "none".
 * @param {string} label
 * @param {string} parameter
 * @param {string[]} preferred
 * @returns {HTMLElement}
 */
export function modelChoice(label, parameter, preferred) {
  const element = /** @type {ModelChoice} */ (document.createElement("lmzoo-model-choice"));
  Object.assign(element, { label, parameter, preferred });
  return element;
}

class ModelChoice extends StateElement {
  label = "";
  parameter = "";
  /** @type {string[]} */
  preferred = [];

  build() {
    const choose = () => write({ [this.parameter]: this.select.value || null }, { history: true });
    this.select = el("select", { name: this.parameter, onchange: choose });
    this.append(el("label", { class: "field" }, el("span", {}, this.label), this.select));
    listModels().then((models) => {
      if (!this.preferred.length) this.select.append(el("option", { value: "" }, "none"));
      for (const model of models.filter((one) => !one.error)) {
        const title = model.species === model.name ? model.title : `${model.title} (${model.name})`;
        this.select.append(el("option", { value: model.name }, model.year === null ? title : `${model.year} ${title}`));
      }
      this.update();
    }, () => {});
  }

  async update() {
    this.select.value = (await chosenModel(this.parameter, this.preferred))?.name ?? "";
  }
}

customElements.define("lmzoo-model-choice", ModelChoice);
