// Controls whose value is kept in the address: the prompt, and choices between a few possibilities.

import { el } from "../dom.js";
import { StateElement, read, write } from "../state.js";

export const DEFAULT_PROMPT = "the quick brown fox jumps over the";

/** Returns the prompt in the address. */
export function readPrompt() {
  return read("prompt", DEFAULT_PROMPT);
}

/** `<lmzoo-prompt>`: a field for the prompt. Attributes: `label`; `param`, the name in the address ("prompt"). */
class Prompt extends StateElement {
  parameter = "prompt";

  build() {
    this.parameter = this.getAttribute("param") ?? this.parameter;
    const type = (/** @type {Event} */ event) =>
      write({ [this.parameter]: /** @type {HTMLTextAreaElement} */ (event.target).value, own: null });
    this.append(el("label", { class: "prompt" }, el("span", {}, this.getAttribute("label") ?? "Prompt"),
      el("textarea", { rows: 1, maxlength: 20000, spellcheck: "false", autocapitalize: "off", oninput: type })));
  }

  update() {
    const field = /** @type {HTMLTextAreaElement} */ (this.querySelector("textarea"));
    const text = read(this.parameter, DEFAULT_PROMPT);
    if (field.value !== text) field.value = text;
  }
}

/**
 * Returns a group of radio buttons, whose choice is kept in the address.
 * @param {string} legend
 * @param {string} name of the value in the address
 * @param {[string, string][]} options pairs of a value and a title; the first one is the default
 * @returns {HTMLElement}
 */
export function choice(legend, name, options) {
  const group = /** @type {Choice} */ (document.createElement("lmzoo-choice"));
  group.legend = legend;
  group.name = name;
  group.options = options;
  return group;
}

class Choice extends StateElement {
  legend = "";
  name = "";
  /** @type {[string, string][]} */
  options = [];

  build() {
    const buttons = this.options.map(([value, title], index) => el("label", {},
      el("input", { type: "radio", name: this.name, value,
        onchange: () => write({ [this.name]: index ? value : null }) }), el("span", {}, title)));
    this.append(el("fieldset", { class: "choice" }, el("legend", {}, this.legend), ...buttons));
  }

  update() {
    const chosen = read(this.name, this.options[0][0]);
    for (const input of this.querySelectorAll("input")) input.checked = input.value === chosen;
  }
}

/**
 * Returns controls that are folded away on narrow screens, where they would fill the page.
 * @param {...Node} controls
 * @returns {HTMLElement}
 */
export function settings(...controls) {
  const wide = matchMedia("(width >= 40rem)");
  const part = el("details", { class: "settings", open: wide.matches }, el("summary", {}, "Settings"),
    el("div", {}, ...controls));
  wide.addEventListener("change", () => { part.open = wide.matches; });
  return part;
}

customElements.define("lmzoo-prompt", Prompt);
customElements.define("lmzoo-choice", Choice);
