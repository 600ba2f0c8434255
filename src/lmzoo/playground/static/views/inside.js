// The view "Attention and memory": attention, gates, n-grams or states of two models that read the same sentence.

import { newest, request } from "../api.js";
import { el } from "../dom.js";
import { chosenModel, modelChoice } from "../parts/choice.js";
import { requestSnippets } from "../parts/copy.js";
import { lines } from "../parts/lines.js";
import { matrix, thumbnail } from "../parts/matrix.js";
import { unpacked } from "../parts/packed.js";
import { tokenNodes } from "../parts/tokens.js";
import { StateElement, read, readNumber, write } from "../state.js";

/**
 * @typedef {import("../parts/packed.js").Numbers} Numbers
 * @typedef {{id: number, text: string, hex: boolean, start: number, end: number}} Token
 * @typedef {{name: string, values: Numbers, mean: number[]}} Trace
 * @typedef {{state: number, tokens: string[], probs: number[]}} State
 * @typedef {{state: State, prob: number}} Belief
 */

const DEFAULT_SENTENCE = "she went to the store and bought";
const START = { id: 0, text: "start", hex: false, start: -1, end: 0 };
/** Models shown first, for the two columns: parameter of the address, and families in order of preference. */
const COLUMNS = [
  ["left", ["transformer", "gpt2", "transformer-2017", "chat", "nplm", "ngram"]],
  ["right", ["lstm", "gru", "rnn", "hmm", "class-hmm", "ngram", "trigram", "markov"]],
];

class Inside extends StateElement {
  build() {
    const type = () => write({ prompt: this.field.value, own: null, at: null });
    this.field = el("textarea", { rows: 1, maxlength: 20000, spellcheck: "false", autocapitalize: "off", oninput: type });
    this.append(el("h2", { class: "hidden" }, "Attention and memory"),
      el("label", { class: "prompt" }, el("span", {}, "Sentence"), this.field),
      el("div", { class: "columns" }, ...COLUMNS.map(([parameter, families], index) => {
        const panel = /** @type {Panel} */ (document.createElement("lmzoo-inside-panel"));
        Object.assign(panel, { parameter, families, label: index ? "Beside it" : "Model" });
        return panel;
      })));
  }

  update() {
    const text = sentence();
    if (this.field.value !== text) this.field.value = text;
  }
}

function sentence() {
  return read("prompt", DEFAULT_SENTENCE);
}

