// The view "Shannon's game": the reader guesses the next letter of a text, and so do the models.

import { request } from "../api.js";
import { announce, el } from "../dom.js";
import { requestSnippets } from "../parts/copy.js";
import { csv, download } from "../parts/export.js";
import { listModels } from "../parts/models.js";
import { StateElement, read, readNumber, write } from "../state.js";

/** @typedef {import("../parts/models.js").ListedModel} ListedModel */

const LETTERS = [..."abcdefghijklmnopqrstuvwxyz "];

/**
 * Returns Shannon's bounds of the entropy in bits per character (1951, equation 17), from the number of guesses that
 * each character took. If q_i is the share of characters that took i guesses, then
 * sum_i i (q_i - q_{i+1}) log2 i <= entropy <= -sum_i q_i log2 q_i. With few characters the first sum can exceed the
 * second one, which is then returned for both.
 * @param {number[]} guesses
 * @returns {{low: number, high: number}}
 */
export function shannonBounds(guesses) {
  const counts = new Array(LETTERS.length + 2).fill(0);
  for (const n of guesses) counts[n] += 1 / guesses.length;
  let [low, high] = [0, 0];
  for (let i = 1; i <= LETTERS.length; i++) {
    low += i * (counts[i] - counts[i + 1]) * Math.log2(i);
    if (counts[i] > 0) high -= counts[i] * Math.log2(counts[i]);
  }
  return { low: Math.min(Math.max(low, 0), high), high };
}

class Game extends StateElement {
  /** @type {number[]} numbers of guesses of all letters that were found */
  guesses = [];
  /** @type {Map<string, {bits: number, letters: number, refused: boolean}>} scores of the models on all finished passages */
  totals = new Map();
  /** @type {Set<string>} letters that were tried for the current place */
  tried = new Set();
  /** @type {{source: string, before: string, letters: string} | null} */
  passage = null;
  /** @type {Promise<[ListedModel, number | null][]>} scores of the models on the passage */
  scores = Promise.resolve([]);
  shown = "";
  nFinished = 0;
  place = 0;

