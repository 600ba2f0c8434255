// What models without layers do at each token in the view "Attention and memory": n-grams and hidden states.

import { el } from "../dom.js";
import { bar } from "./bars.js";
import { START, tokenNodes } from "./tokens.js";
import { wholePercent } from "./units.js";

/**
 * @typedef {import("../views/inside.js").Panel} Panel
 * @typedef {{state: number, tokens: string[], probs: number[]}} State
 */

const SMALLEST = 0.005; // probability of a hidden state that is shown
const MOST = 6; // hidden states shown for the chosen token

/** The n-gram that determined the probability of each token. */
export class Ngrams {
  /**
   * @param {Panel} panel
   * @param {number[]} orders length of the n-gram of each token
   * @param {number | null} order length of the longest n-grams of the model
   */
  constructor(panel, orders, order) {
    this.panel = panel;
    this.orders = orders;
    this.order = order;
  }

  nodes() {
    const rows = this.panel.rows(this.panel.tokens, "Tokens, with the n-gram that determined the probability of each", (index) => [
      el("span", { class: "length" }, `${this.orders[index]}-gram`), " ",
      ...this.#gram(index).map((token) => el("span", { class: "token" }, ...tokenNodes(token)))]);
    return [rows, this.order ? el("p", { class: "note" },
      `The model knows n-grams of up to ${this.order} tokens. Each row shows the longest known n-gram that ends with the token.`) : null];
  }

  table() {
    return [["token", "length", "n-gram"], ...this.panel.tokens.map((token, index) =>
      [token.text, this.orders[index], this.#gram(index).map((one) => one.text).join(" ")])];
  }

  /** @param {number} index */
  #gram(index) {
    const from = index - this.orders[index] + 1;
    const { tokens } = this.panel;
    return from < 0 ? [START, ...tokens.slice(0, index + 1)] : tokens.slice(from, index + 1);
  }
}

/** The hidden state at each token, and the belief about the chosen one. */
export class States {
  /**
   * @param {Panel} panel
   * @param {State[]} states
   * @param {number[]} path number of the state at each token on the most likely path
   */
  constructor(panel, states, path) {
    this.panel = panel;
    this.states = states;
    this.path = path;
  }

  nodes() {
    const { chosen, tokens } = this.panel;
    const byNumber = new Map(this.states.map((one) => [one.state, one]));
    const rows = this.panel.rows(tokens, "Tokens, with the most likely state of each", (index) => {
      const state = byNumber.get(this.path[index]);
      return [el("span", { class: "length" }, `state ${this.path[index]}`), " ",
        el("span", { class: "note" }, state ? `${wholePercent(state.probs[index])}: ${state.tokens.join(" ")}` : "")];
    });
    const beliefs = this.states.filter((state) => state.probs[chosen] >= SMALLEST)
      .sort((one, other) => other.probs[chosen] - one.probs[chosen]).slice(0, MOST);
    return [rows,
      el("h4", {}, "Probabilities of the states at ", el("span", { class: "token" }, ...tokenNodes(tokens[chosen])), ", given the whole sentence"),
      el("ol", { class: "bars plain" }, ...beliefs.map(({ state, tokens: emitted, probs }) => el("li", {},
        el("span", {}, `state ${state}`), bar(probs[chosen]), el("span", { class: "number" }, wholePercent(probs[chosen])),
        el("span", { class: "note" }, emitted.join(" ")))))];
  }

  table() {
    return [["token", "state", ...this.states.map(({ state, tokens }) => `state ${state}: ${tokens.join(" ")}`)],
      ...this.panel.tokens.map((token, index) => [token.text, this.path[index], ...this.states.map(({ probs }) => probs[index])])];
  }
}

/** Only the tokens, for models without anything else to show. */
export class Plain {
  /** @param {Panel} panel */
  constructor(panel) {
    this.panel = panel;
  }

  nodes() {
    return [this.panel.rows(this.panel.tokens, "Tokens", () => [])];
  }

  table() {
    return [["token"], ...this.panel.tokens.map((token) => [token.text])];
  }
}
