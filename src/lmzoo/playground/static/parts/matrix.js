// Matrices as pictures: rows are tokens, and darker cells are larger values.

import { el } from "../dom.js";

/**
 * @typedef {{rows: number, columns: number, row: number, causal?: boolean, signed?: boolean, names: {text: string}[],
 *   room: number, onpick: (row: number) => void}} Options `row` is marked; `causal` crosses out the cells above the
 *   diagonal; `signed` shows the sign as a colour; `room` is the width of the place for the picture in pixels
 */

const [SMALLEST, LARGEST, NARROW] = [5, 26, 9]; // sizes of a cell in pixels; those of units are narrow
const LETTER = 8; // width of a letter of a name

/**
 * Returns a picture of a matrix with the names of its rows. Choosing a row calls `onpick`.
 * @param {Float32Array} values in row-major order
 * @param {Options} options
 * @returns {HTMLElement}
 */
export function matrix(values, { rows, columns, row, causal = false, signed = false, names, room, onpick }) {
  const free = room - LETTER * (Math.max(...names.map(({ text }) => text.length)) + 2);
  const cell = Math.min(Math.max(Math.floor(free / columns), SMALLEST), causal ? LARGEST : NARROW);
  const height = causal ? cell : Math.max(6, Math.min(24, Math.floor(420 / rows)));
  const canvas = el("canvas", { role: "img", "aria-label": "A matrix; the list below gives its values for the chosen token.",
    width: columns * cell * 2, height: rows * height * 2 });
  canvas.style.width = `${columns * cell}px`;
  canvas.style.height = `${rows * height}px`;
  paint(canvas, values, { rows, columns, cell: 2 * cell, height: 2 * height, row, causal, signed });
  canvas.addEventListener("click", (/** @type {MouseEvent} */ event) => onpick(Math.floor(event.offsetY / height)));
  if (height < 14) return el("div", { class: "matrix" }, canvas);
  const labels = el("div", { class: "labels", "aria-hidden": "true" }, ...names.map((name, index) => {
    const label = el("span", { class: index === row ? "chosen" : null }, name.text);
    label.style.height = label.style.lineHeight = `${height}px`;
    return label;
  }));
  const heads = causal ? el("div", { class: "heads-of-columns", "aria-hidden": "true" }, ...names.map((name) => {
    const head = el("span", {}, name.text);
    head.style.width = head.style.lineHeight = `${cell}px`;
    return head;
  })) : null;
  return el("div", { class: "matrix" }, heads, labels, canvas);
}

/**
 * Returns a small picture of a square causal matrix.
 * @param {Float32Array} values
 * @param {number} size
 * @returns {HTMLCanvasElement}
 */
export function thumbnail(values, size) {
  const cell = Math.max(1, Math.floor(112 / size));
  const canvas = el("canvas", { width: size * cell, height: size * cell, "aria-hidden": "true" });
  paint(canvas, values, { rows: size, columns: size, cell, height: cell, row: -1, causal: false, signed: false });
  return canvas;
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {Float32Array} values
 * @param {{rows: number, columns: number, cell: number, height: number, row: number, causal: boolean, signed: boolean}} options
 */
function paint(canvas, values, { rows, columns, cell, height, row, causal, signed }) {
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const style = getComputedStyle(document.documentElement);
  const colours = Object.fromEntries(["--ink", "--line", "--cell-plus", "--cell-minus"].map((name) => [name, colour(style.getPropertyValue(name))]));
  const largest = signed ? values.reduce((peak, value) => Math.max(peak, Math.abs(value)), 1e-6) : 1;
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) {
      if (causal && c > r) {
        context.globalAlpha = 0.8;
        context.lineWidth = 2;
        context.strokeStyle = colours["--line"];
        context.beginPath();
        context.moveTo(c * cell + cell * 0.3, r * height + height * 0.3);
        context.lineTo(c * cell + cell * 0.7, r * height + height * 0.7);
        context.stroke();
        continue;
      }
      const value = values[r * columns + c];
      context.globalAlpha = Math.min(Math.abs(value) / largest, 1);
      context.fillStyle = value < 0 ? colours["--cell-minus"] : colours["--cell-plus"];
      context.fillRect(c * cell, r * height, cell, height);
    }
  }
  if (row < 0) return;
  context.globalAlpha = 1;
  context.strokeStyle = colours["--ink"];
  context.lineWidth = 3;
  context.strokeRect(1.5, row * height + 1.5, (causal ? row + 1 : columns) * cell - 3, height - 3);
}

/**
 * Returns the current value of a colour that depends on the theme.
 * @param {string} value
 */
function colour(value) {
  const probe = el("span", { hidden: true });
  probe.style.color = value;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}
