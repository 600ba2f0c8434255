// The merges of byte-pair encoding on a text, replayed step by step.

import { newest, request } from "../api.js";
import { el } from "../dom.js";
import { tokenNodes } from "./tokens.js";

/**
 * @typedef {import("./tokens.js").ShownToken} ShownToken
 * @typedef {ShownToken & {word: number}} WordPart
 * @typedef {{rank: number, left: ShownToken, right: ShownToken, token: ShownToken, at: number[]}} MergeStep
 */

const PAUSE = 700; // milliseconds from one step to the next
const LONGEST = 1000; // characters of a text whose merges the server replays

/** A part of a card that shows the merges of one tokenizer; they are requested when it is opened. */
export class MergeReplay {
  /** @param {string} tokenizer name of the tokenizer */
  constructor(tokenizer) {
    this.text = "";
    this.loaded = "";
    /** @type {WordPart[][]} */
    this.states = [];
    /** @type {MergeStep[]} */
    this.steps = [];
    this.timer = 0;
    this.slider = el("input", { type: "range", min: 0, step: 1, "aria-label": "Step",
      oninput: () => { this.#pause(); this.#show(); } });
    this.playButton = el("button", { type: "button", onclick: () => this.timer ? this.#pause() : this.#play() }, "Play");
    this.rule = el("p", { class: "rule" });
    this.parts = el("p", { class: "tokens", "data-show": "text" });
    const step = (/** @type {number} */ by) => () => { this.#pause(); this.#go(by); };
    this.element = el("details", { class: "merges", ontoggle: () => this.#load() }, el("summary", {}, "Replay the merges"),
      el("div", { class: "row" }, el("button", { type: "button", onclick: step(-1) }, "Back"),
        el("button", { type: "button", onclick: step(1) }, "Step"), this.playButton, this.slider), this.rule, this.parts);
    this.ask = newest((signal) => request("/playground/merges", { text: this.text, tokenizer }, signal));
  }

  /** @param {string} text */
  setText(text) {
    this.text = text.slice(0, LONGEST);
    this.#load();
  }

  async #load() {
    if (!this.element.open) return this.#pause();
    if (this.loaded === this.text && this.states.length) return;
    this.#pause();
    this.loaded = this.text;
    try {
      const answer = await this.ask();
      if (!answer) return;
      this.steps = answer.steps;
      this.states = [answer.start];
      for (const step of this.steps) this.states.push(merged(/** @type {WordPart[]} */ (this.states.at(-1)), step));
      this.slider.max = this.steps.length;
      this.slider.value = 0;
      this.#show();
    } catch (error) {
      this.states = [];
      this.parts.replaceChildren();
      this.rule.textContent = /** @type {Error} */ (error).message;
    }
  }

  /** @param {number} by */
  #go(by) {
    this.slider.value = Number(this.slider.value) + by;
    this.#show();
  }

  #play() {
    if (Number(this.slider.value) >= this.steps.length) this.slider.value = 0;
    this.playButton.textContent = "Pause";
    this.timer = setInterval(() => {
      this.#go(1);
      if (Number(this.slider.value) >= this.steps.length || !this.element.isConnected) this.#pause();
    }, PAUSE);
  }

  #pause() {
    clearInterval(this.timer);
    this.timer = 0;
    this.playButton.textContent = "Play";
  }

  #show() {
    const index = Number(this.slider.value);
    const step = this.steps[index - 1];
    const parts = this.states[index] ?? [];
    this.slider.setAttribute("aria-valuetext", `step ${index} of ${this.steps.length}`);
    this.rule.replaceChildren(`Step ${index} of ${this.steps.length}, ${parts.length} tokens`,
      ...step ? [": ", named(step.left), " + ", named(step.right), " → ", named(step.token),
        ` (rule ${(step.rank + 1).toLocaleString("en")})`] : [""]);
    this.parts.replaceChildren(...parts.map((part, place) => {
      const isNew = step && part.id === step.token.id;
      const first = place > 0 && part.word !== parts[place - 1].word;
      return el("span", { class: `piece c${part.word % 5}${isNew ? " new" : ""}${first ? " first" : ""}` },
        el("span", { class: "text" }, ...tokenNodes(part)));
    }));
  }
}

/**
 * Returns the parts of a text after one merge.
 * @param {WordPart[]} parts
 * @param {MergeStep} step
 */
function merged(parts, step) {
  const result = [...parts];
  for (const index of step.at.toReversed()) result.splice(index, 2, { ...step.token, word: parts[index].word });
  return result;
}

/** @param {ShownToken} token */
function named(token) {
  return el("span", { class: "token" }, ...tokenNodes(token));
}
