// Files for the reader: saves texts, and writes tables as comma-separated values.

import { announce, el } from "../dom.js";

/**
 * Saves a text as a file of the reader.
 * @param {string} name
 * @param {string} text
 * @param {string} type media type, such as "text/csv"
 */
export function download(name, text, type) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  el("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
  announce(`${name} was saved.`);
}

/**
 * Returns rows of cells as comma-separated values (RFC 4180).
 * @param {(string | number | null)[][]} rows
 */
export function csv(rows) {
  const cell = (/** @type {string | number | null} */ value) => {
    const text = value === null ? "" : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return rows.map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}
