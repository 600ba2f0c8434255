// The view "Shannon's game": the reader guesses the next letter of a text, and so do the models.

import { request } from "../api.js";
import { announce, el } from "../dom.js";
import { bar } from "../parts/bars.js";
import { barChart } from "../parts/charts.js";
import { requestSnippets } from "../parts/copy.js";
import { saveButtons } from "../parts/export.js";
import { textModels } from "../parts/models.js";
import { StateElement, read, readWhole, write } from "../state.js";

/** @typedef {import("../parts/models.js").ListedModel} ListedModel */

const LETTERS = [..."abcdefghijklmnopqrstuvwxyz "];
const LARGEST = 2 ** 31 - 1; // seed and number of a passage
const LEAST_RANGE = 5; // bits at the end of the axis, unless a model needs more
const KEPT = "lmzoo-game"; // name of the guesses in the storage of the browser tab

/** @typedef {{tries: number, shown: boolean}} Guess the letters that were tried, and whether the page then showed the letter */
/**
 * What the browser tab keeps of a game. `asked` is the passage as JSON, `place` the number of its known letters, and
 * `tried` the letters that were tried for the next one.
 * @typedef {{guesses: Guess[], totals: [string, Total][], nFinished: number, asked: string, place: number,
 *   tried: string[]}} Kept
 * @typedef {{bits: number, letters: number, refused: boolean}} Total score of a model on all finished passages
 */

/**
 * Returns Shannon's bounds of the entropy in bits per character (1951, equation 17), from the number of guesses that
 * each character took. If q_i is the share of characters that took i guesses, then
 * sum_i i (q_i - q_{i+1}) log2 i <= entropy <= -sum_i q_i log2 q_i. With few characters the first sum can exceed the
 * second one, which is then returned for both. A character that the page showed counts as if the letters that were
 * left had been guessed in random order.
 * @param {Guess[]} guesses
 * @returns {{low: number, high: number}}
 */
export function shannonBounds(guesses) {
  const counts = new Array(LETTERS.length + 2).fill(0);
  for (const { tries, shown } of guesses) {
    const [first, last] = shown ? [tries + 1, LETTERS.length] : [tries, tries];
    for (let n = first; n <= last; n++) counts[n] += 1 / (last - first + 1) / guesses.length;
  }
  let [low, high] = [0, 0];
  for (let i = 1; i <= LETTERS.length; i++) {
    low += i * (counts[i] - counts[i + 1]) * Math.log2(i);
    if (counts[i] > 0) high -= counts[i] * Math.log2(counts[i]);
  }
  return { low: Math.min(Math.max(low, 0), high), high };
}

