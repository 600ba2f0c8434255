// The state of the page: it is kept in the query part of the address, so that a link shows the same to everybody. Texts
// that are too long for an address are kept in the history of the browser instead.

import { announce } from "./dom.js";

/** @type {Set<() => void>} */
const listeners = new Set();
const DELAY = 250; // Browsers ignore changes of the address that come too often, as while a slider is dragged.
const LONGEST = 30_000; // characters of an address; servers refuse much longer ones
const LONG = 1_000; // characters of the values that a longer address leaves out

let values = new URLSearchParams(history.state ?? location.search);
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
  return shortened(changed(changes));
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
  if (keep) history.pushState(...entry());
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

/** @param {URLSearchParams} parameters */
function shortened(parameters) {
  const address = `?${parameters}`;
  if (address.length <= LONGEST) return address;
  return `?${new URLSearchParams([...parameters].filter(([, value]) => value.length < LONG))}`;
}

/**
 * Returns an entry for the history of the browser, which keeps the values where they are too long for the address.
 * @returns {[string | null, string, string]}
 */
function entry() {
  const address = shortened(values);
  return [address === `?${values}` ? null : String(values), "", address];
}

function flush() {
  clearTimeout(timer);
  const [kept, , address] = entry();
  if (kept !== history.state || address !== location.search) history.replaceState(kept, "", address);
}

/** Tells all listeners that the state, or what it refers to, has changed. */
export function notify() {
  for (const listener of [...listeners]) listener();
}

window.addEventListener("popstate", () => {
  clearTimeout(timer);
  values = new URLSearchParams(history.state ?? location.search);
  notify();
});
window.addEventListener("pagehide", flush);
