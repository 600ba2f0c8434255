// The view Tokens: one text as several tokenizers split it, and the merges of byte-pair encoding step by step.

import { newest, request } from "../api.js";
import { el, setChildren } from "../dom.js";
import { choice, menu, textField } from "../parts/controls.js";
import { requestSnippets } from "../parts/copy.js";
import { saveButtons } from "../parts/export.js";
import { MergeReplay } from "../parts/merges.js";
import { usableModels } from "../parts/models.js";
import { tokenNodes } from "../parts/tokens.js";
import { StateElement, read, write } from "../state.js";

/**
 * @typedef {import("../parts/tokens.js").ShownToken & {unknown: boolean, dropped: string}} TextToken
 * @typedef {{vocab_size: number, n_tokens: number, n_unknown: number, n_bytes: number, n_characters: number,
 *   tokens: TextToken[]}} SplitText
 * @typedef {{name: string, title: string, origin: string, kind: string}} ListedTokenizer
 */

const PATH = "/playground/tokens";
const EXAMPLE = "the quick brown fox jumps over the lazy dog.\nUnbelievable! In 2017, naïve Zoë said: “1,234.5 🦊”";
const KINDS = /** @type {Record<string, string>} */ (
  { char: "Characters", word: "Words", wordpiece: "Parts of words", bpe: "Byte pairs (BPE)", byte: "Bytes" });
const N_COLOURS = 5;

/** The card of one tokenizer. */
class TokenizerCard {
  /** @param {ListedTokenizer} tokenizer */
  constructor(tokenizer) {
    this.tokenizer = tokenizer;
    this.text = "";
    const id = `tokenizer-${tokenizer.name}`;
    this.facts = el("dl", { class: "figures" });
    this.tokens = el("p", { class: "tokens", tabindex: 0, role: "group", "aria-label": `Tokens of ${tokenizer.title}` });
    this.waiting = el("p", { class: "note" }, "Opening the tokenizer …");
    this.problem = el("p", { class: "error", hidden: true });
    this.replay = tokenizer.kind === "bpe" ? new MergeReplay(tokenizer.name) : null;
    this.element = el("article", { class: "card tokenizer", "aria-labelledby": id },
      el("header", {}, el("h2", { id }, KINDS[tokenizer.kind], " ", el("span", { class: "spec" }, tokenizer.title)),
        el("p", { class: "name" }, tokenizer.origin)), this.waiting, this.facts, this.problem,
      this.tokens,
      this.replay ? this.replay.element : null);
    this.ask = newest((signal) => request(PATH, { text: this.text, tokenizer: tokenizer.name }, signal));
  }

  /**
   * Splits a text; shows the last text with the tokens if it did not change.
   * @param {string} text
   * @param {string} show "text", "ids" or "both"
   */
  async update(text, show) {
    this.tokens.dataset.show = show;
    if (text === this.text && this.split) return;
    this.text = text;
    this.replay?.setText(text);
    try {
      const split = await this.ask();
      if (split) this.#show(split);
    } catch (error) {
      this.split = undefined;
      this.waiting.hidden = true;
      this.problem.textContent = /** @type {Error} */ (error).message;
      this.problem.hidden = false;
    }
  }

