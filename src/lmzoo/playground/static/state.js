// The state of the page: it is kept in the query part of the address, so that a link shows the same to everybody.

/** @type {Set<() => void>} */
const listeners = new Set();

/**
 * Returns a value of the state, or `fallback` if the address does not have it.
 * @param {string} name
 * @param {string} fallback
 */
export function read(name, fallback) {
  return new URLSearchParams(location.search).get(name) ?? fallback;
}

/**
 * Returns a number of the state, or `fallback` if the address does not have a finite one.
 * @param {string} name
 * @param {number} fallback
 */
export function readNumber(name, fallback) {
  const text = read(name, "");
  return text !== "" && Number.isFinite(Number(text)) ? Number(text) : fallback;
}

/**
 * Returns the address of the page with some values of the state changed; null removes a value.
 * @param {Record<string, string | number | null>} changes
 */
export function addressOf(changes) {
  const parameters = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null) parameters.delete(name);
    else parameters.set(name, String(value));
  }
  return `?${parameters}`;
}

/**
 * Changes values of the state in the address, and tells all listeners.
 * @param {Record<string, string | number | null>} changes
 * @param {{history?: boolean}} [options] `history` adds an entry to the browser's history, to which "back" returns
 */
export function write(changes, { history: keep = false } = {}) {
  history[keep ? "pushState" : "replaceState"](null, "", addressOf(changes));
  for (const listener of listeners) listener();
}

/**
 * Calls a function after each change of the state; returns a function that ends this.
 * @param {() => void} listener
 */
export function onChange(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}
