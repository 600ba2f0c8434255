// The view "Surprise": a text coloured by how much each token surprised a model, or by the difference of two models.

import { newest, request } from "../api.js";
import { announce, el } from "../dom.js";
import { slicer } from "../parts/characters.js";
import { chosenModel, modelChoice } from "../parts/choice.js";
import { choice } from "../parts/controls.js";
import { requestSnippets } from "../parts/copy.js";
import { csv, download } from "../parts/export.js";
import { listModels } from "../parts/models.js";
import { tokenNodes, visible } from "../parts/tokens.js";
import { StateElement, addressOf, read, write } from "../state.js";

/**
 * @typedef {{starts: number[], ends: number[], surprisals: number[], ranks: number[], entropies: number[],
 *   n_tokens: number, vocab_size: number, lossless: boolean}} Scores
 * @typedef {{start: number, end: number, first: number, last: number, other: [number, number] | null, value: number}}
 *   Segment a part of the text: its characters, its tokens under the model and, with a second model, under that
 */

const DEFAULT_TEXT = "In the beginning God created the heaven and the earth. " +
  "And the earth was without form, and void; and darkness was upon the face of the deep. " +
  "And the spaceship of the astronauts landed upon the face of the moon.";
const FAMILIES = ["transformer", "gpt2", "transformer-2017", "lstm", "ngram"];
const CHUNK = 250; // tokens that are shown at a time, so that the page stays responsive

/**
 * Upper bounds of the levels of colour for each quantity, with their names.
 * @type {Record<string, {unit: string, bounds: number[], names: string[]}>}
 */
const SCALES = {
  bits: { unit: "bits", bounds: [1, 2, 4, 6, 9, 13], names: ["up to 1 bit", "2", "4", "6", "9", "13", "more"] },
  rank: { unit: "rank", bounds: [1, 10, 100, 1000], names: ["first guess", "top 10", "top 100", "top 1,000", "beyond"] },
  entropy: { unit: "bits", bounds: [1, 2, 4, 6, 8, 10], names: ["sure: up to 1 bit", "2", "4", "6", "8", "10", "unsure: more"] },
  difference: { unit: "bits", bounds: [-6, -3, -1, 1, 3, 6], names: [
    "this model better by 6 bits", "3", "1", "alike", "1", "3", "the other better by 6 bits"] },
};

/** @type {Map<string, Promise<Scores>>} */
const known = new Map();

/**
 * Returns the scores of a text under a model; the last ones are remembered.
 * @param {string} model
 * @param {string} text
 */
function scores(model, text) {
  const key = JSON.stringify([model, text]);
  let found = known.get(key);
  if (!found) {
    found = request("/playground/surprise", { model, text });
    found.catch(() => known.delete(key));
    known.set(key, found);
    if (known.size > 100) known.delete(/** @type {string} */ (known.keys().next().value));
  }
  return found;
}

