// Attention as lines from each token to the tokens from which it takes.

import { el } from "../dom.js";

const SVG = "http://www.w3.org/2000/svg";
const [HEIGHT, LEFT, RIGHT, WIDTH] = [22, 110, 290, 400];

/**
 * Returns a drawing of one head: a line for each weight, bold for those of the chosen token.
 * @param {{text: string}[]} tokens
 * @param {Float32Array} weights (size, size) in row-major order
 * @param {number} size
 * @param {number} chosen
 * @param {(index: number) => void} onpick
 * @returns {HTMLElement}
 */
export function lines(tokens, weights, size, chosen, onpick) {
  const drawing = node("svg", { viewBox: `0 0 ${WIDTH} ${size * HEIGHT}`, class: "attention-lines", role: "img",
    "aria-label": "Lines of attention; the list below gives the weights of the chosen token." });
  for (let from = 0; from < size; from++) {
    if (size > 40 && from !== chosen) continue; // too many lines to tell apart
    for (let to = 0; to <= from; to++) {
      const weight = weights[from * size + to];
      if (weight < 0.02) continue;
      drawing.append(node("line", { x1: LEFT + 4, x2: RIGHT - 4, y1: (from + 0.5) * HEIGHT, y2: (to + 0.5) * HEIGHT,
        class: from === chosen ? "chosen" : "other", "stroke-width": from === chosen ? 1 + 6 * weight : 1, "stroke-opacity": from === chosen ? 0.25 + 0.75 * weight : 0.5 * weight }));
    }
  }
  for (const [index, token] of tokens.entries()) {
    for (const [x, anchor] of [[LEFT, "end"], [RIGHT, "start"]]) {
      const label = node("text", { x, y: (index + 0.7) * HEIGHT, "text-anchor": anchor, class: index === chosen ? "chosen" : "" });
      label.textContent = token.text;
      drawing.append(label);
    }
  }
  drawing.addEventListener("click", (event) => {
    const box = drawing.getBoundingClientRect();
    onpick(Math.floor((/** @type {MouseEvent} */ (event).clientY - box.top) / box.height * size));
  });
  return el("div", { class: "matrix" }, drawing);
}

/**
 * @param {string} tag
 * @param {Record<string, string | number>} attributes
 */
function node(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  return element;
}
