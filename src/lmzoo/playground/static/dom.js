// Builds elements. Text is always set as text, never as HTML, so that texts from users and models can do no harm.

/**
 * Returns a new element.
 * @param {string} tag
 * @param {Record<string, any>} [properties] attributes; functions are event listeners by the name of the event, such as
 *   `onclick`; null, undefined and false leave an attribute out, true sets it without a value
 * @param {...(Node | string | number | null)} children
 * @returns {any}
 */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, String(value));
  }
  element.append(...children.filter((child) => child !== null).map((child) => /** @type {any} */ (child)));
  return element;
}

/**
 * Announces a sentence to screen readers, and shows it below the view.
 * @param {string} text
 */
export function announce(text) {
  const status = document.querySelector("#status");
  if (status && status.textContent !== text) status.textContent = text;
}
