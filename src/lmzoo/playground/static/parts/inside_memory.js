// The gates and states of recurrent networks in the view "Attention and memory": one row for each token.

import { el } from "../dom.js";
import { read, readWhole, write } from "../state.js";
import { bar } from "./bars.js";
import { matrixChart } from "./charts.js";
import { matrix } from "./matrix.js";
import { unpacked } from "./packed.js";
import { START } from "./tokens.js";

/**
 * @typedef {import("../views/inside.js").Panel} Panel
 * @typedef {{name: string, values: import("./packed.js").Numbers, mean: number[]}} Trace
 * @typedef {{n_units: number, units: number[], traces: Trace[]}} Layer
 */

export class Memory {
  /**
   * @param {Panel} panel
   * @param {any[]} layers as the server sends them
   */
  constructor(panel, layers) {
    this.panel = panel;
    this.inputs = [START, ...panel.tokens];
    /** @type {Layer[]} */
    this.layers = layers.map((layer) => ({ ...layer,
      traces: layer.traces.map((/** @type {any} */ trace) => ({ ...trace, values: unpacked(trace.values) })) }));
  }

  nodes() {
    const { number, layer, trace } = this.#shown();
    const [size, nUnits] = trace.values.shape;
    const units = nUnits < layer.n_units ? `the ${nUnits} of ${layer.n_units} units whose output varies most` : `all ${nUnits} units`;
    const signed = !trace.name.includes("gate");
    return [
      el("div", { class: "row" },
        this.layers.length > 1 ? this.#list("Layer", "memory", this.layers.map((_, index) => [String(index + 1), `Layer ${index + 1}`]), String(number)) : null,
        this.#list("Show", "gate", layer.traces.map(({ name }) => [name, name]), trace.name)),
      el("figure", { class: "scroll", tabindex: 0, role: "region", "aria-label": `${trace.name} at each token` },
        matrix(trace.values.values, { rows: size, columns: nUnits, row: this.panel.chosen + 1, signed, names: this.inputs,
          room: this.panel.room, onpick: (index) => this.panel.choose(index - 1) }),
        el("figcaption", { class: "note" }, `Each row is a token, each column a unit: ${units}. `
          + (signed ? "Orange is negative, blue is positive." : "Full colour means 1 (an open gate), no colour means 0 (a closed gate)."))),
      this.panel.rows(this.inputs, `Tokens, with the mean of ${trace.name}`, (index) =>
        [bar(Math.min(Math.abs(trace.mean[index]), 1)), el("span", { class: "number" }, trace.mean[index].toFixed(2))], 1),
      el("p", { class: "note" }, `The numbers are the mean of ${trace.name} over all units of the layer.`)];
  }

  table() {
    const { layer, trace } = this.#shown();
    const nUnits = layer.units.length;
    return [["token", `mean of ${trace.name}`, ...layer.units.map((unit) => `unit ${unit}`)],
      ...this.inputs.map((input, row) => [input.text, trace.mean[row],
        ...trace.values.values.subarray(row * nUnits, (row + 1) * nUnits)])];
  }

  chart() {
    const { number, trace } = this.#shown();
    return matrixChart(`Layer ${number}: ${trace.name}`, this.inputs.map((input) => input.text), [], trace.values.values);
  }

  /** Returns the layer and the trace that the address names, and the number of the layer. */
  #shown() {
    const number = readWhole("memory", 1, this.layers.length);
    const layer = this.layers[number - 1];
    const name = read("gate", layer.traces[0].name);
    return { number, layer, trace: layer.traces.find((one) => one.name === name) ?? layer.traces[0] };
  }

  /**
   * Returns a list whose choice is kept in the address.
   * @param {string} label
   * @param {string} parameter
   * @param {[string, string][]} options pairs of a value and a title
   * @param {string} value
   */
  #list(label, parameter, options, value) {
    const list = el("select", { name: parameter, onchange: () => {
      write({ [parameter]: list.value });
      /** @type {HTMLElement | null} */ (this.panel.querySelector(`select[name=${parameter}]`))?.focus();
    } }, ...options.map(([one, title]) => el("option", { value: one }, title)));
    list.value = value;
    return el("label", { class: "field" }, el("span", {}, label), list);
  }
}