class Game extends StateElement {
  /** @type {Guess[]} one for each letter that is known */
  guesses = [];
  /** @type {Map<string, Total>} */
  totals = new Map();
  /** @type {Set<string>} letters that were tried for the current place */
  tried = new Set();
  /** @type {{source: string, before: string, letters: string} | null} */
  passage = null;
  /** @type {Promise<[ListedModel, number | null][]>} scores of the models on the passage */
  scores = Promise.resolve([]);
  scoring = new AbortController();
  shown = "";
  nFinished = 0;
  place = 0;
  kept = kept();
  build() {
    const { guesses, totals, nFinished } = this.kept;
    Object.assign(this, { guesses, totals: new Map(totals), nFinished });
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
    this.again = el("button", { type: "button", onclick: () => this.#startOver() }, "Start over");
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
      el("div", { class: "row" }, el("label", { class: "field" }, el("span", {}, "Next letter"), this.field), this.giveUp, this.nextButton, this.again),
      this.keys, this.results,
      el("details", {}, el("summary", {}, "In class"),
        el("p", {}, "Everybody who opens the address of this page gets the same passages. At the end, each player saves the scores and sends the file to the teacher."),
        el("div", { class: "row" }, el("label", { class: "field" }, el("span", {}, "Your name"), name), el("label", { class: "field" }, el("span", {}, "Seed of the passages"), seed),
          saveButtons("shannon", { table: () => this.#table(), chart: () => this.#chart() }), copy)));
  }

  #asked() {
    return { seed: readWhole("seed", 0, LARGEST), number: readWhole("passage", 0, LARGEST) };
  }

  update() {
    const asked = this.#asked();
    if (document.activeElement !== this.player) this.player.value = read("player", "");
    if (document.activeElement !== this.seed) this.seed.value = String(asked.seed);
    if (JSON.stringify(asked) === this.shown) return;
    this.shown = JSON.stringify(asked);
    if (!this.finished) this.scoring.abort(); // scores of a finished passage are shown even if they come late
    this.passage = null;
    if (this.kept.asked && JSON.parse(this.kept.asked).seed !== asked.seed) this.#forget(); // the guesses are about other passages
    const { place, tried } = this.kept.asked === this.shown ? this.kept : { place: 0, tried: [] };
    Object.assign(this, { place, tried: new Set(tried) });
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
      this.#score(asked);
      this.#draw();
      this.#results();
    } catch (error) {
      if (JSON.stringify(asked) !== this.shown) return;
      this.shown = "";
      this.problem.textContent = /** @type {Error} */ (error).message;
      this.problem.hidden = false;
    }
  }

  /**
   * Asks for the scores of all models on a passage while the reader guesses.
   * @param {{seed: number, number: number}} asked
   */
  #score(asked) {
    const { signal } = this.scoring = new AbortController();
    this.scores = textModels().then(async (models) => {
      /** @type {[ListedModel, number | null][]} */
      const found = [];
      for (const model of models) {
        found.push([model, (await request("/playground/game/score", { ...asked, model: model.name })).bits]);
        if (signal.aborted) return [];
      }
      return found;
    });
    this.scores.catch(() => {});
  }

  #draw() {
    if (!this.passage) return;
    const { before, letters, source } = this.passage;
    this.source.textContent = `From ${source}, on which no model of lmzoo was trained.`;
    const known = letters.slice(0, this.place);
    this.text.replaceChildren(el("span", { class: "given" }, before), el("strong", {}, known),
      this.finished ? "" : el("span", { class: "gap", role: "img", "aria-label": "next letter" }, "▁"));
    this.nextButton.hidden = !this.finished;
    this.giveUp.hidden = this.finished;
    this.again.hidden = !this.guesses.length;
    this.keys.hidden = this.finished;
    for (const key of this.keys.children) {
      key.setAttribute("aria-pressed", String(this.tried.has(key.getAttribute("data-letter") ?? "")));
    }
  }

  #type() {
    const letter = this.field.value.slice(-1).toLowerCase();
    this.field.value = "";
    if (LETTERS.includes(letter)) this.#guess(letter);
    else if (letter) announce("Type a letter from a to z, or a space: the passage has no other characters.");
  }

  /** @param {string} letter */
  #guess(letter) {
    if (!this.passage || this.finished || this.tried.has(letter)) return;
    this.tried.add(letter);
    const name = letter === " " ? "the space" : letter;
    if (letter !== this.passage.letters[this.place]) {
      announce(`Not ${name}.`);
      this.#keep();
      this.#draw();
      return;
    }
    const guesses = this.tried.size === 1 ? "guess" : "guesses";
    this.#found({ tries: this.tried.size, shown: false }, `Right: ${name}, after ${this.tried.size} ${guesses}.`);
  }