class Panel extends StateElement {
  label = "";
  parameter = "";
  model = "";
  nTokens = 0;
  /** @type {any} the parts of the server's answer that the model has */
  attention = null;
  /** @type {any} */
  layers = null;
  /** @type {any} */
  orders = null;
  /** @type {number | null} */
  order = null;
  /** @type {any} */
  states = null;
  /** @type {any} */
  path = null;
  hasGradients = false;
  /** @type {{position: number, norms: number[]}} norms of the gradient for the token at a position */
  gradients = { position: -1, norms: [] };
  /** @type {HTMLElement | null} */
  thumbnails = null;
  /** @type {string[]} */
  families = [];
  shown = "";
  /** @type {Token[]} */
  tokens = [];
  refresh = newest((signal) => this.#read(signal), 80);
  refreshGradients = newest((signal) => this.#readGradients(signal), 30);
  /** @type {{at: number, index: number} | null} the token that was chosen last in this panel */
  last = null;

  build() {
    this.body = el("div", { class: "body" });
    this.problem = el("p", { class: "error", hidden: true });
    this.idea = el("p", { class: "note" });
    const copy = el("lmzoo-copy");
    copy.snippets = () => requestSnippets("/playground/inside", { model: this.model, text: sentence() });
    this.append(el("div", { class: "row" }, modelChoice(this.label, this.parameter, this.families), copy), this.idea, this.problem, this.body);
  }

  update() {
    const state = JSON.stringify([sentence(), read(this.parameter, "")]);
    if (state !== this.shown) {
      this.shown = state;
      this.refresh();
    } else if (this.tokens.length) this.#draw();
  }

  /** @param {AbortSignal} signal */
  async #read(signal) {
    try {
      const model = await chosenModel(this.parameter, this.families);
      if (!model || signal.aborted) return;
      if (!sentence().trim()) throw new Error("Write a sentence first.");
      const found = await request("/playground/inside", { model: model.name, text: sentence() }, signal);
      this.model = model.name;
      this.idea.textContent = `${model.people}, ${model.year}. ${model.idea}`;
      this.problem.hidden = true;
      this.tokens = found.tokens;
      this.last = null;
      this.nTokens = found.n_tokens;
      this.attention = found.attention && unpacked(found.attention);
      this.layers = found.layers?.map((/** @type {any} */ layer) =>
        ({ ...layer, traces: layer.traces.map((/** @type {any} */ trace) => ({ ...trace, values: unpacked(trace.values) })) }));
      Object.assign(this, { orders: found.orders, order: found.order, states: found.states, path: found.path, hasGradients: found.has_gradients });
      this.gradients = { position: -1, norms: [] };
      this.thumbnails = null;
      this.#draw();
    } catch (error) {
      if (signal.aborted) return;
      this.problem.textContent = /** @type {Error} */ (error).message;
      this.problem.hidden = false;
      this.tokens = [];
      this.body.replaceChildren();
    }
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
    const norms = await request("/playground/inside/gradients", { model: this.model, text: sentence(), position }, signal);
    if (signal.aborted) return;
    this.gradients = { position, norms };
    this.#draw();
  }

  #draw() {
    if (this.hasGradients && this.gradients.position !== this.chosen) this.refreshGradients();
    const focused = this.body.querySelector("[role=listbox]") === document.activeElement;
    const parts = [];
    if (this.nTokens > this.tokens.length) {
      parts.push(el("p", { class: "note" }, `The text has ${this.nTokens.toLocaleString("en")} tokens; the first ${this.tokens.length} are shown.`));
    }
    if (this.attention) parts.push(...this.#attentionParts());
    else if (this.layers) parts.push(...this.#memoryParts());
    else if (this.orders) parts.push(this.#ngramRows(), this.order ? el("p", { class: "note" }, `The model knows n-grams of up to ${this.order} tokens. Shown is the longest that fits.`) : "");
    else if (this.states) parts.push(...this.#stateParts());
    else parts.push(this.#plainRows());
    if (this.hasGradients) {
      const token = this.tokens[this.chosen];
      parts.push(el("p", { class: "note" }, "Bars on the right: how much a change of each earlier token would change the surprisal of ",
        el("span", { class: "token" }, ...tokenNodes(token)), " (norm of the gradient, relative to the largest)."));
    }
    const heads = this.body.querySelector(".heads");
    if (heads && this.thumbnails === heads) { // The radio buttons of the heads keep the focus.
      for (const child of [...this.body.children]) if (child !== heads) child.remove();
      this.body.append(...parts.filter((part) => part !== heads));
    } else this.body.replaceChildren(...parts);
    if (focused) this.body.querySelector("[role=listbox]")?.focus({ preventScroll: true });
  }

  /**
   * Returns the list of tokens, one in each row, with something beside each.
   * @param {Token[]} tokens
   * @param {string} name
   * @param {(index: number) => (Node | string)[]} beside nodes beside the token with an index
   * @param {number} offset number of rows before the first token of the text
   */
  #rows(tokens, name, beside, offset = 0) {
    const chosen = this.chosen + offset;
    const id = (/** @type {number} */ index) => `${this.parameter}-${index}`;
    const norms = this.gradients.position === this.chosen ? this.gradients.norms : [];
    const largest = Math.max(...norms, Number.MIN_VALUE);
    const options = tokens.map((token, index) => {
      const share = (norms[index - offset] ?? 0) / largest;
      const bar = el("span", { class: "fill", "aria-hidden": "true" });
      bar.style.width = `${100 * share}%`;
      const gradient = this.hasGradients ? el("span", { class: "gradient" }, el("span", { class: "track" }, bar),
        el("span", { class: "hidden" }, index - offset < norms.length && index >= offset ? `, gradient ${(100 * share).toFixed(0)} %` : "")) : null;
      return el("div", { role: "option", id: id(index), "aria-selected": String(index === chosen), "data-index": index },
        el("span", { class: "token" }, ...tokenNodes(token)), el("span", { class: "inner" }, ...beside(index)), gradient);
    });
    const pick = (/** @type {Event} */ event) => {
      const option = /** @type {HTMLElement} */ (event.target).closest("[role=option]");
      if (option) this.choose(Number(option.getAttribute("data-index")) - offset);
    };
    return el("div", {
      role: "listbox", tabindex: 0, class: "rows", "aria-label": name, "aria-activedescendant": id(chosen), onclick: pick,
      onkeydown: (/** @type {KeyboardEvent} */ event) => this.#key(event),
    }, ...options);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const steps = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1, Home: -Infinity, End: Infinity };
    if (!(event.key in steps)) return;
    event.preventDefault();
    this.choose(this.chosen + steps[/** @type {keyof typeof steps} */ (event.key)]);
    this.body.querySelector("[role=listbox] [aria-selected=true]")?.scrollIntoView({ block: "nearest" });
  }

  #plainRows() {
    return this.#rows(this.tokens, "Tokens", () => []);
  }

  #attentionParts() {
    const [nLayers, nHeads, size] = this.attention.shape;
    const inputs = [START, ...this.tokens];
    const [layer, head] = [clamp(readNumber("layer", 1), 1, nLayers), clamp(readNumber("head", 1), 1, nHeads)];
    const weights = this.#weights(layer - 1, head - 1, size);
    if (!this.thumbnails) this.thumbnails = this.#heads(nLayers, nHeads, size);
    for (const input of /** @type {HTMLElement} */ (this.thumbnails).querySelectorAll("input")) input.checked = input.value === `${layer}-${head}`;
    const row = this.chosen + 1;
    const seen = [...weights.subarray(row * size, row * size + row + 1).entries()].sort((one, other) => other[1] - one[1]).slice(0, 3);
    const summary = el("p", {}, "In layer ", String(layer), ", head ", String(head), ", ", el("span", { class: "token" }, ...tokenNodes(inputs[row])),
      " takes ", ...seen.flatMap(([index, weight], place) => [place ? ", " : "", `${(100 * weight).toFixed(0)} % from `,
        el("span", { class: "token" }, ...tokenNodes(inputs[index]))]), ".");
    const asLines = read("shape", "matrix") === "lines";
    const toggle = el("button", { type: "button", "aria-pressed": String(asLines), onclick: () => {
      write({ shape: asLines ? null : "lines" });
      /** @type {HTMLElement | null} */ (this.body.querySelector(".toggle"))?.focus();
    }, class: "toggle" }, "Lines");
    const picture = asLines
      ? lines(inputs, weights, size, row, (index) => this.choose(index - 1))
      : matrix(weights, { rows: size, columns: size, row, causal: true, names: inputs, onpick: (index) => this.choose(index - 1) });
    return [this.thumbnails, el("div", { class: "row" }, toggle), summary, el("figure", { class: "scroll", tabindex: 0, role: "region",
      "aria-label": `Attention of layer ${layer}, head ${head}` }, picture, el("figcaption", { class: "note" },
      asLines ? "Left: the tokens read. Right: where each takes from. Bold: the chosen token." : "Each row is a token; dark cells are where it takes from. The crossed part is masked: no token sees what comes after it.")),
    this.#rows(inputs, "Tokens, with the weight of attention from the chosen one", (index) => {
      const share = index <= row ? weights[row * size + index] : 0;
      const bar = el("span", { class: "fill attention", "aria-hidden": "true" });
      bar.style.width = `${100 * share}%`;
      return [el("span", { class: "track" }, bar), el("span", { class: "number" }, index <= row ? `${(100 * share).toFixed(0)} %` : "masked")];
    }, 1)];
  }

  /**
   * @param {number} layer
   * @param {number} head
   * @param {number} size
   */
  #weights(layer, head, size) {
    const first = (layer * this.attention.shape[1] + head) * size * size;
    return this.attention.values.subarray(first, first + size * size);
  }

  /**
   * Returns radio buttons with a small picture of each head.
   * @param {number} nLayers
   * @param {number} nHeads
   * @param {number} size
   */
  #heads(nLayers, nHeads, size) {
    const rows = Array.from({ length: nLayers }, (_, layer) => el("div", { class: "layer" }, el("span", { class: "note" }, `Layer ${layer + 1}`),
      ...Array.from({ length: nHeads }, (_, head) => el("label", { title: `Layer ${layer + 1}, head ${head + 1}` },
        el("input", { type: "radio", name: `${this.parameter}-head`, value: `${layer + 1}-${head + 1}`,
          onchange: () => write({ layer: layer + 1, head: head + 1 }) }),
        thumbnail(this.#weights(layer, head, size), size), el("span", { class: "hidden" }, `Layer ${layer + 1}, head ${head + 1}`)))));
    return el("fieldset", { class: "heads" }, el("legend", {}, "Heads"), ...rows);
  }

  #memoryParts() {
    const index = clamp(readNumber("memory", 1), 1, this.layers.length) - 1;
    const layer = this.layers[index];
    const name = read("gate", layer.traces[0].name);
    const trace = layer.traces.find((/** @type {Trace} */ one) => one.name === name) ?? layer.traces[0];
    const select = (/** @type {string} */ label, /** @type {string} */ parameter, /** @type {[string, string][]} */ options, /** @type {string} */ value) => {
      const list = el("select", { name: parameter, onchange: () => {
        write({ [parameter]: list.value });
        /** @type {HTMLElement | null} */ (this.body.querySelector(`select[name=${parameter}]`))?.focus();
      } }, ...options.map(([one, title]) => el("option", { value: one }, title)));
      list.value = value;
      return el("label", { class: "field" }, el("span", {}, label), list);
    };
    const [size, nUnits] = trace.values.shape;
    const inputs = [START, ...this.tokens];
    const shown = nUnits < layer.n_units ? `the ${nUnits} of ${layer.n_units} units whose output varies most` : `all ${nUnits} units`;
    const signed = !trace.name.includes("gate");
    return [el("div", { class: "row" },
      this.layers.length > 1 ? select("Layer", "memory", this.layers.map((/** @type {any} */ _, /** @type {number} */ one) => [String(one + 1), `Layer ${one + 1}`]), String(index + 1)) : null,
      select("Show", "gate", layer.traces.map((/** @type {Trace} */ one) => [one.name, one.name]), trace.name)),
    el("figure", { class: "scroll", tabindex: 0, role: "region", "aria-label": `${trace.name} at each token` },
      matrix(trace.values.values, { rows: size, columns: nUnits, row: this.chosen + 1, signed, names: inputs, onpick: (one) => this.choose(one - 1) }),
      el("figcaption", { class: "note" }, `Each row is a token, each column a unit: ${shown}. ` +
        (signed ? "Orange is negative, blue positive." : "Dark is 1 (open), light 0 (shut)."))),
    this.#rows(inputs, `Tokens, with the mean of ${trace.name}`, (one) => {
      const bar = el("span", { class: "fill attention", "aria-hidden": "true" });
      bar.style.width = `${100 * Math.min(Math.abs(trace.mean[one]), 1)}%`;
      return [el("span", { class: "track" }, bar), el("span", { class: "number" }, trace.mean[one].toFixed(2))];
    }, 1), el("p", { class: "note" }, `Numbers: the mean of ${trace.name} over all units of the layer.`)];
  }

  #ngramRows() {
    return this.#rows(this.tokens, "Tokens, with the n-gram that determined the probability of each", (index) => {
      const order = this.orders[index];
      const from = index - order + 1;
      const gram = from < 0 ? [START, ...this.tokens.slice(0, index + 1)] : this.tokens.slice(from, index + 1);
      return [el("span", { class: "length", "data-order": Math.min(order, 6) }, `${order}-gram`), " ",
        ...gram.map((token) => el("span", { class: "token" }, ...tokenNodes(token)))];
    });
  }

  #stateParts() {
    const chosen = this.chosen;
    const byNumber = new Map(this.states.map((/** @type {State} */ one) => [one.state, one]));
    const rows = this.#rows(this.tokens, "Tokens, with the most likely state of each", (index) => {
      const state = byNumber.get(this.path[index]);
      return [el("span", { class: "length" }, `state ${this.path[index]}`), " ",
        el("span", { class: "note" }, state ? `${(100 * state.probs[index]).toFixed(0)} %: ${state.tokens.join(" ")}` : "")];
    });
    const beliefs = this.states.map((/** @type {State} */ state) => ({ state, prob: state.probs[chosen] })).filter((/** @type {Belief} */ one) => one.prob >= 0.005)
      .sort((/** @type {Belief} */ one, /** @type {Belief} */ other) => other.prob - one.prob).slice(0, 6);
    return [rows, el("h4", {}, "Belief at ", el("span", { class: "token" }, ...tokenNodes(this.tokens[chosen])), ", given the whole sentence"),
      el("ol", { class: "bars plain" }, ...beliefs.map((/** @type {Belief} */ { state, prob }) => {
        const bar = el("span", { class: "fill", "aria-hidden": "true" });
        bar.style.width = `${100 * prob}%`;
        return el("li", {}, el("span", {}, `state ${state.state}`), el("span", { class: "track" }, bar), el("span", { class: "number" }, `${(100 * prob).toFixed(0)} %`),
          el("span", { class: "note" }, state.tokens.join(" ")));
      }))];
  }
}

/**
 * @param {number} value
 * @param {number} low
 * @param {number} high
 */
function clamp(value, low, high) {
  return Math.min(Math.max(Math.round(value), low), high);
}

customElements.define("lmzoo-inside-panel", Panel);
customElements.define("lmzoo-inside", Inside);
