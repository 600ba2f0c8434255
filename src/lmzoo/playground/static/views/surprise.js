// The view "Surprise": a text coloured by how much each token surprised a model, or by the difference of two models.

import { newest, request } from "../api.js";
import { announce, el } from "../dom.js";
import { bar } from "../parts/bars.js";
import { slicer } from "../parts/characters.js";
import { modelChoice } from "../parts/choice.js";
import { choice, stateLink, textField } from "../parts/controls.js";
import { requestSnippets } from "../parts/copy.js";
import { saveButtons } from "../parts/export.js";
import { ModelBars } from "../parts/model_bars.js";
import { chosenModel, usableModels } from "../parts/models.js";
import { SCALES, levelOf, scores, segmentsOf, sum } from "../parts/scores.js";
import { tokenNodes, visible } from "../parts/tokens.js";
import { percent, signed } from "../parts/units.js";
import { StateElement, read } from "../state.js";

/**
 * @typedef {import("../parts/scores.js").Scores} Scores
 * @typedef {import("../parts/scores.js").Segment} Segment
 */

const DEFAULT_TEXT = "In the beginning God created the heaven and the earth. " +
  "And the earth was without form, and void; and darkness was upon the face of the deep. " +
  "And the spaceship of the astronauts landed upon the face of the moon.";
const FAMILIES = ["transformer", "gpt2", "transformer-2017", "lstm", "ngram"];
/** @type {[string, string][]} */
const QUANTITIES = [["bits", "Surprisal"], ["rank", "Rank"], ["entropy", "Entropy"]];
const PATIENCE = 400; // milliseconds without an answer after which the page says that the model reads
const CHUNK = 250; // tokens that are shown at a time, so that the page stays responsive

