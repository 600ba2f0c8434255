// The view "Attention and memory": attention, gates, n-grams or states of two models that read the same sentence.

import { newest, request } from "../api.js";
import { announce, el, setChildren } from "../dom.js";
import { bar } from "../parts/bars.js";
import { modelChoice } from "../parts/choice.js";
import { textField } from "../parts/controls.js";
import { requestSnippets } from "../parts/copy.js";
import { saveButtons } from "../parts/export.js";
import { Attention } from "../parts/inside_attention.js";
import { Memory } from "../parts/inside_memory.js";
import { Ngrams, Plain, States } from "../parts/inside_steps.js";
import { chosenModel } from "../parts/models.js";
import { unpacked } from "../parts/packed.js";
import { tokenNodes } from "../parts/tokens.js";
import { wholePercent } from "../parts/units.js";
import { StateElement, read, readNumber, write } from "../state.js";

/**
 * @typedef {{id: number, text: string, hex: boolean, start: number, end: number}} Token
 * @typedef {{nodes: () => (HTMLElement | null)[], table: () => import("../parts/export.js").Table,
 *   chart?: () => SVGElement}} Look what a panel shows of a model: elements, a table, and for some a chart
 */

const DEFAULT_SENTENCE = "she went to the store and bought";
const PATIENCE = 400; // milliseconds for which the last picture stays while a model reads
const GAP = 12; // pixels between a picture and the middle of a wide panel
/** Models shown first, for the two columns: parameter of the address, and families in order of preference. */
const COLUMNS = [
  ["left", ["transformer", "gpt2", "transformer-2017", "chat", "nplm", "ngram"]],
  ["right", ["lstm", "gru", "rnn", "hmm", "class-hmm", "ngram", "trigram", "markov"]],
];

class Inside extends StateElement {
  build() {
    this.append(el("h2", { class: "hidden" }, "Attention and memory"),
      textField("Sentence", "prompt", DEFAULT_SENTENCE, { resets: ["own", "at"] }),
      el("div", { class: "columns" }, ...COLUMNS.map(([parameter, families], index) => {
        const panel = /** @type {Panel} */ (document.createElement("lmzoo-inside-panel"));
        return Object.assign(panel, { parameter, families, label: index ? "Beside it" : "Model" });
      })));
  }
}

function sentence() {
  return read("prompt", DEFAULT_SENTENCE);
}

/** One model: its choice, and what goes on in it at each token. */
export class Panel extends StateElement {
  label = "";
  parameter = "";
  /** @type {string[]} */
  families = [];
  /** @type {any} the chosen model */
  model = null;
  /** @type {Token[]} */
  tokens = [];
  nTokens = 0;
  /** @type {Look} */
  look = new Plain(this);
  hasGradients = false;
  /** @type {{position: number, norms: number[]}} norms of the gradient for the token at a position */
  gradients = { position: -1, norms: [] };
  shown = "";
  /** @type {{at: number, index: number} | null} the token that was chosen last in this panel */
  last = null;
  refresh = newest((signal) => this.#read(signal), 80);
  refreshGradients = newest((signal) => this.#readGradients(signal), 30);

  build() {
    this.body = el("div", { class: "body" });
    this.problem = el("p", { class: "error", hidden: true });
    this.idea = el("p", { class: "note" });
    this.files = el("div");
    const copy = el("lmzoo-copy");
    copy.snippets = () => requestSnippets("/playground/inside", { model: this.model?.name, text: sentence() });
    this.append(modelChoice(this.label, this.parameter, this.families), this.idea, this.problem, this.body,
      el("div", { class: "row" }, copy, this.files));
  }

  async update() {
    const model = await chosenModel(this.parameter, this.families);
    if (!model) return;
    const state = JSON.stringify([sentence(), model.name]);
    if (state !== this.shown) {
      this.model = model;
      this.shown = state;
      await this.refresh();
    } else if (this.tokens.length) this.#draw();
  }

  /** @param {AbortSignal} signal */
  async #read(signal) {
    const { model } = this;
    const waiting = setTimeout(() => this.body.replaceChildren(el("p", { class: "note" }, "The model reads the sentence …")), PATIENCE);
    try {
      if (!sentence().trim()) throw new Error("Write a sentence first.");
      const found = await request("/playground/inside", { model: model.name, text: sentence() }, signal);
      this.problem.hidden = true;
      this.idea.textContent = model.year === null ? "" : `${model.people}, ${model.year}. ${model.idea}`;
      this.tokens = found.tokens;
      this.nTokens = found.n_tokens;
      this.last = null;
      this.hasGradients = found.has_gradients;
      this.gradients = { position: -1, norms: [] };
      this.look = this.#lookOf(found);
      this.files.replaceChildren(saveButtons(model.name,
        { table: () => this.look.table(), chart: this.look.chart && (() => /** @type {any} */ (this.look).chart()) }));
      this.#draw();
    } catch (error) {
      if (signal.aborted) return;
      this.problem.textContent = /** @type {Error} */ (error).message;
      this.problem.hidden = false;
      this.tokens = [];
      this.shown = "";
      this.body.replaceChildren();
      this.files.replaceChildren();
    } finally {
      clearTimeout(waiting);
    }
  }

  /**
   * @param {any} found the server's answer
   * @returns {Look}
   */
  #lookOf({ attention, layers, orders, order, states, path }) {
    if (attention) return new Attention(this, unpacked(attention));
    if (layers) return new Memory(this, layers);
    if (orders) return new Ngrams(this, orders, order);
    return states ? new States(this, states, path) : new Plain(this);
  }

