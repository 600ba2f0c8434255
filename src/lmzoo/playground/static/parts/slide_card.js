// The card of one model in the view Slide: the text so far with the window, and the way of a token to its draw.

import { el, setChildren } from "../dom.js";
import { offerFirst } from "./focus.js";
import { contextLine, tokenNodes } from "./tokens.js";
import { CUTS, percent, signed } from "./units.js";

/** @typedef {import("./units.js").PredictedToken} PredictedToken */
/** @typedef {import("./units.js").Prediction} Prediction */
/** @typedef {import("./models.js").ListedModel} ListedModel */

/** A number with a bar below it. */
class Gauge {
  constructor() {
    this.number = el("span");
    this.fill = el("span", { class: "fill" });
    this.element = el("td", { class: "number gauge" }, this.number, el("span", { class: "line" }, this.fill));
  }

  /**
   * @param {string} text
   * @param {number} share length of the bar, from 0 to 1
   */
  show(text, share) {
    this.number.textContent = text;
    this.fill.style.width = `${100 * share}%`;
  }
}

/** One row of the table of a card: a token at each stage. */
class Row {
  constructor() {
    this.button = el("button", { type: "button", class: "pick", tabindex: -1 });
    this.logit = el("td", { class: "number" });
    this.scaled = el("td", { class: "number" });
    this.tempered = new Gauge();
    this.final = new Gauge();
    this.element = el("tr", {}, el("th", { scope: "row" }, this.button), this.logit, this.scaled,
      this.tempered.element, this.final.element);
  }

  /**
   * @param {PredictedToken} token
   * @param {number} largest probability at the end of the bars
   * @param {boolean} drawn
   */
  show(token, largest, drawn) {
    this.token = token;
    this.button.replaceChildren(...tokenNodes(token));
    this.logit.textContent = signed(token.log_prob);
    this.scaled.textContent = token.scaled === null && token.log_prob !== null ? "–" : signed(token.scaled);
    this.tempered.show(percent(token.tempered), token.tempered / largest);
    this.final.show(token.cut_by ? `cut: ${CUTS[token.cut_by]}` : percent(token.final), token.final / largest);
    this.element.className = `${token.cut_by ? "cut" : ""}${drawn ? " drawn" : ""}`;
  }
}

/** The card of a model. */
export class SlideCard {
  /** @param {ListedModel} model */
  constructor(model) {
    this.model = model;
    const id = `slide-${model.name}`;
    /** @type {Row[]} */
    this.rows = [];
    this.text = el("div", { class: "flow", tabindex: 0, role: "group", "aria-label": `Text of ${model.title}` });
    this.facts = el("p", { class: "facts" });
    this.body = el("tbody");
    this.strip = el("div", { class: "strip", "aria-hidden": "true" });
    this.draw = el("p", { class: "draw" });
    this.problem = el("p", { class: "error" });
    const head = [["Logit", "logarithm of the probability that the model predicts"],
      ["÷ T", "logit divided by the temperature"], ["Softmax", "probability after temperature"],
      ["After cuts", "probability after top-k, top-p and min-p"]];
    this.content = el("div", { class: "content" }, this.text, this.facts,
      el("table", {}, el("caption", { class: "hidden" }, `Next tokens of ${model.title}`),
        el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Token"),
          ...head.map(([title, about]) => el("th", { scope: "col", class: "number", title: about }, title)))), this.body),
      this.strip, this.draw);
    const name = [model.name === model.species ? "" : model.name, model.tokenizer].filter((text) => text).join(" · ");
    this.element = el("article", { class: "card slide", "aria-labelledby": id },
      el("header", {}, el("p", { class: "year" }, model.year ?? ""), el("h2", { id, title: model.idea }, model.title),
        el("p", { class: "name" }, name)), this.problem, this.content);
  }

  /**
   * @param {Prediction} prediction
   * @param {boolean} ended true if the text of this model has ended, so that no token follows
   */
  show(prediction, ended) {
    this.prediction = prediction;
    this.ended = ended;
    this.problem.textContent = prediction.error ?? "";
    this.problem.hidden = !prediction.error;
    this.content.hidden = Boolean(prediction.error);
    if (prediction.error) return;
    const { tokens, drawn, draw, n_seen, n_context, n_kept, n_tokens } = prediction;
    const chosen = /** @type {PredictedToken} */ (tokens.find(({ id }) => id === drawn));
    const next = el("span", { class: "token next" }, ...ended ? ["end"] : tokenNodes(chosen));
    const line = contextLine(prediction.context, n_context, this.model.tokenizer.startsWith("word"));
    line.append(next);
    this.text.replaceChildren(line);
    this.text.scrollTop = this.text.scrollHeight;
    this.facts.replaceChildren(el("span", {}, `sees ${n_seen} of ${n_context} tokens`),
      el("span", {}, `${n_kept.toLocaleString("en")} of ${n_tokens.toLocaleString("en")} tokens can be drawn`));
    const largest = Math.max(...tokens.map(({ tempered, final }) => Math.max(tempered, final)));
    while (this.rows.length < tokens.length) this.rows.push(new Row());
    this.rows.length = tokens.length;
    tokens.forEach((token, index) => this.rows[index].show(token, largest, token === chosen && !ended));
    setChildren(this.body, this.rows.map((row) => row.element));
    offerFirst(this.rows.map((row) => row.button));
    this.#showDraw(tokens, chosen, draw);
  }

  /**
   * @param {PredictedToken[]} tokens
   * @param {PredictedToken} chosen
   * @param {number} draw
   */
  #showDraw(tokens, chosen, draw) {
    const parts = tokens.filter(({ final }) => final > 0).map((token) => {
      const [start, end] = token.interval;
      const part = el("span", { class: `part${token === chosen ? " hit" : ""}` },
        ...end - start > 0.025 * token.text.length ? tokenNodes(token) : []);
      part.style.left = `${100 * start}%`;
      part.style.width = `${100 * (end - start)}%`;
      return part;
    });
    const needle = el("span", { class: "needle" });
    needle.style.left = `${100 * draw}%`;
    this.strip.replaceChildren(...parts, needle);
    const [start, end] = chosen.interval;
    this.draw.replaceChildren(...this.ended ? ["The text has ended."] : [
      `The random number ${draw.toFixed(4)} is between ${start.toFixed(4)} and ${end.toFixed(4)}: `,
      el("span", { class: "token" }, ...tokenNodes(chosen))]);
  }
}