  build() {
    this.source = el("p", { class: "note" });
    this.text = el("p", { class: "passage", tabindex: 0, role: "region", "aria-label": "Passage" });
    this.field = el("input", {
      type: "text", name: "letter", autocomplete: "off", autocapitalize: "off", spellcheck: "false", size: 3, oninput: () => this.#type(),
      onkeydown: (/** @type {KeyboardEvent} */ event) => { if (event.key === "Enter" && this.finished) this.#next(); },
    });
    const keys = LETTERS.map((letter) => el("button", { type: "button", "data-letter": letter, "aria-label": letter === " " ? "space" : letter,
      onclick: () => this.#guess(letter) }, letter === " " ? "space" : letter));
    this.keys = el("div", { class: "keys", role: "group", "aria-label": "Letters" }, ...keys);
    this.giveUp = el("button", { type: "button", onclick: () => this.#show() }, "Show this letter");
    this.nextButton = el("button", { type: "button", onclick: () => this.#next() }, "Next passage");
    this.results = el("section", { class: "results", "aria-label": "Results" });
    this.problem = el("p", { class: "error", hidden: true });
    const name = el("input", { type: "text", name: "player", maxlength: 60, autocomplete: "off", onchange: () => write({ player: name.value || null }) });
    this.player = name;
    const seed = el("input", { type: "number", name: "seed", min: 0, step: 1, onchange: () => write({ seed: Math.max(0, Math.round(Number(seed.value))) || null, passage: null }) });
    this.seed = seed;
    const copy = el("lmzoo-copy");
    copy.snippets = () => requestSnippets("/playground/game/passage", this.#asked());
    this.append(el("h2", {}, "Guess the next letter"),
      el("p", { class: "lead" }, "Claude Shannon measured the entropy of English in 1951 with this game: guess each letter until you are right. " +
        "Only small letters and the space occur."),
      this.problem, this.source, this.text,
      el("div", { class: "row" }, el("label", { class: "field" }, el("span", {}, "Next letter"), this.field), this.giveUp, this.nextButton),
      this.keys, this.results,
      el("details", {}, el("summary", {}, "In class"),
        el("p", {}, "All who open the address of this page get the same passages. At the end, each saves the scores and sends the file to the teacher."),
        el("div", { class: "row" }, el("label", { class: "field" }, el("span", {}, "Your name"), name), el("label", { class: "field" }, el("span", {}, "Seed of the passages"), seed),
          el("button", { type: "button", onclick: () => this.#save() }, "Save scores (CSV)"), copy)));
  }

  #asked() {
    const whole = (/** @type {string} */ name) => Math.min(Math.max(Math.round(readNumber(name, 0)), 0), 2 ** 31 - 1);
    return { seed: whole("seed"), number: whole("passage") };
  }

  update() {
    const asked = this.#asked();
    if (document.activeElement !== this.player) this.player.value = read("player", "");
    if (document.activeElement !== this.seed) this.seed.value = String(asked.seed);
    if (JSON.stringify(asked) === this.shown) return;
    this.shown = JSON.stringify(asked);
    this.#load(asked);
  }

  get finished() {
    return this.passage !== null && this.place >= this.passage.letters.length;
  }

  /** @param {{seed: number, number: number}} asked */
  async #load(asked) {
    try {
      const passage = await request("/playground/game/passage", asked);
      if (JSON.stringify(asked) !== this.shown) return;
      this.problem.hidden = true;
      this.passage = passage;
      this.place = 0;
      this.tried.clear();
      this.#score(asked);
      this.#draw();
      this.#results();
    } catch (error) {
      this.problem.textContent = /** @type {Error} */ (error).message;
      this.problem.hidden = false;
    }
  }

  /**
   * Asks for the scores of all models on a passage while the reader guesses.
   * @param {{seed: number, number: number}} asked
   */
  #score(asked) {
    this.scores = listModels().then(async (models) => {
      /** @type {[ListedModel, number | null][]} */
      const found = [];
      for (const model of models.filter((one) => !one.error)) {
        found.push([model, (await request("/playground/game/score", { ...asked, model: model.name })).bits]);
        if (JSON.stringify(asked) !== this.shown) return [];
      }
      return found;
    });
    this.scores.catch(() => {});
  }

  #draw() {
    if (!this.passage) return;
    const { before, letters, source } = this.passage;
    this.source.textContent = `From ${source}, which no model has read.`;
    const known = letters.slice(0, this.place);
    this.text.replaceChildren(el("span", { class: "given" }, before), el("strong", {}, known),
      this.finished ? "" : el("span", { class: "gap", role: "img", "aria-label": "next letter" }, "▁"));
    this.nextButton.hidden = !this.finished;
    this.giveUp.hidden = this.finished;
    this.keys.hidden = this.finished;
    for (const key of this.keys.children) key.classList.toggle("tried", this.tried.has(key.getAttribute("data-letter") ?? ""));
    for (const key of this.keys.children) key.setAttribute("aria-pressed", String(this.tried.has(key.getAttribute("data-letter") ?? "")));
  }

  #type() {
    const letter = this.field.value.slice(-1).toLowerCase();
    this.field.value = "";
    if (LETTERS.includes(letter)) this.#guess(letter);
    else if (letter) announce("Only the letters a to z and the space occur here.");
  }

  /** @param {string} letter */
  #guess(letter) {
    if (!this.passage || this.finished || this.tried.has(letter)) return;
    this.tried.add(letter);
    const name = letter === " " ? "the space" : letter;
    if (letter !== this.passage.letters[this.place]) {
      announce(`Not ${name}.`);
      this.#draw();
      return;
    }
    this.#found(this.tried.size, `Right: ${name}, after ${this.tried.size} ${this.tried.size === 1 ? "guess" : "guesses"}.`);
  }

  /** Shows the letter, which counts as if all letters had been guessed. */
  #show() {
    if (!this.passage || this.finished) return;
    const letter = this.passage.letters[this.place];
    this.#found(LETTERS.length, `It was ${letter === " " ? "the space" : letter}.`);
  }

  /**
   * @param {number} n
   * @param {string} message
   */
  #found(n, message) {
    this.guesses.push(n);
    this.place += 1;
    this.tried.clear();
    if (this.finished) this.#finish();
    announce(this.finished ? `${message} The passage is complete.` : message);
    this.#draw();
    this.#results();
    if (this.finished) this.nextButton.focus();
  }

  async #finish() {
    this.nFinished += 1;
    const letters = this.passage?.letters ?? "";
    try {
      for (const [model, bits] of await this.scores) {
        const total = this.totals.get(model.name) ?? { bits: 0, letters: 0, refused: false };
        if (bits === null) total.refused = true;
        else Object.assign(total, { bits: total.bits + bits, letters: total.letters + letters.length });
        this.totals.set(model.name, total);
      }
      this.#results();
    } catch (error) {
      this.problem.textContent = /** @type {Error} */ (error).message;
      this.problem.hidden = false;
    }
  }

  #next() {
    write({ passage: this.#asked().number + 1 });
    this.field.focus();
  }

  #results() {
    if (!this.guesses.length) {
      this.results.replaceChildren();
      return;
    }
    const { low, high } = shannonBounds(this.guesses);
    const first = this.guesses.filter((n) => n === 1).length;
    const rows = [...this.totals].filter(([, total]) => total.letters).map(([name, total]) => ({ name, low: 0, high: total.bits / total.letters, you: false }));
    rows.push({ name: this.player.value || "you", low, high, you: true });
    rows.sort((one, other) => one.high - other.high);
    const largest = Math.max(...rows.map((row) => row.high), 5);
    const bars = rows.map((row) => {
      const bar = el("span", { class: "fill", "aria-hidden": "true" });
      bar.style.width = `${100 * (row.high - row.low) / largest}%`;
      bar.style.marginLeft = `${100 * row.low / largest}%`;
      return el("li", { class: row.you ? "you" : null }, el("span", { class: "who" }, row.name), el("span", { class: "track" }, bar),
        el("span", { class: "number" }, row.you ? `${low.toFixed(2)} to ${high.toFixed(2)}` : row.high.toFixed(2)));
    });
    const refused = [...this.totals].filter(([, total]) => total.refused).map(([name]) => name);
    this.results.replaceChildren(el("h3", {}, "Bits per character"),
      el("p", {}, `${this.guesses.length} letters, ${Math.round(100 * first / this.guesses.length)} % right at the first guess.`),
      el("ol", { class: "bars plain" }, ...bars),
      el("p", { class: "note" }, this.totals.size ? "You: Shannon's lower and upper bounds from your numbers of guesses. Models: the surprisal of the same passages, divided by their " +
        "characters; for tokens longer than a letter this sum is the fair figure." : "The figures of the models follow at the end of the passage."),
      refused.length ? el("p", { class: "note" }, `Without a figure, because their tokens do not keep all letters: ${refused.join(", ")}.`) : "",
      this.guesses.length < 100 ? el("p", { class: "note" }, "The bounds need about 100 letters to settle.") : "");
  }

  #save() {
    if (!this.guesses.length) {
      announce("There is nothing to save yet: guess a letter first.");
      return;
    }
    const { low, high } = shannonBounds(this.guesses);
    const player = this.player.value;
    const { seed } = this.#asked();
    /** @type {(string | number | null)[][]} */
    const rows = [["player", "seed", "passages", "letters", "bits_per_character_low", "bits_per_character_high", "guesses"],
      [player || "you", seed, this.nFinished, this.guesses.length, low.toFixed(4), high.toFixed(4), this.guesses.join(" ")]];
    for (const [name, total] of this.totals) {
      const bits = total.letters ? (total.bits / total.letters).toFixed(4) : null;
      rows.push([name, seed, this.nFinished, total.letters, bits, bits, null]);
    }
    download("shannon.csv", csv(rows), "text/csv");
  }
}

customElements.define("lmzoo-game", Game);
