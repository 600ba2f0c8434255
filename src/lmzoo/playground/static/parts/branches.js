// The texts that were tried: back, forward, and a list of all branches.

import { el } from "../dom.js";
import { StateElement, read, write } from "../state.js";
import { menu, readPrompt } from "./controls.js";

/**
 * A text: the prompt, and for single models the ids of tokens that follow it, as JSON or "".
 * @typedef {{prompt: string, own: string, parent: Text | null, last: Text | null}} Text
 */

/** @type {Text[]} */
const texts = [];

/**
 * Returns the token ids that follow the prompt in the context of single models, by the name of the model.
 * @param {string} [text] the ids as JSON; those in the address without it
 * @returns {Record<string, number[]>}
 */
export function readOwn(text = read("own", "")) {
  try {
    const own = JSON.parse(text);
    const entries = Object.entries(own).filter(([, ids]) => Array.isArray(ids) && ids.every(Number.isSafeInteger));
    return Object.fromEntries(entries);
  } catch {
    return {};
  }
}

/**
 * Goes on to a longer text, and remembers the one before.
 * @param {string} prompt
 * @param {Record<string, number[]>} own
 * @param {{history?: boolean}} [options] without `history`, the browser's "back" does not return to the text before
 */
export function extend(prompt, own, { history = true } = {}) {
  const parent = current() ?? remember(readPrompt(), read("own", ""), null);
  const written = Object.keys(own).length ? JSON.stringify(own) : "";
  const child = texts.find((text) => text.parent === parent && text.prompt === prompt && text.own === written);
  parent.last = child ?? remember(prompt, written, parent);
  go(parent.last, history);
}

/** Returns to the text before the last token; false if there is none. */
export function back() {
  const parent = current()?.parent;
  if (parent) go(parent);
  return Boolean(parent);
}

/** @returns {Text | undefined} */
function current() {
  const [prompt, own] = [readPrompt(), read("own", "")];
  return texts.findLast((text) => text.prompt === prompt && text.own === own);
}

/**
 * @param {string} prompt
 * @param {string} own
 * @param {Text | null} parent
 */
function remember(prompt, own, parent) {
  /** @type {Text} */
  const text = { prompt, own, parent, last: null };
  texts.push(text);
  return text;
}

/**
 * @param {Text} text
 * @param {boolean} [history]
 */
function go(text, history = true) {
  if (text.parent) text.parent.last = text;
  write({ prompt: text.prompt, own: text.own || null }, { history });
}

/** @param {Text} text */
function caption(text) {
  const own = Object.entries(readOwn(text.own)).map(([name, ids]) => `${name} +${ids.length}`);
  return [text.prompt.length > 60 ? `…${text.prompt.slice(-60)}` : text.prompt, ...own].join(" · ");
}

/** `<lmzoo-branches>`: buttons that go back and forward, and a menu of the ends of all branches. */
class Branches extends StateElement {
  build() {
    this.backButton = el("button", { type: "button", onclick: back }, "Back");
    this.forwardButton = el("button", { type: "button", onclick: () => {
      const last = current()?.last;
      if (last) go(last);
    } }, "Forward");
    this.list = el("ul", { class: "plain" });
    this.summary = el("summary", {}, "Branches");
    this.menu = menu(this.summary, el("div", {}, this.list));
    this.append(el("span", { class: "row" }, this.backButton, this.forwardButton, this.menu));
  }

  update() {
    const here = current();
    this.backButton.setAttribute("aria-disabled", String(!here?.parent));
    this.forwardButton.setAttribute("aria-disabled", String(!here?.last));
    const ends = texts.filter((text) => !text.last);
    this.summary.textContent = `Branches: ${ends.length}`;
    this.list.replaceChildren(...ends.map((text) => el("li", {}, el("button", {
      type: "button", "aria-current": text === here ? "true" : null, onclick: () => this.#choose(text),
    }, caption(text)))));
    if (!ends.length) this.list.append(el("li", { class: "note" }, "Choose a token to begin a branch."));
  }

  /** @param {Text} text */
  #choose(text) {
    go(text);
    this.menu.open = false;
    this.summary.focus();
  }
}

customElements.define("lmzoo-branches", Branches);
