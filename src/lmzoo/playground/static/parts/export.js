// Files for the reader: tables as comma-separated values, and charts as pictures.

import { announce, el } from "../dom.js";

/** @typedef {(string | number | null)[][]} Table rows of cells, the names of the columns first */

/**
 * Returns buttons that save what a view shows.
 * @param {string} name of the files, without their suffix
 * @param {{table?: () => Table, tabs?: boolean, chart?: () => SVGElement}} contents `tabs` also offers the table with
 *   tabulators between the cells
 */
export function saveButtons(name, { table, tabs = false, chart }) {
  const button = (/** @type {string} */ format, /** @type {() => void} */ save) =>
    el("button", { type: "button", "aria-label": `Save as ${format}`, onclick: save }, format);
  const buttons = [];
  if (table) buttons.push(button("CSV", () => download(`${name}.csv`, csv(table()), "text/csv")));
  if (table && tabs) buttons.push(button("TSV", () => download(`${name}.tsv`, tsv(table()), "text/tab-separated-values")));
  if (chart) {
    buttons.push(button("SVG", () => download(`${name}.svg`, svgText(chart()), "image/svg+xml")),
      button("PNG", () => downloadPng(`${name}.png`, chart())));
  }
  return el("span", { class: "save", role: "group", "aria-label": `Save ${name.replaceAll("_", " ")}` }, el("span", { "aria-hidden": "true" }, "Save as"), ...buttons);
}

/**
 * Saves a file of the reader.
 * @param {string} name
 * @param {string | Blob} content
 * @param {string} type media type, such as "text/csv"
 */
function download(name, content, type) {
  const address = URL.createObjectURL(new Blob([content], { type }));
  el("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
  announce(`${name} was saved.`);
}

/**
 * Returns rows of cells as comma-separated values (RFC 4180).
 * @param {Table} rows
 */
function csv(rows) {
  const cell = (/** @type {string | number | null} */ value) => {
    const text = value === null ? "" : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return rows.map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}

/**
 * Returns rows of cells as tab-separated values, in which tabulators and line ends of the cells are written as \t and \n.
 * @param {Table} rows
 */
function tsv(rows) {
  const cell = (/** @type {string | number | null} */ value) =>
    String(value ?? "").replaceAll("\\", "\\\\").replaceAll("\t", "\\t").replaceAll("\n", "\\n");
  return rows.map((row) => row.map(cell).join("\t")).join("\n") + "\n";
}

/** @param {SVGElement} chart */
function svgText(chart) {
  return new XMLSerializer().serializeToString(chart);
}

/**
 * Saves a chart as a picture of twice its size, so that it stays sharp in print.
 * @param {string} name
 * @param {SVGElement} chart
 */
async function downloadPng(name, chart) {
  const image = new Image();
  image.src = `data:image/svg+xml,${encodeURIComponent(svgText(chart))}`;
  await image.decode();
  const canvas = el("canvas", { width: 2 * image.width, height: 2 * image.height });
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  canvas.toBlob((/** @type {Blob} */ content) => download(name, content, "image/png"), "image/png");
}
