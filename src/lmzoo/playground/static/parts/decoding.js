// Temperature, top-k, top-p and min-p as sliders, and the seed of the random numbers.

import { el } from "../dom.js";
import { StateElement, readNumber, readWhole, write } from "../state.js";

/**
 * Settings in the order of their application: name in the address and in requests, title, smallest and largest value of
 * the slider, step, value without effect, explanation.
 * @type {[string, string, number, number, number, number, string][]}
 */
const SETTINGS = [
  ["temperature", "Temperature", 0, 2, 0.05, 1, "Divides the logits. Below 1, the distribution is sharper; above 1, it is flatter; with 0, the most likely token is always drawn."],
  ["top_k", "Top-k", 0, 50, 1, 0, "Keeps the k most likely tokens."],
  ["top_p", "Top-p", 0.05, 1, 0.01, 1, "Keeps the smallest set of most likely tokens whose total probability is at least this value."],
  ["min_p", "Min-p", 0, 0.5, 0.01, 0, "Keeps the tokens whose probability is at least this fraction of the largest one."],
];

/**
 * Returns the settings of decoding in the address, as requests take them.
 * @returns {{temperature: number, top_k: number | null, top_p: number, min_p: number}}
 */
export function readDecoding() {
  return {
    temperature: Math.min(Math.max(readNumber("temperature", 1), 0), 100),
    top_k: Math.max(Math.round(readNumber("top_k", 0)), 0) || null,
    top_p: Math.min(Math.max(readNumber("top_p", 1), 0.001), 1),
    min_p: Math.min(Math.max(readNumber("min_p", 0), 0), 1),
  };
}

/** Returns the seed in the address, a whole number. */
export function readSeed() {
  return readWhole("seed", 0, Number.MAX_SAFE_INTEGER);
}

/** `<lmzoo-decoding>`: the sliders, the seed, and a button that resets them. */
class DecodingSliders extends StateElement {
  build() {
    const sliders = SETTINGS.map(([name, title, min, max, step, neutral, about]) => {
      const slide = (/** @type {Event} */ event) => {
        const value = Number(/** @type {HTMLInputElement} */ (event.target).value);
        write({ [name]: value === neutral ? null : value });
      };
      return el("label", { class: "slider", title: about }, el("span", {}, title),
        el("input", { type: "range", name, min, max, step, oninput: slide }), el("span", { class: "value", "aria-hidden": "true" }));
    });
    const seed = el("label", { class: "seed" }, el("span", {}, "Seed"),
      el("input", { type: "number", name: "seed", min: 0, step: 1, inputmode: "numeric", onchange: setSeed }));
    this.append(el("fieldset", { class: "decoding" }, el("legend", { class: "hidden" }, "Decoding"), ...sliders, seed,
      el("button", { type: "button", onclick: () => write({ seed: readSeed() + 1 }) }, "Next seed"),
      el("button", { type: "button", onclick: reset }, "Reset")));
  }

  update() {
    for (const [name, , , , , neutral] of SETTINGS) {
      const input = /** @type {HTMLInputElement} */ (this.querySelector(`[name=${name}]`));
      const value = readNumber(name, neutral);
      if (document.activeElement !== input || Number(input.value) !== value) input.value = String(value);
      const text = name === "top_k" && value === 0 ? "all" : String(value);
      input.setAttribute("aria-valuetext", text);
      /** @type {HTMLElement} */ (input.nextElementSibling).textContent = text;
    }
    const seed = /** @type {HTMLInputElement} */ (this.querySelector("[name=seed]"));
    if (document.activeElement !== seed) seed.value = String(readSeed());
  }
}

/** @param {Event} event */
function setSeed(event) {
  const value = Math.round(Number(/** @type {HTMLInputElement} */ (event.target).value));
  write({ seed: value > 0 && Number.isSafeInteger(value) ? value : null });
}

function reset() {
  write({ temperature: null, top_k: null, top_p: null, min_p: null, seed: null });
}

customElements.define("lmzoo-decoding", DecodingSliders);
