// Controls whose value is kept in the address: texts, and choices between a few possibilities.

import { el } from "../dom.js";
import { StateElement, addressOf, read, write } from "../state.js";

export const DEFAULT_PROMPT = "the quick brown fox jumps over the";

/** Returns the prompt in the address. */
export function readPrompt() {
  return read("prompt", DEFAULT_PROMPT);
}

/**
 * Returns a field whose text is kept in the address.
 * @param {string} label
 * @param {string} name of the value in the address
 * @param {string} fallback the text if the address has none
 * @param {{rows?: number, resets?: string[]}} [options] `resets` are values that a new text removes from the address
 * @returns {HTMLElement}
 */
export function textField(label, name, fallback, { rows = 1, resets = [] } = {}) {
  const field = /** @type {TextField} */ (document.createElement("lmzoo-text-field"));
  Object.assign(field, { label, name, fallback, rows, resets });
  return field;
}

/** Returns the field of the prompt. */
export function promptField() {
  return textField("Prompt", "prompt", DEFAULT_PROMPT, { resets: ["own"] });
}

class TextField extends StateElement {
  label = "";
  name = "";
  fallback = "";
  rows = 1;
  /** @type {string[]} */
  resets = [];

  build() {
    const type = () => write({ [this.name]: this.field.value, ...Object.fromEntries(this.resets.map((name) => [name, null])) });
    this.field = el("textarea", {
      rows: this.rows, maxlength: 20000, dir: "auto", spellcheck: "false", autocapitalize: "off", oninput: type });
    this.append(el("label", { class: "prompt" }, el("span", {}, this.label), this.field));
  }

  update() {
    const text = read(this.name, this.fallback);
    if (this.field.value !== text) this.field.value = text;
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
 * Returns a link that changes values of the address.
 * @param {Record<string, string | number | null>} changes
 * @param {...(Node | string)} children
 * @returns {HTMLElement}
 */
export function stateLink(changes, ...children) {
  const go = (/** @type {MouseEvent} */ event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return; // The browser opens another tab or window.
    event.preventDefault();
    write(changes, { history: true });
  };
  return el("a", { href: addressOf(changes), onclick: go }, ...children);
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

/**
 * Returns a menu below a button. Escape closes it, and so does a click or the focus outside.
 * @param {HTMLElement} button a `summary`
 * @param {HTMLElement} panel
 * @returns {any} a `details`
 */
export function menu(button, panel) {
  panel.tabIndex = -1; // It takes the focus, so that a click on a text in it does not count as leaving the menu.
  const close = (/** @type {KeyboardEvent} */ event) => {
    if (event.key !== "Escape" || !details.open) return;
    details.open = false;
    button.focus();
  };
  const leave = (/** @type {FocusEvent} */ event) => {
    const isInside = details.contains(/** @type {Node | null} */ (event.relatedTarget));
    if (!isInside && document.hasFocus()) details.open = false; // The focus of the window may have gone to another one.
  };
  const details = el("details", { class: "menu", onkeydown: close, onfocusout: leave }, button, panel);
  return details;
}

customElements.define("lmzoo-text-field", TextField);
customElements.define("lmzoo-choice", Choice);
