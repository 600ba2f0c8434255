// The view Slide: generation token by token, with all stages from the logits to the draw, for a few models.

import { newest, request } from "../api.js";
import { announce, el, setChildren } from "../dom.js";
import { extend, readOwn } from "../parts/branches.js";
import { barChart } from "../parts/charts.js";
import "../parts/choice.js";
import { promptField, readPrompt, settings } from "../parts/controls.js";
import { requestSnippets } from "../parts/copy.js";
import { readDecoding, readSeed } from "../parts/decoding.js";
import { saveButtons } from "../parts/export.js";
import { moveInColumns } from "../parts/focus.js";
import { chosenModels } from "../parts/models.js";
import { SlideCard } from "../parts/slide_card.js";
import { percent } from "../parts/units.js";
import { StateElement } from "../state.js";

/** @typedef {import("../parts/units.js").PredictedToken} PredictedToken */
/** @typedef {import("../parts/units.js").Prediction} Prediction */

const PATH = "/playground/predict";
const PAUSE = 700; // milliseconds between two tokens
const MOST_TOKENS = 300; // after which it stops by itself
const END = 0; // id of the end-of-text token

class Slide extends StateElement {
  /** @type {Map<string, SlideCard>} */
  cards = new Map();
  /** @type {Prediction[]} */
  predictions = [];
  asked = "";
  answered = "";
  timer = 0;
  playing = false;
  /** @type {any} */
  body = {};
  ask = newest((signal) => request(PATH, this.body, signal), 15);

  build() {
    const copy = el("lmzoo-copy");
    copy.snippets = () => requestSnippets(PATH, this.body);
    this.grid = el("div", { class: "cards", onclick: (/** @type {Event} */ event) => this.#pick(event),
      onkeydown: (/** @type {KeyboardEvent} */ event) => moveInColumns(event, this.#buttons()) });
    this.playButton = el("button", { type: "button", onclick: () => this.playing ? this.#pause() : this.#play() }, "Play");
    this.append(
      el("section", { class: "tools", "aria-label": "Prompt and settings" },
        promptField(),
        el("div", { class: "bar" },
          el("span", { class: "row" },
            el("button", { type: "button", class: "main", onclick: () => { this.#pause(); this.#step(true); } }, "Step"),
            this.playButton,
            el("button", { type: "button", onclick: () => { this.#pause(); this.#restart(); } }, "From the start")),
          el("lmzoo-branches"), el("lmzoo-models", { param: "columns", limit: 3 }), settings(el("lmzoo-decoding")))),
      this.grid,
      el("p", { class: "note" }, "A click or Enter on a token adds it instead of the drawn token. Arrow keys go from token to token."),
      el("p", { class: "row" }, copy,
        saveButtons("stages", { table: () => this.#table(), chart: () => this.#chart() })));
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    this.#pause();
  }

  async update() {
    const models = await chosenModels("columns", 3);
    if (!models.length) return;
    for (const model of models) if (!this.cards.has(model.name)) this.cards.set(model.name, new SlideCard(model));
    const names = models.map((model) => model.name);
    this.body = {
      prompt: readPrompt(), models: names, decoding: readDecoding(), seed: readSeed(), k: 10, n_context: 120,
      own: Object.fromEntries(Object.entries(readOwn()).filter(([name]) => names.includes(name))),
    };
    const asked = JSON.stringify(this.body);
    if (asked === this.asked) return;
    this.asked = asked;
    try {
      const answer = await this.ask();
      if (answer) this.#show(answer, asked);
    } catch (error) {
      this.asked = "";
      this.#pause();
      throw error;
    }
  }

  /**
   * @param {Prediction[]} predictions
   * @param {string} asked the request, as JSON
   */
  #show(predictions, asked) {
    this.predictions = predictions;
    this.answered = asked;
    const own = readOwn();
    for (const prediction of predictions) {
      this.cards.get(prediction.name)?.show(prediction, own[prediction.name]?.at(-1) === END);
    }
    setChildren(this.grid, predictions.flatMap(({ name }) => this.cards.get(name)?.element ?? []));
  }

  /**
   * Adds the drawn token to the text of each model; false if all texts have ended.
   * @param {boolean} history
   */
  #step(history) {
    if (this.answered !== this.asked) return true; // the models have not answered yet
    const own = readOwn();
    const growing = this.predictions.filter(({ name, error }) =>
      !error && own[name]?.at(-1) !== END && (own[name]?.length ?? 0) < MOST_TOKENS);
    for (const { name, drawn } of growing) own[name] = [...(own[name] ?? []), drawn];
    if (growing.length) extend(readPrompt(), own, { history });
    return growing.length > 0;
  }

  #play() {
    this.playing = true;
    this.playButton.textContent = "Pause";
    announce("Started.");
    const next = () => {
      if (!this.#step(false)) return this.#pause();
      this.timer = setTimeout(next, PAUSE);
    };
    next();
  }

  #pause() {
    clearTimeout(this.timer);
    if (!this.playing) return;
    this.playing = false;
    this.playButton.textContent = "Play";
    const counts = Object.values(readOwn()).map((ids) => ids.length);
    announce(`Paused after ${Math.max(0, ...counts)} tokens.`);
  }

  #restart() {
    if (Object.keys(readOwn()).length) extend(readPrompt(), {});
  }

  /** Returns the buttons of all cards, one column for each. */
  #buttons() {
    return this.predictions.flatMap(({ name, error }) =>
      error ? [] : [/** @type {SlideCard} */ (this.cards.get(name)).rows.map((row) => row.button)]);
  }

  /** @param {Event} event */
  #pick(event) {
    const target = /** @type {Node} */ (event.target);
    for (const card of this.cards.values()) {
      const row = card.rows.find(({ button }) => button.contains(target));
      if (!row || card.ended) continue;
      this.#pause();
      const own = readOwn();
      const id = /** @type {PredictedToken} */ (row.token).id;
      extend(readPrompt(), { ...own, [card.model.name]: [...(own[card.model.name] ?? []), id] });
    }
  }

  #table() {
    const head = ["model", "rank", "id", "token", "logit", "after temperature", "softmax", "after cuts", "cut by",
      "interval start", "interval end", "random number", "drawn"];
    const rows = this.predictions.flatMap(({ name, tokens, draw, drawn }) => tokens.map((token) => [name, token.rank,
      token.id, token.text, token.log_prob, token.scaled, token.tempered, token.final, token.cut_by, ...token.interval,
      draw, token.id === drawn ? 1 : 0]));
    return [head, ...rows];
  }

  #chart() {
    return barChart(readPrompt(), this.predictions.filter(({ error }) => !error).map(({ name, tokens, draw }) => {
      const largest = Math.max(...tokens.map(({ tempered, final }) => Math.max(tempered, final)));
      return { title: `${name}, random number ${draw.toFixed(4)}`, rows: tokens.map((token) => ({ label: token.text,
        text: percent(token.final), share: token.final / largest, before: token.tempered / largest })) };
    }));
  }
}

customElements.define("lmzoo-slide", Slide);
