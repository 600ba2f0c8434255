// Builds elements. Text is always set as text, never as HTML, so that texts from users and models can do no harm.

/** Returns at the next frame, so that the page can react in between; in a hidden page, where there are none, soon. */
export function nextFrame() {
  return new Promise((resolve) => {
    requestAnimationFrame(resolve);
    setTimeout(resolve, 100);
  });
}

const SHOWN = 15_000; // milliseconds for which an announcement stays

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
 * Makes elements the children of a parent, unless they are already. The focus stays where it is.
 * @param {HTMLElement} parent
 * @param {HTMLElement[]} children
 */
export function setChildren(parent, children) {
  const same = children.length === parent.childElementCount
    && children.every((child, index) => parent.children[index] === child);
  if (same) return;
  const focused = /** @type {HTMLElement | null} */ (document.activeElement);
  parent.replaceChildren(...children);
  if (focused && parent.contains(focused)) focused.focus();
}

let fading = 0;

/**
 * Announces a sentence to screen readers, and shows it below the view for some seconds.
 * @param {string} text
 */
export function announce(text) {
  const status = document.querySelector("#status");
  if (!status) return;
  clearTimeout(fading);
  fading = setTimeout(() => { status.textContent = ""; }, SHOWN);
  if (status.textContent !== text) status.textContent = text;
}
