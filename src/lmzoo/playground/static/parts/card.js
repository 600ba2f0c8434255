// The card of one model in the view Predict: what it sees, its next-token bars, and the token that it draws.

import { el, setChildren } from "../dom.js";
import { offerFirst } from "./focus.js";
import { contextLine, tokenNodes } from "./tokens.js";
import { CUTS, inUnit, percent } from "./units.js";

/** @typedef {import("./units.js").PredictedToken} PredictedToken */
/** @typedef {import("./units.js").Prediction} Prediction */
/** @typedef {import("./models.js").ListedModel} ListedModel */

/**
 * The text by which a token is compared between vocabularies, some of which have the space as a part of a word.
 * @param {PredictedToken} token
 */
function tokenKey(token) {
  return token.adds?.trim() || token.text;
}

/** One row of the table of a card, which is reused for other tokens, so that the focus stays in its place. */
class Row {
  /** @type {PredictedToken | null} */
  token = null;
  key = "";

  constructor() {
    this.button = el("button", { type: "button", class: "pick", tabindex: -1 });
    this.before = el("span", { class: "before" });
    this.after = el("span", { class: "after" });
    this.order = el("td", { class: "order" });
    this.value = el("td", { class: "number" });
    this.element = el("tr", {}, el("th", { scope: "row" }, this.button), this.order,
      el("td", {}, el("span", { class: "track" }, this.before, this.after)), this.value);
  }

  /**
   * @param {PredictedToken} token
   * @param {{axis: number, unit: string, drawn: boolean}} shown
   */
  show(token, { axis, unit, drawn }) {
    if (token.text !== this.token?.text) this.button.replaceChildren(...tokenNodes(token));
    if (token.order !== (this.token?.order ?? null)) {
      this.order.replaceChildren(...token.order === null ? [] : [String(token.order), el("span", { class: "hidden" }, "-gram")]);
    }
    this.token = token;
    this.key = tokenKey(token);
    this.before.style.width = `${Math.min(100, 100 * token.prob / axis)}%`;
    this.after.style.width = `${Math.min(100, 100 * token.final / axis)}%`;
    this.value.textContent = token.cut_by ? `cut: ${CUTS[token.cut_by]}` : inUnit(token, unit);
    this.element.className = `${token.cut_by ? "cut" : ""}${drawn ? " drawn" : ""}`;
  }
}

/** The card of a model. */
export class Card {
  /** @param {ListedModel} model */
  constructor(model) {
    this.model = model;
    this.words = model.tokenizer.startsWith("word");
    const id = `card-${model.name}`;
    this.context = el("div", { class: "place" });
    this.window = el("span");
    this.facts = el("p", { class: "facts" });
    this.end = el("span", { class: "end" });
    this.unit = el("th", { scope: "col", class: "number" });
    this.orderHead = el("td", { class: "order" });
    this.body = el("tbody");
    this.rest = el("p", { class: "rest" });
    this.belief = el("p", { class: "belief" });
    this.draw = el("p", { class: "draw" });
    this.problem = el("p", { class: "error" });
    /** @type {Row[]} */
    this.rows = [];
    const table = el("table", {}, el("caption", { class: "hidden" }, `Next tokens of ${model.title}`),
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Token"), this.orderHead,
        el("th", { scope: "col", class: "axis" }, el("span", { class: "hidden" }, "Bar from "), el("span", {}, "0"),
          el("span", { class: "hidden" }, " to "), this.end), this.unit)), this.body);
    this.content = el("div", { class: "content" }, this.context, el("div", { class: "window" }, this.window), this.facts,
      table, this.rest, this.belief, this.draw);
    const name = [model.name === model.species ? "" : model.name, model.tokenizer].filter((text) => text).join(" · ");
    this.element = el("article", { class: "card", "aria-labelledby": id },
      el("header", {}, el("p", { class: "year" }, model.year ?? ""), el("h2", { id, title: model.idea }, model.title),
        el("p", { class: "name" }, name)), this.problem, this.content);
  }

  /**
   * @param {Prediction} prediction
   * @param {{axis: number, unit: string}} shown
   */
  show(prediction, { axis, unit }) {
    this.prediction = prediction;
    this.problem.textContent = prediction.error ?? "";
    this.problem.hidden = !prediction.error;
    this.content.hidden = Boolean(prediction.error);
    if (prediction.error) return;
    this.#showContext(prediction);
    this.end.textContent = `${Math.round(100 * axis)} %`;
    this.unit.textContent = unit === "bits" ? "Bits" : unit === "rank" ? "Rank" : "Probability";
    const hasOrders = prediction.tokens.some((token) => token.order !== null);
    this.orderHead.replaceChildren(...hasOrders ? [el("abbr", { title: "length of the n-gram that determines the probability" }, "n")] : []);
    while (this.rows.length < prediction.tokens.length) this.rows.push(new Row());
    this.rows.length = prediction.tokens.length;
    prediction.tokens.forEach((token, index) =>
      this.rows[index].show(token, { axis, unit, drawn: token.id === prediction.drawn }));
    setChildren(this.body, this.rows.map((row) => row.element));
    offerFirst(this.rows.map((row) => row.button));
    this.#showRest(prediction);
  }

  /** @param {Prediction} prediction */
  #showContext({ context, n_context, n_seen, entropy, final_entropy }) {
    this.context.replaceChildren(contextLine(context, n_context, this.words));
    this.window.style.width = `${n_context ? 100 * n_seen / n_context : 0}%`;
    const sees = n_seen === 0 ? "sees nothing" : n_seen === n_context ? `sees all ${n_context} tokens`
      : `sees ${n_seen} of ${n_context} tokens`;
    const changed = Math.abs(final_entropy - entropy) > 0.005 ? ` → ${final_entropy.toFixed(2)}` : "";
    this.facts.replaceChildren(el("span", {}, sees), el("span", {}, `entropy ${entropy.toFixed(2)}${changed} bits`));
  }

  /** @param {Prediction} prediction */
  #showRest({ tokens, n_tokens, n_kept, rest, draw, drawn, states }) {
    const cut = n_kept < n_tokens ? `; ${n_kept.toLocaleString("en")} tokens can be drawn` : "";
    this.rest.textContent = `${(n_tokens - tokens.length).toLocaleString("en")} others: ${percent(rest)}${cut}`;
    this.belief.replaceChildren(...(states ?? []).flatMap(({ prob, tokens: emitted }, index) => [
      index ? "; " : "Hidden states, with their most likely tokens: ", el("b", {}, percent(prob)), ` “${emitted.join("”, “")}”`]));
    const token = /** @type {PredictedToken} */ (tokens.find(({ id }) => id === drawn));
    this.draw.replaceChildren(`Random number ${draw.toFixed(3)} draws `,
      el("span", { class: "token" }, ...tokenNodes(token)));
  }

  /**
   * Marks the rows of a string that occurs in several cards.
   * @param {string | null} key
   */
  link(key) {
    for (const row of this.rows) row.element.classList.toggle("same", key !== null && row.key === key);
  }
}