  /** @param {SplitText} split */
  #show(split) {
    this.split = split;
    this.waiting.hidden = true;
    this.problem.hidden = true;
    const perToken = (/** @type {number} */ n) => split.n_tokens ? (n / split.n_tokens).toFixed(2) : "–";
    const figures = [["tokens", split.n_tokens.toLocaleString("en")], ["bytes per token", perToken(split.n_bytes)],
      ["characters per token", perToken(split.n_characters)], ["vocabulary", split.vocab_size.toLocaleString("en")]];
    if (split.n_unknown) figures.push(["unknown", split.n_unknown.toLocaleString("en")]);
    this.facts.replaceChildren(...figures.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
    const nodes = split.tokens.flatMap((token, index) => [
      ...token.dropped ? [el("span", { class: "dropped", title: "belongs to no token" }, token.dropped)] : [],
      el("span", { class: `piece c${index % N_COLOURS}${token.unknown ? " unknown" : ""}`,
        title: `id ${token.id}${token.unknown ? ", not in the vocabulary" : ""}` },
        el("span", { class: "text" }, ...tokenNodes(token)), el("span", { class: "id" }, token.id)),
      ...token.text.endsWith("⏎") ? [el("br")] : [],
    ]);
    const more = split.n_tokens - split.tokens.length;
    if (more) nodes.push(el("span", { class: "note" }, ` … and ${more.toLocaleString("en")} more`));
    this.tokens.replaceChildren(...nodes);
  }
}

class Tokens extends StateElement {
  /** @type {Map<string, TokenizerCard>} */
  cards = new Map();
  nModels = -1;

  build() {
    const copy = el("lmzoo-copy");
    copy.snippets = () => requestSnippets(PATH, { text: read("text", EXAMPLE), tokenizer: this.#chosen()[0] });
    this.boxes = el("div", { class: "boxes" });
    this.count = el("summary", {}, "Tokenizers");
    this.grid = el("div", { class: "cards" });
    this.append(
      el("section", { class: "tools", "aria-label": "Text and settings" },
        textField("Text", "text", EXAMPLE, { rows: 2 }),
        el("div", { class: "bar" },
          menu(this.count, el("fieldset", {}, el("legend", { class: "hidden" }, "Tokenizers"), this.boxes)),
          choice("Show", "show", [["text", "text"], ["both", "text and ids"], ["ids", "ids"]]))),
      this.grid,
      el("p", { class: "row" }, copy, saveButtons("tokens", { table: () => this.#table() })));
  }

  async update() {
    await this.#list();
    const chosen = this.#chosen();
    for (const box of this.boxes.querySelectorAll("input")) box.checked = chosen.includes(box.value);
    this.count.textContent = `Tokenizers: ${chosen.length} of ${this.cards.size}`;
    const cards = chosen.map((name) => /** @type {TokenizerCard} */ (this.cards.get(name)));
    setChildren(this.grid, cards.map(({ element }) => element));
    for (const card of cards) card.update(read("text", EXAMPLE), read("show", "text"));
  }

  /** Lists the tokenizers of the server, again if models have been added. */
  async #list() {
    const nModels = (await usableModels()).length;
    if (nModels === this.nModels) return;
    /** @type {ListedTokenizer[]} */
    const tokenizers = await request("/playground/tokenizers");
    this.nModels = nModels;
    this.cards = new Map(tokenizers.map((one) => [one.name, this.cards.get(one.name) ?? new TokenizerCard(one)]));
    this.boxes.replaceChildren(...tokenizers.map(({ name, title, origin, kind }) => el("label", {},
      el("input", { type: "checkbox", value: name, onchange: () => this.#choose() }),
      `${KINDS[kind]}: ${title} (${origin})`)));
  }

  /** Returns the names of the tokenizers in the address; without any, all. */
  #chosen() {
    const names = read("tokenizers", "").split(",").filter((name) => this.cards.has(name));
    return names.length ? names : [...this.cards.keys()];
  }

  #choose() {
    const names = [...this.boxes.querySelectorAll("input:checked")].map((box) => /** @type {any} */ (box).value);
    write({ tokenizers: names.length && names.length < this.cards.size ? names.join(",") : null }, { history: true });
  }

  /** Returns the tokens of all shown tokenizers. */
  #table() {
    const rows = this.#chosen().flatMap((name) => (this.cards.get(name)?.split?.tokens ?? [])
      .map((token, index) => [name, index, token.id, token.text, token.unknown ? 1 : 0]));
    return [["tokenizer", "index", "id", "token", "unknown"], ...rows];
  }
}

customElements.define("lmzoo-tokens", Tokens);
