// Pictures as SVG elements.

/**
 * Returns a new SVG element.
 * @param {string} tag
 * @param {Record<string, string | number | null>} [attributes] null leaves an attribute out
 * @param {...(Node | string)} children
 * @returns {SVGElement}
 */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}
