// The bits per character that each model of the server needs for a text.

import { el } from "../dom.js";
import { write } from "../state.js";
import { bar } from "./bars.js";
import { barChart } from "./charts.js";
import { saveButtons } from "./export.js";
import { caption, textModels } from "./models.js";
import { scores, sum } from "./scores.js";

const LEAST_RANGE = 4; // bits at the end of the axis, unless a model needs more

/** A section with a bar for each model. */
export class ModelBars {
  constructor() {
    this.list = el("ol", { class: "bars plain" });
    this.element = el("section", { class: "eras", "aria-label": "All models on this text" },
      el("h3", {}, "Bits per character of this text"), this.list,
      el("p", { class: "note" }, "If a tokenizer does not know a word of the text, its model has no number, because it does not predict all characters."),
      saveButtons("bits_per_character", { table: () => this.#table(), chart: () => this.#chart() }));
    /** @type {{title: string, bits: number | null, text: string}[]} */
    this.figures = [];
    this.text = "";
  }

  /**
   * Shows the bars, one after the other as the server answers.
   * @param {string} text
   * @param {string} chosen name of the model that the view shows
   */
  async show(text, chosen) {
    this.text = text;
    this.figures = [];
    const models = await textModels();
    const items = models.map((model) => this.#item(model, chosen));
    this.list.replaceChildren(...items);
    for (const [index, model] of text ? models.entries() : []) {
      const figure = await figureOf(model, text);
      if (text !== this.text || items[index].parentElement !== this.list) return; // a newer text has come
      this.figures.push(figure);
      const largest = Math.max(LEAST_RANGE, ...this.figures.map(({ bits }) => bits ?? 0));
      const number = items[index].querySelector(".number");
      if (number) number.textContent = figure.text;
      this.figures.forEach(({ bits }, place) => items[place].querySelector(".track")?.replaceWith(bar((bits ?? 0) / largest)));
    }
  }

  /**
   * @param {import("./models.js").ListedModel} model
   * @param {string} chosen
   * @returns {HTMLElement}
   */
  #item(model, chosen) {
    const choose = () => write({ model: model.name }, { history: true });
    return el("li", {}, el("button", { type: "button", "aria-pressed": String(model.name === chosen), onclick: choose,
      title: caption(model) }, model.year === null || model.name.includes(String(model.year)) ? model.name : `${model.year} ${model.name}`), bar(0), el("span", { class: "number" }, this.text ? "…" : "–"));
  }

  #table() {
    return [["model", "bits_per_character"], ...this.figures.map(({ title, bits }) => [title, bits])];
  }

  #chart() {
    const largest = Math.max(LEAST_RANGE, ...this.figures.map(({ bits }) => bits ?? 0));
    return barChart("Bits per character of the text", [{ title: "",
      rows: this.figures.map(({ title, bits, text }) => ({ label: title, text, share: (bits ?? 0) / largest })) }]);
  }
}

/**
 * Returns the bits per character of a model on a text, or the reason why there are none.
 * @param {import("./models.js").ListedModel} model
 * @param {string} text
 */
async function figureOf({ name }, text) {
  try {
    const found = await scores(name, text);
    if (!found.lossless) return { title: name, bits: null, text: "unknown words" };
    if (found.starts.length < found.n_tokens) return { title: name, bits: null, text: "text too long" };
    const bits = sum(found.surprisals) / Array.from(text).length;
    return { title: name, bits, text: bits.toFixed(2) };
  } catch (error) {
    return { title: name, bits: null, text: /** @type {Error} */ (error).message };
  }
}