class Surprise extends StateElement {
  text = "";
  model = "";
  /** @type {string | undefined} */
  other = undefined;
  /** @type {Scores} */
  found = { starts: [], ends: [], surprisals: [], ranks: [], entropies: [], n_tokens: 0, vocab_size: 0, lossless: true };
  /** @type {Scores | null} */
  second = null;
  /** @type {Segment[]} */
  segments = [];
  refresh = newest((signal) => this.#read(signal), 80);
  colours = choice("Colour by", "colour", QUANTITIES);
  models = new ModelBars();
  active = 0;
  shown = "";
  drawing = 0;

  build() {
    const copy = el("lmzoo-copy");
    copy.snippets = () => requestSnippets("/playground/surprise", { model: this.model, text: this.text });
    this.legend = el("ul", { class: "legend", "aria-label": "Meaning of the colours" });
    this.heat = el("div", {
      class: "heat", role: "listbox", tabindex: 0, dir: "auto", "aria-label": "Tokens of the text", "aria-busy": "true",
      onclick: (/** @type {Event} */ event) => this.#click(event), onkeydown: (/** @type {KeyboardEvent} */ event) => this.#key(event),
    });
    this.details = el("section", { class: "details", "aria-label": "The chosen token" });
    this.note = el("p", { class: "note" });
    this.problem = el("p", { class: "error", hidden: true });
    this.append(
      el("h2", { class: "hidden" }, "Surprise"),
      textField("Text", "text", DEFAULT_TEXT, { rows: 4 }),
      el("div", { class: "row" }, modelChoice("Model", "model", FAMILIES), modelChoice("Compared with", "other", []),
        this.colours),
      this.problem, this.legend,
      el("div", { class: "beside" }, el("div", {}, this.heat, this.note,
        el("p", { class: "row" }, copy, saveButtons("surprisal", { table: () => this.#table(), tabs: true }))), this.details),
      this.models.element);
  }

  async update() {
    this.text = read("text", DEFAULT_TEXT);
    const models = await usableModels();
    const state = JSON.stringify([this.text, read("model", ""), read("other", ""), read("colour", "bits"), models.length]);
    if (state === this.shown || !models.length) return;
    this.shown = state;
    await this.refresh();
  }

  /** @param {AbortSignal} signal */
  async #read(signal) {
    const waiting = setTimeout(() => { this.note.textContent = "The model reads the text …"; }, PATIENCE);
    try {
      const [model, other] = await Promise.all([chosenModel("model", FAMILIES), chosenModel("other", [])]);
      if (!model) return;
      const text = this.text;
      const [found, second] = await Promise.all([scores(model.name, text), other ? scores(other.name, text) : null]);
      clearTimeout(waiting);
      if (signal.aborted) return;
      Object.assign(this, { model: model.name, found, second, other: other?.name });
      this.problem.hidden = true;
      await this.#draw();
      await this.models.show(text, model.name);
    } catch (error) {
      if (signal.aborted) return;
      this.shown = this.note.textContent = "";
      this.problem.textContent = /** @type {Error} */ (error).message;
      this.problem.hidden = false;
    } finally {
      clearTimeout(waiting);
    }
  }

  async #draw() {
    const mine = ++this.drawing;
    const { text, found, second } = this;
    this.colours.hidden = Boolean(second); // Two models are compared by their surprisal.
    const asked = read("colour", "bits");
    const quantity = second ? "difference" : QUANTITIES.some(([name]) => name === asked) ? asked : "bits";
    const slice = slicer(text);
    this.segments = segmentsOf(found, second, quantity);
    const length = Math.min(found.ends.at(-1) ?? 0, second?.ends.at(-1) ?? Infinity);
    const cut = found.n_tokens > found.starts.length ? ` The text has ${found.n_tokens.toLocaleString("en")} tokens; the first ${found.starts.length.toLocaleString("en")} are shown.` : "";
    const total = sum(found.surprisals);
    this.note.textContent = `${this.model}: ${found.starts.length.toLocaleString("en")} tokens, ${total.toFixed(1)} bits, ` +
      `${(total / Math.max(length, 1)).toFixed(2)} bits per character.${cut}`;
    this.legend.replaceChildren(...SCALES[quantity].names.map((name, level) =>
      el("li", {}, el("span", { class: `swatch ${quantity} level-${level}`, "aria-hidden": "true" }, " "), name)));
    this.heat.setAttribute("aria-busy", "true");
    this.active = Math.min(this.active, Math.max(this.segments.length - 1, 0));
    let end = 0;
    for (let start = 0; start === 0 || start < this.segments.length; start += CHUNK) {
      const part = document.createDocumentFragment();
      for (const [offset, segment] of this.segments.slice(start, start + CHUNK).entries()) {
        if (segment.start > end) part.append(slice(end, segment.start));
        end = Math.max(end, segment.end);
        const shown = slice(segment.start, segment.end) || "∅";
        part.append(el("span", {
          id: `token-${start + offset}`, role: "option", class: `${quantity} level-${levelOf(quantity, segment.value)}`, "aria-selected": "false",
          "aria-label": shown.trim() ? null : shown.includes("\n") ? "line break" : "space",
        }, shown));
      }
      if (start === 0) this.heat.replaceChildren(part);
      else this.heat.append(part);
      await new Promise((resolve) => setTimeout(resolve));
      if (mine !== this.drawing) return;
    }
    this.heat.setAttribute("aria-busy", "false");
    this.#activate(this.active);
  }

  /** @param {number} index */
  #activate(index) {
    this.heat.querySelector("[aria-selected=true]")?.setAttribute("aria-selected", "false");
    this.active = index;
    const token = this.heat.querySelector(`#token-${index}`);
    if (!token) {
      this.heat.removeAttribute("aria-activedescendant");
      this.details.replaceChildren(el("p", { class: "note" }, "Choose a token to see what else the model expected."));
      return;
    }
    token.setAttribute("aria-selected", "true");
    this.heat.setAttribute("aria-activedescendant", token.id);
    if (document.activeElement === this.heat) token.scrollIntoView({ block: "nearest" });
    this.#describe(this.segments[index]);
  }

  /** @param {Segment} segment */
  #describe(segment) {
    const { found, second } = this;
    const rows = [];
    for (let index = segment.first; index <= segment.last; index++) {
      const bits = found.surprisals[index];
      rows.push(["surprisal", `${bits.toFixed(2)} bits`], ["probability", percent(2 ** -bits)],
        ["rank", `${found.ranks[index].toLocaleString("en")} of ${found.vocab_size.toLocaleString("en")}`],
        ["entropy", `${found.entropies[index].toFixed(2)} bits`]);
    }
    if (second && segment.other) {
      const bits = (/** @type {Scores} */ scored, /** @type {number} */ first, /** @type {number} */ last) => sum(scored.surprisals.slice(first, last + 1));
      rows.splice(0, rows.length, [this.model, `${bits(found, segment.first, segment.last).toFixed(2)} bits`],
        [this.other ?? "", `${bits(second, ...segment.other).toFixed(2)} bits`], ["difference", `${signed(segment.value)} bits`]);
    }
    const text = slicer(this.text)(segment.start, segment.end);
    this.likely = el("div", {}, el("button", { type: "button", onclick: () => this.#alternatives() }, "Show alternatives (Enter)"));
    this.details.replaceChildren(el("h3", {}, el("span", { class: "token" }, ...tokenNodes({ id: 0, text: visible(text), hex: false }))),
      el("dl", { class: "values" }, ...rows.flatMap(([term, value]) => [el("dt", {}, term), el("dd", {}, value)])), this.likely);
  }

  async #alternatives() {
    const segment = this.segments[this.active];
    if (!segment) return;
    const place = this.likely;
    try {
      const answer = await request("/playground/surprise/alternatives",
        { model: this.model, text: this.text, position: segment.first, k: 10 });
      if (place !== this.likely) return;
      const before = slicer(this.text)(0, answer.before);
      const largest = answer.likely[0].prob;
      const items = [...answer.likely, ...(answer.token.rank > answer.likely.length ? [answer.token] : [])];
      place.replaceChildren(el("h4", {}, `Expected by ${this.model}`),
        el("ol", { class: "bars" }, ...items.map((item) => this.#alternative(item, before, largest, item.rank === answer.token.rank))),
        el("p", { class: "note" }, "Choose a token to continue the text with it in the view Predict."));
      announce(`${answer.likely.length} alternatives; the most likely one has ${percent(largest)}.`);
    } catch (error) {
      place.replaceChildren(el("p", { class: "error" }, /** @type {Error} */ (error).message));
    }
  }

  /**
   * @param {any} item
   * @param {string} before
   * @param {number} largest
   * @param {boolean} observed
   */
  #alternative(item, before, largest, observed) {
    const name = el("span", { class: "token" }, ...tokenNodes(item));
    return el("li", { value: item.rank, class: observed ? "observed" : null },
      item.adds === null ? name : stateLink({ view: "predict", prompt: before + item.adds, own: null }, name),
      bar(item.prob / largest), el("span", { class: "number" }, percent(item.prob)),
      observed ? el("span", { class: "note" }, " in the text") : null);
  }

  /** @param {Event} event */
  #click(event) {
    const option = /** @type {HTMLElement} */ (event.target).closest("[role=option]");
    if (!option) return;
    this.#activate(Number(option.id.slice(6)));
    this.#alternatives();
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const last = this.segments.length - 1;
    const targets = { ArrowRight: this.active + 1, ArrowLeft: this.active - 1, ArrowDown: this.#line(1), ArrowUp: this.#line(-1), Home: 0, End: last };
    if (event.key === "Enter" || event.key === " ") this.#alternatives();
    else if (event.key in targets) this.#activate(Math.min(Math.max(targets[/** @type {keyof typeof targets} */ (event.key)], 0), last));
    else return;
    event.preventDefault();
  }

  /**
   * Returns the index of the token below or above the active one.
   * @param {number} direction
   */
  #line(direction) {
    const options = this.heat.children;
    const here = options[this.active]?.getBoundingClientRect();
    if (!here) return 0;
    let best = this.active;
    let top = here.top;
    for (let index = this.active + direction; index >= 0 && index < options.length; index += direction) {
      const box = options[index].getBoundingClientRect();
      if (Math.abs(box.top - here.top) < 4) continue;
      if (best !== this.active && Math.abs(box.top - top) >= 4) break;
      const nearer = Math.abs(box.left - here.left) < Math.abs(options[best].getBoundingClientRect().left - here.left);
      if (best === this.active || nearer) [best, top] = [index, box.top];
    }
    return best;
  }

  /** Returns the tokens of the text under the model and, if there is one, under the second model. */
  #table() {
    const slice = slicer(this.text);
    /** @type {import("../parts/export.js").Table} */
    const rows = [["model", "token", "start", "end", "surprisal_bits", "rank", "entropy_bits"]];
    for (const [name, found] of /** @type {[string, Scores | null][]} */ ([[this.model, this.found], [this.other ?? "", this.second]])) {
      for (const index of found?.starts.keys() ?? []) {
        const { starts, ends, surprisals, ranks, entropies } = /** @type {Scores} */ (found);
        const [start, end] = [starts[index], ends[index]];
        rows.push([name, slice(start, end), start, end, surprisals[index], ranks[index], entropies[index]]);
      }
    }
    return rows;
  }
}

customElements.define("lmzoo-surprise", Surprise);