/** @param {number[]} values */
const sum = (values) => values.reduce((total, value) => total + value, 0);

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
  active = 0;
  shown = "";
  drawing = 0;

  build() {
    const type = () => write({ text: this.field.value });
    this.field = el("textarea", { rows: 4, maxlength: 20000, spellcheck: "false", oninput: type });
    const copy = el("lmzoo-copy");
    copy.snippets = () => requestSnippets("/playground/surprise", { model: this.model, text: this.text });
    this.legend = el("ul", { class: "legend", "aria-label": "Meaning of the colours" });
    this.heat = el("div", {
      class: "heat", role: "listbox", tabindex: 0, "aria-label": "Tokens of the text", "aria-busy": "true",
      onclick: (/** @type {Event} */ event) => this.#click(event), onkeydown: (/** @type {KeyboardEvent} */ event) => this.#key(event),
    });
    this.details = el("section", { class: "details", "aria-label": "The chosen token" });
    this.eras = el("section", { class: "eras", "aria-label": "All models on this text" });
    this.note = el("p", { class: "note" });
    this.problem = el("p", { class: "error", hidden: true });
    this.append(
      el("h2", { class: "hidden" }, "Surprise"),
      el("label", { class: "prompt" }, el("span", {}, "Text"), this.field),
      el("div", { class: "row" }, modelChoice("Model", "model", FAMILIES), modelChoice("Difference to", "other", []),
        choice("Colour by", "colour", [["bits", "Surprisal"], ["rank", "Rank"], ["entropy", "Entropy"]]), copy,
        el("button", { type: "button", "aria-label": "Save as CSV", onclick: () => this.#save(",") }, "CSV"),
        el("button", { type: "button", "aria-label": "Save as TSV", onclick: () => this.#save("\t") }, "TSV")),
      this.problem, this.legend,
      el("div", { class: "beside" }, el("div", {}, this.heat, this.note), this.details), this.eras);
  }

  update() {
    this.text = read("text", DEFAULT_TEXT);
    if (this.field.value !== this.text) this.field.value = this.text;
    const state = JSON.stringify([this.text, read("model", ""), read("other", ""), read("colour", "bits")]);
    if (state === this.shown) return;
    this.shown = state;
    this.refresh();
  }

  /** @param {AbortSignal} signal */
  async #read(signal) {
    try {
      const [model, other] = await Promise.all([chosenModel("model", FAMILIES), chosenModel("other", [])]);
      if (!model) throw new Error("The server has no model that can be loaded.");
      const text = this.text;
      const [found, second] = await Promise.all([scores(model.name, text), other ? scores(other.name, text) : null]);
      if (signal.aborted) return;
      Object.assign(this, { model: model.name, found, second, other: other?.name });
      this.problem.hidden = true;
      await this.#draw();
      await this.#compareEras();
    } catch (error) {
      if (signal.aborted) return;
      this.problem.textContent = /** @type {Error} */ (error).message;
      this.problem.hidden = false;
    }
  }

  async #draw() {
    const mine = ++this.drawing;
    const { text, found, second } = this;
    const quantity = second ? "difference" : read("colour", "bits");
    const scale = SCALES[quantity];
    const slice = slicer(text);
    this.segments = segmentsOf(found, second, quantity);
    const length = Math.min(found.ends.at(-1) ?? 0, second?.ends.at(-1) ?? Infinity);
    const cut = found.n_tokens > found.starts.length ? ` The text has ${found.n_tokens.toLocaleString("en")} tokens; the first ${found.starts.length.toLocaleString("en")} are shown.` : "";
    const total = sum(found.surprisals);
    this.note.textContent = `${this.model}: ${found.starts.length.toLocaleString("en")} tokens, ${total.toFixed(1)} bits, ` +
      `${(total / Math.max(length, 1)).toFixed(2)} bits per character.${cut}`;
    this.legend.replaceChildren(...scale.names.map((name, level) =>
      el("li", {}, el("span", { class: `swatch ${quantity} level-${level}`, "aria-hidden": "true" }, " "), name)));
    this.heat.setAttribute("aria-busy", "true");
    this.active = Math.min(this.active, Math.max(this.segments.length - 1, 0));
    let end = 0;
    for (let start = 0; start === 0 || start < this.segments.length; start += CHUNK) {
      const part = document.createDocumentFragment();
      for (const [offset, segment] of this.segments.slice(start, start + CHUNK).entries()) {
        if (segment.start > end) part.append(slice(end, segment.start));
        end = Math.max(end, segment.end);
        const level = scale.bounds.filter((bound) => (quantity === "difference" ? segment.value >= bound : segment.value > bound)).length;
        const shown = slice(segment.start, segment.end) || "∅";
        part.append(el("span", {
          id: `token-${start + offset}`, role: "option", class: `${quantity} level-${level}`, "aria-selected": "false",
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
      rows.push(["surprisal", `${bits.toFixed(2)} bits (probability ${percent(2 ** -bits)})`],
        ["rank", `${found.ranks[index].toLocaleString("en")} of ${found.vocab_size.toLocaleString("en")}`],
        ["entropy", `${found.entropies[index].toFixed(2)} bits`]);
    }
    if (second && segment.other) {
      const bits = (/** @type {Scores} */ scored, /** @type {number} */ first, /** @type {number} */ last) => sum(scored.surprisals.slice(first, last + 1));
      rows.splice(0, rows.length, [this.model, `${bits(found, segment.first, segment.last).toFixed(2)} bits`],
        [this.other ?? "", `${bits(second, ...segment.other).toFixed(2)} bits`], ["difference", `${segment.value.toFixed(2)} bits`]);
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
        el("ol", { class: "bars" }, ...items.map((item) => this.#bar(item, before, largest, item.rank === answer.token.rank))),
        el("p", { class: "note" }, "Choose one to go on from it in the view Predict."));
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
  #bar(item, before, largest, observed) {
    const bar = el("span", { class: "fill", "aria-hidden": "true" });
    bar.style.width = `${100 * item.prob / largest}%`;
    const name = el("span", { class: "token" }, ...tokenNodes(item));
    const changes = { view: "predict", prompt: before + item.adds, own: null };
    const go = (/** @type {Event} */ event) => {
      event.preventDefault();
      write(changes, { history: true });
    };
    return el("li", { value: item.rank, class: observed ? "observed" : null },
      item.adds === null ? name : el("a", { href: addressOf(changes), onclick: go }, name),
      el("span", { class: "track" }, bar), el("span", { class: "number" }, percent(item.prob)),
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

  async #compareEras() {
    const { text } = this;
    const models = (await listModels()).filter((model) => !model.error);
    const characters = Array.from(text).length;
    const rows = models.map((model) => {
      const bar = el("span", { class: "fill", "aria-hidden": "true" });
      const number = el("span", { class: "number" }, "…");
      const choose = () => write({ model: model.name }, { history: true });
      const name = el("button", { type: "button", "aria-pressed": String(model.name === this.model), onclick: choose },
        model.year === null ? model.name : `${model.year} ${model.name}`);
      return { model, bar, number, item: el("li", {}, name, el("span", { class: "track" }, bar), number) };
    });
    this.eras.replaceChildren(el("h3", {}, "Bits per character of this text"), el("ol", { class: "bars plain" }, ...rows.map((row) => row.item)),
      el("p", { class: "note" }, "A model whose tokenizer has an unknown word does not account for all characters, so it has no figure."));
    let largest = 8;
    for (const { model, bar, number } of characters ? rows : []) {
      try {
        const found = await scores(model.name, text);
        if (text !== this.text) return;
        if (!found.lossless) number.textContent = "unknown words";
        else if (found.starts.length < found.n_tokens) number.textContent = "text too long";
        else {
          const bits = sum(found.surprisals) / characters;
          largest = Math.max(largest, bits);
          bar.style.width = `${100 * bits / largest}%`;
          number.textContent = bits.toFixed(2);
        }
      } catch (error) {
        number.textContent = /** @type {Error} */ (error).message;
      }
    }
  }

  /** @param {string} separator */
  #save(separator) {
    const slice = slicer(this.text);
    /** @type {(string | number | null)[][]} */
    const rows = [["model", "token", "start", "end", "surprisal_bits", "rank", "entropy_bits"]];
    /** @type {[string, Scores | null][]} */
    const parts = [[this.model, this.found], [this.other ?? "", this.second]];
    for (const [name, found] of parts) {
      if (!found) continue;
      for (const index of found.starts.keys()) {
        const [start, end] = [found.starts[index], found.ends[index]];
        rows.push([name, slice(start, end), start, end, found.surprisals[index], found.ranks[index], found.entropies[index]]);
      }
    }
    if (separator === ",") download("surprisal.csv", csv(rows), "text/csv");
    else {
      const cells = rows.map((row) => row.map((cell) => String(cell).replaceAll("\\", "\\\\").replaceAll("\t", "\\t").replaceAll("\n", "\\n")));
      download("surprisal.tsv", cells.map((row) => row.join("\t")).join("\n") + "\n", "text/tab-separated-values");
    }
  }
}

/** @param {number} share */
function percent(share) {
  return share >= 0.001 ? `${(100 * share).toFixed(1)} %` : `${(100 * share).toPrecision(1)} %`;
}

/**
 * Divides a text into its tokens. Tokens that share a character form one segment; with a second model, a segment ends
 * where a token ends under both models.
 * @param {Scores} found
 * @param {Scores | null} second
 * @param {string} quantity
 * @returns {Segment[]}
 */
function segmentsOf(found, second, quantity) {
  /** @type {Segment[]} */
  const segments = [];
  const { starts, ends, surprisals, ranks, entropies } = found;
  const limit = second ? Math.min(ends.at(-1) ?? 0, second.ends.at(-1) ?? 0) : Infinity;
  /** @type {Map<number, number>} */
  const otherStarts = new Map();
  for (const [index, start] of second?.starts.entries() ?? []) if (!otherStarts.has(start)) otherStarts.set(start, index);
  for (let index = 0; index < starts.length && starts[index] < limit; index++) {
    const previous = segments.at(-1);
    const begins = !previous || (starts[index] >= previous.end && (!second || otherStarts.has(starts[index])));
    if (begins) segments.push({ start: starts[index], end: ends[index], first: index, last: index, other: null, value: 0 });
    else Object.assign(previous, { end: Math.max(previous.end, ends[index]), last: index });
  }
  for (const [index, segment] of segments.entries()) {
    const { first, last } = segment;
    if (second) {
      const next = segments[index + 1];
      const from = otherStarts.get(segment.start) ?? 0;
      const to = next ? (otherStarts.get(next.start) ?? 0) - 1 : second.starts.length - 1;
      segment.other = [from, to];
      segment.value = sum(surprisals.slice(first, last + 1)) - sum(second.surprisals.slice(from, to + 1));
    } else if (quantity === "rank") segment.value = Math.max(...ranks.slice(first, last + 1));
    else if (quantity === "entropy") segment.value = entropies[first];
    else segment.value = sum(surprisals.slice(first, last + 1));
  }
  return segments;
}

customElements.define("lmzoo-surprise", Surprise);
