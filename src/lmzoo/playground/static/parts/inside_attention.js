// Attention in the view "Attention and memory": small pictures of all heads, and one head as a matrix or as lines.

import { el } from "../dom.js";
import { read, readWhole, write } from "../state.js";
import { bar } from "./bars.js";
import { matrixChart } from "./charts.js";
import { lines, linesChart } from "./lines.js";
import { matrix, thumbnail } from "./matrix.js";
import { START, tokenNodes } from "./tokens.js";
import { wholePercent } from "./units.js";

/** @typedef {import("../views/inside.js").Panel} Panel */

const MENTIONED = 3; // tokens that the sentence about the chosen one names

export class Attention {
  /**
   * @param {Panel} panel
   * @param {import("./packed.js").Numbers} weights (layers, heads, T + 1, T + 1) at the start and T tokens
   */
  constructor(panel, weights) {
    this.panel = panel;
    this.weights = weights;
    this.inputs = [START, ...panel.tokens];
    this.heads = this.#pictures();
    this.toggle = el("button", { type: "button", class: "toggle",
      onclick: () => write({ shape: read("shape", "matrix") === "lines" ? null : "lines" }) }, "Lines");
    this.choice = el("div", { class: "row" }, this.toggle); // one element for good: a new one would take the focus away
  }

  nodes() {
    const { layer, head, weights, row } = this.#shown();
    const size = this.inputs.length;
    for (const input of this.heads.querySelectorAll("input")) input.checked = input.value === `${layer}-${head}`;
    const ranked = [...weights.subarray(row * size, row * size + row + 1).entries()].sort((one, other) => other[1] - one[1]);
    const named = (/** @type {number} */ index) => el("span", { class: "token" }, ...tokenNodes(this.inputs[index]));
    const summary = el("p", {}, `In layer ${layer}, head ${head}, `, named(row), " attends to ",
      ...ranked.slice(0, MENTIONED).flatMap(([index, weight], place) => [place ? ", " : "", named(index), ` (${wholePercent(weight)})`]), ".");
    const asLines = read("shape", "matrix") === "lines";
    const pick = (/** @type {number} */ index) => this.panel.choose(index - 1);
    const picture = asLines ? lines(this.inputs, weights, row, pick)
      : matrix(weights, { rows: size, columns: size, row, causal: true, names: this.inputs, room: this.panel.room, onpick: pick });
    this.toggle.setAttribute("aria-pressed", String(asLines));
    return [this.heads, this.choice, summary,
      el("figure", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Attention of layer ${layer}, head ${head}` },
        picture, el("figcaption", { class: "note" }, asLines
          ? "Each line leads from a token (left) to a token to which it attends (right). The lines of the chosen token are bold."
          : "Each row shows to which tokens one token attends: the stronger the colour of a cell, the larger the weight. The crossed-out part is masked, because no token sees the tokens after it.")),
      this.panel.rows(this.inputs, "Tokens, with the weight of attention that the chosen token gives to each", (index) => {
        const weight = index <= row ? weights[row * size + index] : 0;
        return [bar(weight), el("span", { class: "number" }, index <= row ? wholePercent(weight) : "masked")];
      }, 1)];
  }

  table() {
    const { weights } = this.#shown();
    const size = this.inputs.length;
    return [["token", ...this.inputs.map((input) => input.text)],
      ...this.inputs.map((input, row) => [input.text, ...weights.subarray(row * size, (row + 1) * size)])];
  }

  chart() {
    const { layer, head, weights, row } = this.#shown();
    const title = `Attention of layer ${layer}, head ${head}`;
    const names = this.inputs.map((input) => input.text);
    return read("shape", "matrix") === "lines" ? linesChart(title, this.inputs, weights, row)
      : matrixChart(title, names, names, weights);
  }

  /** Returns the numbers of the layer and of the head that the address names, its weights, and the row of the chosen token. */
  #shown() {
    const [nLayers, nHeads] = this.weights.shape;
    const [layer, head] = [readWhole("layer", 1, nLayers), readWhole("head", 1, nHeads)];
    return { layer, head, weights: this.#head(layer - 1, head - 1), row: this.panel.chosen + 1 };
  }

  /**
   * @param {number} layer
   * @param {number} head
   */
  #head(layer, head) {
    const size = this.inputs.length ** 2;
    const first = (layer * this.weights.shape[1] + head) * size;
    return this.weights.values.subarray(first, first + size);
  }

  /** Returns radio buttons with a small picture of each head. */
  #pictures() {
    const [nLayers, nHeads] = this.weights.shape;
    const rows = Array.from({ length: nLayers }, (_, layer) => el("div", { class: "layer" },
      el("span", { class: "note" }, `Layer ${layer + 1}`), ...Array.from({ length: nHeads }, (_, head) => {
        const title = `Layer ${layer + 1}, head ${head + 1}`;
        return el("label", { title }, el("input", { type: "radio", name: `${this.panel.parameter}-head`,
          value: `${layer + 1}-${head + 1}`, onchange: () => write({ layer: layer + 1, head: head + 1 }) }),
        thumbnail(this.#head(layer, head), this.inputs.length), el("span", { class: "hidden" }, title));
      })));
    return el("fieldset", { class: "heads" }, el("legend", {}, "Heads"), ...rows);
  }
}
