// The view Predict: one prompt, and the next-token predictions of all models, in the order of their eras.

import { newest, request } from "../api.js";
import { announce, el, nextFrame, setChildren } from "../dom.js";
import { extend, readOwn } from "../parts/branches.js";
import { Card } from "../parts/card.js";
import { barChart } from "../parts/charts.js";
import "../parts/choice.js";
import { choice, promptField, readPrompt, settings } from "../parts/controls.js";
import { requestSnippets } from "../parts/copy.js";
import { readDecoding, readSeed } from "../parts/decoding.js";
import { saveButtons } from "../parts/export.js";
import { moveInColumns } from "../parts/focus.js";
import { chosenModels } from "../parts/models.js";
import { axisEnd, inUnit } from "../parts/units.js";
import { StateElement, read } from "../state.js";

/** @typedef {import("../parts/units.js").PredictedToken} PredictedToken */
/** @typedef {import("../parts/units.js").Prediction} Prediction */

const PATH = "/playground/predict";
const CHUNK = 6; // cards that are changed in one frame, so that the page stays responsive

class Predict extends StateElement {
  /** @type {Map<string, Card>} */
  cards = new Map();
  /** @type {Prediction[]} */
  predictions = [];
  asked = "";
  showing = {}; // another object for each call of #show
  /** @type {any} */
  body = {};
  ask = newest((signal) => request(PATH, this.body, signal), 30);

  build() {
    const copy = el("lmzoo-copy");
    copy.snippets = () => requestSnippets(PATH, this.body);
    this.grid = el("div", { class: "cards", onclick: (/** @type {Event} */ event) => this.#pick(event),
      onkeydown: (/** @type {KeyboardEvent} */ event) => this.#move(event),
      onpointerover: (/** @type {Event} */ event) => this.#link(event),
      onpointerleave: () => this.#linkKey(null),
      onfocusin: (/** @type {Event} */ event) => this.#link(event) });
    this.append(
      el("section", { class: "tools", "aria-label": "Prompt and settings" },
        promptField(),
        el("div", { class: "bar" }, el("lmzoo-models"), el("lmzoo-branches"), settings(
          choice("A click adds a token", "to", [["all", "to the prompt"], ["one", "to one model"]]),
          choice("Order", "sort", [["era", "by era"], ["certainty", "by certainty"]]),
          choice("Numbers", "unit", [["probability", "probability"], ["bits", "bits"], ["rank", "rank"]]),
          el("lmzoo-decoding")))),
      this.grid,
      el("p", { class: "note" }, "Arrow keys go from token to token and from model to model; Enter adds the token."),
      el("p", { class: "row" }, copy,
        saveButtons("predictions", { table: () => this.#table(), chart: () => this.#chart() })));
  }

  async update() {
    const models = await chosenModels();
    if (!models.length) return;
    for (const model of models) if (!this.cards.has(model.name)) this.cards.set(model.name, new Card(model));
    this.body = {
      prompt: readPrompt(), models: models.map((model) => model.name), own: readOwn(), decoding: readDecoding(),
      seed: readSeed(), k: 10, n_context: 24,
    };
    const asked = JSON.stringify(this.body);
    if (asked === this.asked) return this.#show();
    this.asked = asked;
    try {
      const answer = await this.ask();
      if (!answer) return;
      this.predictions = answer;
      this.#show();
    } catch (error) {
      this.asked = "";
      throw error;
    }
  }

  /** Returns the predictions in the chosen order. */
  #sorted() {
    const certain = read("sort", "era") === "certainty";
    const key = (/** @type {Prediction} */ one) => one.error ? Infinity : one.entropy;
    return certain ? this.predictions.toSorted((one, other) => key(one) - key(other)) : this.predictions;
  }

  /** Shows the predictions: first those in sight, and in the next frames the others. */
  async #show() {
    const predictions = this.#sorted();
    const largest = Math.max(...predictions.flatMap(({ tokens }) => tokens.map(({ prob, final }) => Math.max(prob, final))));
    const shown = { axis: axisEnd(largest), unit: read("unit", "probability") };
    const pairs = predictions.flatMap((prediction) => {
      const card = this.cards.get(prediction.name);
      return card ? [{ card, prediction, inSight: isInSight(card.element) }] : [];
    });
    setChildren(this.grid, pairs.map(({ card }) => card.element));
    const ordered = [...pairs.filter(({ inSight }) => inSight), ...pairs.filter(({ inSight }) => !inSight)];
    const mine = this.showing = {};
    for (let start = 0; start < ordered.length; start += CHUNK) {
      if (start) await nextFrame();
      if (mine !== this.showing) return; // newer predictions are shown
      for (const { card, prediction } of ordered.slice(start, start + CHUNK)) card.show(prediction, shown);
    }
  }

  /**
   * Returns the card and the row of the table in which an event happened.
   * @param {Event} event
   */
  #place(event) {
    const target = /** @type {HTMLElement} */ (event.target);
    const card = [...this.cards.values()].find(({ element }) => element.contains(target));
    return { card, index: card ? card.rows.findIndex(({ element }) => element.contains(target)) : -1 };
  }

  /** @param {Event} event */
  #pick(event) {
    const { card, index } = this.#place(event);
    if (!card || index < 0) return;
    const token = /** @type {PredictedToken} */ (card.rows[index].token);
    if (read("to", "all") === "one") {
      const own = readOwn();
      extend(readPrompt(), { ...own, [card.model.name]: [...(own[card.model.name] ?? []), token.id] });
    } else if (token.adds === null) {
      announce("This token is not a text by itself, so it can be added to the context of its own model only.");
    } else {
      extend(readPrompt() + token.adds, {});
    }
  }

  /** @param {KeyboardEvent} event */
  #move(event) {
    const cards = this.#sorted().flatMap(({ name, error }) => error ? [] : [/** @type {Card} */ (this.cards.get(name))]);
    moveInColumns(event, cards.map((card) => card.rows.map((row) => row.button)));
  }

  /** @param {Event} event */
  #link(event) {
    const { card, index } = this.#place(event);
    this.#linkKey(card && index >= 0 ? card.rows[index].key ?? null : null);
  }

  /** @param {string | null} key */
  #linkKey(key) {
    for (const card of this.cards.values()) card.link(key);
  }

  #table() {
    const head = ["model", "year", "rank", "id", "token", "probability", "after decoding", "cut by", "n-gram order"];
    const rows = this.#sorted().flatMap(({ name, tokens }) => tokens.map((token) => [name,
      this.cards.get(name)?.model.year ?? null, token.rank, token.id, token.text, token.prob, token.final, token.cut_by,
      token.order]));
    return [head, ...rows];
  }

  #chart() {
    const shown = this.#sorted().filter(({ error }) => !error);
    const largest = Math.max(...shown.flatMap(({ tokens }) => tokens.map(({ prob, final }) => Math.max(prob, final))));
    return barChart(readPrompt(), shown.map(({ name, tokens, entropy }) => {
      const model = this.cards.get(name)?.model;
      return { title: `${model?.year ?? ""} ${model?.title ?? name}, ${entropy.toFixed(2)} bits`,
        rows: tokens.map((token) => ({ label: token.text, text: inUnit(token, read("unit", "probability")),
          share: token.final / largest, before: token.prob / largest })) };
    }));
  }
}

/** @param {HTMLElement} element */
function isInSight(element) {
  const { top, bottom } = element.getBoundingClientRect();
  return bottom > 0 && top < innerHeight;
}

customElements.define("lmzoo-predict", Predict);
