// Charts for files: dark on white, whatever the theme of the page is.

import { svg } from "./svg.js";

/**
 * Bars below each other: each has a label, a text at its end, and a length from 0 to 1; `before` is the length of a
 * paler bar behind it.
 * @typedef {{title: string, rows: {label: string, text: string, share: number, before?: number}[]}} Bars
 */

const [INK, BLUE, PALE, ORANGE] = ["#1c1c1a", "#0b57a4", "#bcd6f1", "#c2560a"];
const [ROW, MARGIN, LABEL, BAR, VALUE] = [20, 24, 150, 150, 90];

/**
 * Returns groups of bars in columns; all share one axis.
 * @param {string} title
 * @param {Bars[]} groups
 * @param {number} [nColumns]
 */
export function barChart(title, groups, nColumns = 3) {
  const width = LABEL + BAR + VALUE + 2 * 8;
  const height = (Math.max(0, ...groups.map(({ rows }) => rows.length)) + 3) * ROW;
  const columns = Math.min(nColumns, groups.length) || 1;
  const chart = sheet(title, columns * (width + MARGIN) + MARGIN, Math.ceil(groups.length / columns) * height + 2.5 * MARGIN);
  groups.forEach((group, index) => {
    const x = MARGIN + (index % columns) * (width + MARGIN);
    const y = 3 * MARGIN + Math.floor(index / columns) * height;
    chart.append(svg("text", { x, y, "font-weight": "bold" }, group.title));
    group.rows.forEach(({ label, text, share, before }, row) => {
      const top = y + (row + 1) * ROW;
      const bar = (/** @type {number} */ length, /** @type {string} */ fill) =>
        svg("rect", { x: x + LABEL + 8, y: top - 11, width: BAR * length, height: 12, fill });
      chart.append(svg("text", { x: x + LABEL, y: top, "text-anchor": "end" }, label));
      if (before !== undefined) chart.append(bar(before, PALE));
      chart.append(bar(share, BLUE), svg("text", { x: x + width, y: top, "text-anchor": "end" }, text));
    });
  });
  return chart;
}

/**
 * Returns a matrix in which darker cells are larger values; negative ones are orange.
 * @param {string} title
 * @param {string[]} rows
 * @param {string[]} columns may be empty, for columns without names
 * @param {Float32Array} values in row-major order
 */
export function matrixChart(title, rows, columns, values) {
  const nColumns = values.length / rows.length;
  const heads = columns.length ? LABEL : 0;
  const chart = sheet(title, LABEL + nColumns * ROW + 2 * MARGIN + 8, 3 * MARGIN + heads + rows.length * ROW);
  const [left, top] = [MARGIN + LABEL + 8, 2 * MARGIN + heads];
  columns.forEach((name, index) => {
    const [x, y] = [left + (index + 0.7) * ROW, top - 6];
    chart.append(svg("text", { x, y, transform: `rotate(-90 ${x} ${y})` }, name));
  });
  rows.forEach((name, index) =>
    chart.append(svg("text", { x: left - 8, y: top + (index + 0.7) * ROW, "text-anchor": "end" }, name)));
  const largest = values.reduce((peak, value) => Math.max(peak, Math.abs(value)), 1e-6);
  values.forEach((value, index) => {
    if (Math.abs(value) < 0.005 * largest) return;
    chart.append(svg("rect", {
      x: left + (index % nColumns) * ROW, y: top + Math.floor(index / nColumns) * ROW, width: ROW, height: ROW,
      fill: value < 0 ? ORANGE : BLUE, "fill-opacity": (Math.abs(value) / largest).toFixed(3),
    }));
  });
  chart.append(svg("rect", { x: left, y: top, width: nColumns * ROW, height: rows.length * ROW, fill: "none", stroke: PALE }));
  return chart;
}

/**
 * Returns a white sheet with a title.
 * @param {string} title
 * @param {number} width
 * @param {number} height
 */
export function sheet(title, width, height) {
  return svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "font-family": "sans-serif", "font-size": 13, fill: INK },
    svg("rect", { width: "100%", height: "100%", fill: "#ffffff" }),
    svg("text", { x: MARGIN, y: 1.25 * MARGIN, "font-size": 16 }, title));
}