  /** Width in pixels of the place for a picture, which has a list beside it in wide panels. */
  get room() {
    const beside = getComputedStyle(this.body).display === "grid";
    return beside ? this.body.clientWidth / 2 - GAP : this.body.clientWidth;
  }

  /** Index of the chosen token: the one at the chosen character of the sentence, or the last one. */
  get chosen() {
    const at = readNumber("at", Infinity);
    if (this.last?.at === at && this.last.index < this.tokens.length) return this.last.index;
    const index = this.tokens.findIndex((token) => token.end > at);
    return index < 0 ? this.tokens.length - 1 : index;
  }

  /** @param {number} index */
  choose(index) {
    const next = Math.min(Math.max(index, 0), this.tokens.length - 1);
    this.last = { at: this.tokens[next].start, index: next }; // Several tokens can share a character.
    write({ at: this.tokens[next].start });
  }

  /** @param {AbortSignal} signal */
  async #readGradients(signal) {
    const position = this.chosen;
    const norms = await request("/playground/inside/gradients", { model: this.model.name, text: sentence(), position }, signal);
    if (signal.aborted) return;
    this.gradients = { position, norms };
    this.#draw();
  }

  #draw() {
    if (this.hasGradients && this.gradients.position !== this.chosen) {
      this.refreshGradients().catch((error) => announce(error.message));
    }
    const inRows = this.body.querySelector("[role=listbox]") === document.activeElement;
    const nodes = this.look.nodes();
    if (this.nTokens > this.tokens.length) {
      nodes.unshift(el("p", { class: "note" }, `The text has ${this.nTokens.toLocaleString("en")} tokens; the first ${this.tokens.length} are shown.`));
    }
    if (this.hasGradients) {
      nodes.push(el("p", { class: "note" }, "Bars on the right: how much a change of each earlier token would change the surprisal of ",
        el("span", { class: "token" }, ...tokenNodes(this.tokens[this.chosen])), " (norm of the gradient, relative to the largest)."));
    }
    setChildren(this.body, nodes.flatMap((node) => node ?? []));
    if (inRows) this.body.querySelector("[role=listbox]")?.focus({ preventScroll: true });
  }

  /**
   * Returns the list of tokens, one in each row, with something beside each.
   * @param {Token[]} tokens
   * @param {string} name
   * @param {(index: number) => (Node | string)[]} beside nodes beside the token with an index
   * @param {number} offset number of rows before the first token of the text
   * @returns {HTMLElement}
   */
  rows(tokens, name, beside, offset = 0) {
    const chosen = this.chosen + offset;
    const id = (/** @type {number} */ index) => `${this.parameter}-${index}`;
    const options = tokens.map((token, index) => el("div",
      { role: "option", id: id(index), "aria-selected": String(index === chosen), "data-index": index },
      el("span", { class: "token" }, ...tokenNodes(token)), el("span", { class: "inner" }, ...beside(index)),
      this.hasGradients ? this.#gradient(index - offset) : null));
    const pick = (/** @type {Event} */ event) => {
      const option = /** @type {HTMLElement} */ (event.target).closest("[role=option]");
      if (option) this.choose(Number(option.getAttribute("data-index")) - offset);
    };
    return el("div", {
      role: "listbox", tabindex: 0, class: "rows", "aria-label": name, "aria-activedescendant": id(chosen), onclick: pick,
      onkeydown: (/** @type {KeyboardEvent} */ event) => this.#key(event),
    }, ...options);
  }

  /**
   * Returns the bar of the gradient with respect to a token, relative to the largest.
   * @param {number} index
   */
  #gradient(index) {
    const norms = this.gradients.position === this.chosen ? this.gradients.norms : [];
    const share = (norms[index] ?? 0) / Math.max(...norms, Number.MIN_VALUE);
    return el("span", { class: "gradient" }, bar(share),
      el("span", { class: "hidden" }, index in norms ? `, gradient ${wholePercent(share)}` : ""));
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const steps = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1, Home: -Infinity, End: Infinity };
    if (!(event.key in steps)) return;
    event.preventDefault();
    this.choose(this.chosen + steps[/** @type {keyof typeof steps} */ (event.key)]);
    this.body.querySelector("[role=listbox] [aria-selected=true]")?.scrollIntoView({ block: "nearest" });
  }
}

customElements.define("lmzoo-inside-panel", Panel);
customElements.define("lmzoo-inside", Inside);
