// Attention as lines from each token to the tokens from which it takes.

import { el } from "../dom.js";
import { sheet } from "./charts.js";
import { svg } from "./svg.js";

const [HEIGHT, LEFT, RIGHT, WIDTH, TOP] = [22, 110, 290, 400, 48];
const MOST = 40; // tokens whose lines can be told apart; with more, only those of the chosen one are drawn

/**
 * Returns a drawing of one head: a line for each weight, bold for those of the chosen token.
 * @param {{text: string}[]} tokens
 * @param {Float32Array} weights (size, size) in row-major order
 * @param {number} chosen
 * @param {(index: number) => void} onpick
 * @returns {HTMLElement}
 */
export function lines(tokens, weights, chosen, onpick) {
  const size = tokens.length;
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${size * HEIGHT}`, class: "attention-lines", role: "img",
    "aria-label": "Lines of attention; the list below gives the weights of the chosen token." },
  ...drawn(tokens, weights, chosen));
  drawing.addEventListener("click", (event) => {
    const box = drawing.getBoundingClientRect();
    onpick(Math.floor((/** @type {MouseEvent} */ (event).clientY - box.top) / box.height * size));
  });
  return el("div", { class: "matrix" }, drawing);
}

/**
 * Returns the same drawing as a chart for a file.
 * @param {string} title
 * @param {{text: string}[]} tokens
 * @param {Float32Array} weights
 * @param {number} chosen
 */
export function linesChart(title, tokens, weights, chosen) {
  const chart = sheet(title, WIDTH, tokens.length * HEIGHT + TOP);
  chart.append(svg("g", { transform: `translate(0 ${TOP})`, stroke: "#0b57a4" }, ...drawn(tokens, weights, chosen)));
  for (const label of chart.querySelectorAll("g text")) label.setAttribute("stroke", "none");
  return chart;
}

/**
 * @param {{text: string}[]} tokens
 * @param {Float32Array} weights
 * @param {number} chosen
 */
function drawn(tokens, weights, chosen) {
  const size = tokens.length;
  const parts = [];
  for (let from = 0; from < size; from++) {
    const bold = from === chosen;
    if (size > MOST && !bold) continue;
    for (let to = 0; to <= from; to++) {
      const weight = weights[from * size + to];
      if (weight < 0.02) continue;
      parts.push(svg("line", { x1: LEFT + 4, x2: RIGHT - 4, y1: (from + 0.5) * HEIGHT, y2: (to + 0.5) * HEIGHT,
        class: bold ? "chosen" : "other", "stroke-width": bold ? 1 + 6 * weight : 1,
        "stroke-opacity": bold ? 0.25 + 0.75 * weight : 0.5 * weight }));
    }
  }
  tokens.forEach((token, index) => {
    for (const [x, anchor] of [[LEFT, "end"], [RIGHT, "start"]]) {
      parts.push(svg("text", { x, y: (index + 0.7) * HEIGHT, "text-anchor": anchor,
        class: index === chosen ? "chosen" : null }, token.text));
    }
  });
  return parts;
}
