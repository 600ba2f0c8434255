// The state of the page: it is kept in the query part of the address, so that a link shows the same to everybody.

import { announce } from "./dom.js";

/** @type {Set<() => void>} */
const listeners = new Set();
const DELAY = 250; // Browsers ignore changes of the address that come too often, as while a slider is dragged.

let values = new URLSearchParams(location.search);
let timer = 0;

/**
 * Returns a value of the state, or `fallback` if the state does not have it.
 * @param {string} name
 * @param {string} fallback
 */
export function read(name, fallback) {
  return values.get(name) ?? fallback;
}

/**
 * Returns a number of the state, or `fallback` if the state does not have a finite one.
 * @param {string} name
 * @param {number} fallback
 */
export function readNumber(name, fallback) {
  const text = read(name, "");
  return text !== "" && Number.isFinite(Number(text)) ? Number(text) : fallback;
}

/**
 * Returns a number of the state as a whole number from `low` to `high`, or `low` if the state does not have it.
 * @param {string} name
 * @param {number} low
 * @param {number} high
 */
export function readWhole(name, low, high) {
  return Math.min(Math.max(Math.round(readNumber(name, low)), low), high);
}

/**
 * Returns the address of the page with some values of the state changed; null removes a value.
 * @param {Record<string, string | number | null>} changes
 */
export function addressOf(changes) {
  return `?${changed(changes)}`;
}

/**
 * Changes values of the state, and tells all listeners. The address follows a moment later.
 * @param {Record<string, string | number | null>} changes
 * @param {{history?: boolean}} [options] `history` adds an entry to the browser's history, to which "back" returns
 */
export function write(changes, { history: keep = false } = {}) {
  if (keep) flush();
  values = changed(changes);
  clearTimeout(timer);
  if (keep) history.pushState(null, "", `?${values}`);
  else timer = setTimeout(flush, DELAY);
  notify();
}

/**
 * Calls a function after each change of the state; returns a function that ends this.
 * @param {() => void} listener
 */
export function onChange(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/**
 * An element that is built once, by `build`, and whose `update` is called then and after each change of the state.
 * The page shows the message of an error that they raise.
 */
export class StateElement extends HTMLElement {
  /** @type {() => void} */
  #end = () => {};
  #built = false;

  async connectedCallback() {
    const update = async () => {
      try {
        await this.update();
      } catch (error) {
        announce(/** @type {Error} */ (error).message);
      }
    };
    if (!this.#built) this.build();
    this.#built = true;
    this.#end = onChange(update);
    await update();
  }

  disconnectedCallback() {
    this.#end();
  }

  /** Creates the children of the element. */
  build() {}

  /**
   * Shows the current state.
   * @returns {void | Promise<void>}
   */
  update() {}
}

/** @param {Record<string, string | number | null>} changes */
function changed(changes) {
  const parameters = new URLSearchParams(values);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null) parameters.delete(name);
    else parameters.set(name, String(value));
  }
  return parameters;
}

function flush() {
  clearTimeout(timer);
  if (`?${values}` !== location.search) history.replaceState(null, "", `?${values}`);
}

/** Tells all listeners that the state, or what it refers to, has changed. */
export function notify() {
  for (const listener of [...listeners]) listener();
}

window.addEventListener("popstate", () => {
  clearTimeout(timer);
  values = new URLSearchParams(location.search);
  notify();
});
window.addEventListener("pagehide", flush);