  /** Shows the letter. */
  #show() {
    if (!this.passage || this.finished) return;
    const letter = this.passage.letters[this.place];
    this.#found({ tries: this.tried.size, shown: true }, `It was ${letter === " " ? "the space" : letter}.`);
  }

  /**
   * Goes on to the next letter.
   * @param {Guess} guess
   * @param {string} message
   */
  #found(guess, message) {
    this.guesses.push(guess);
    this.place += 1;
    this.tried.clear();
    if (this.finished) this.#finish();
    announce(this.finished ? `${message} The passage is complete.` : message);
    this.#keep();
    this.#draw();
    this.#results();
    if (this.finished) this.nextButton.focus();
  }

  async #finish() {
    this.nFinished += 1;
    const { totals } = this; // those of this game, if the reader starts over before the scores come
    const letters = this.passage?.letters ?? "";
    try {
      for (const [model, bits] of await this.scores) {
        const total = totals.get(model.name) ?? { bits: 0, letters: 0, refused: false };
        if (bits === null) total.refused = true;
        else Object.assign(total, { bits: total.bits + bits, letters: total.letters + letters.length });
        totals.set(model.name, total);
      }
      this.#keep();
      this.#results();
    } catch (error) {
      this.problem.textContent = /** @type {Error} */ (error).message;
      this.problem.hidden = false;
    }
  }

  /** Keeps the guesses, so that they are there again after another view or when the page is loaded again. */
  #keep() {
    const { guesses, totals, nFinished, shown, place, tried } = this;
    this.kept = { guesses, totals: [...totals], nFinished, asked: shown, place, tried: [...tried] };
    try {
      sessionStorage.setItem(KEPT, JSON.stringify(this.kept));
    } catch {
      // The browser does not allow it.
    }
  }

  #startOver() {
    this.#forget();
    this.#draw();
    this.field.focus();
  }

  #forget() {
    Object.assign(this, { guesses: [], totals: new Map(), nFinished: 0, place: 0 });
    this.tried.clear();
    this.#keep();
    this.#results();
  }

  #next() {
    write({ passage: this.#asked().number + 1 });
    this.field.focus();
  }

  /** Returns the bits per character of the reader, from `low` to `high`, and of the models; the best come first. */
  #figures() {
    const figures = [...this.totals].filter(([, total]) => total.letters)
      .map(([name, { bits, letters }]) => ({ name, low: bits / letters, high: bits / letters, you: false, letters }));
    figures.push({ name: read("player", "") || "you", ...shannonBounds(this.guesses), you: true, letters: this.guesses.length });
    return figures.sort((one, other) => one.high - other.high);
  }

  #results() {
    if (!this.guesses.length) {
      this.results.replaceChildren();
      return;
    }
    const first = this.guesses.filter(({ tries, shown }) => tries === 1 && !shown).length;
    const figures = this.#figures();
    const end = axis(figures);
    const bars = figures.map(({ name, low, high, you }) => el("li", { class: you ? "you" : null }, el("span", { class: "who" }, name),
      you ? bar((high - low) / end, low / end) : bar(high / end), el("span", { class: "number" }, range(low, high))));
    const refused = [...this.totals].filter(([, total]) => total.refused).map(([name]) => name);
    const notes = [
      this.totals.size ? "Your numbers are Shannon's lower and upper bounds of the entropy, from the guesses that you needed. The number of a model "
        + "is its surprisal of the same passages, divided by their letters, so models with longer tokens can be compared with you."
        : "The numbers of the models appear at the end of the passage.",
      refused.length ? `These models have no number, because their tokens do not represent the letters of the passage exactly: ${refused.join(", ")}.` : "",
      this.guesses.length < 100 ? "The bounds are unreliable for fewer than 100 letters." : ""];
    this.results.replaceChildren(el("h3", {}, "Bits per character"),
      el("p", {}, `${this.guesses.length} letters, ${Math.round(100 * first / this.guesses.length)} % right at the first guess.`),
      el("ol", { class: "bars plain" }, ...bars), ...notes.filter((note) => note).map((note) => el("p", { class: "note" }, note)));
  }

  #table() {
    const { seed } = this.#asked();
    return [["player", "seed", "passages", "letters", "bits_per_character_low", "bits_per_character_high", "guesses"],
      ...this.#figures().map(({ name, low, high, you, letters }) => [name, seed, this.nFinished, letters, low.toFixed(4),
        high.toFixed(4), you ? this.guesses.map(({ tries, shown }) => shown ? `>${tries}` : tries).join(" ") : null])];
  }

  #chart() {
    const figures = this.#figures();
    return barChart("Bits per character", [{ title: "", rows: figures.map(({ name, low, high }) =>
      ({ label: name, text: range(low, high), share: low / axis(figures), before: high / axis(figures) })) }]);
  }
}

/**
 * Returns the game that this tab of the browser has kept, or a new one.
 * @returns {Kept}
 */
function kept() {
  try {
    const text = sessionStorage.getItem(KEPT);
    if (text) return JSON.parse(text);
  } catch {
    // The browser does not allow it.
  }
  return { guesses: [], totals: [], nFinished: 0, asked: "", place: 0, tried: [] };
}

/**
 * Returns the bits at the end of the axis of the results.
 * @param {{high: number}[]} figures
 */
function axis(figures) {
  return Math.max(...figures.map(({ high }) => high), LEAST_RANGE);
}

/**
 * @param {number} low
 * @param {number} high
 */
function range(low, high) {
  return low === high ? high.toFixed(2) : `${low.toFixed(2)} to ${high.toFixed(2)}`;
}

customElements.define("lmzoo-game", Game);
