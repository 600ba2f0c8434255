// Tokens on the page: white space visible, half characters as hexadecimal bytes.

import { el } from "../dom.js";

/**
 * A token as the server describes it.
 * @typedef {{id: number, text: string, hex: boolean}} ShownToken
 */

/** The start of a document, which a model reads before the first token. */
export const START = { id: 0, text: "start", hex: false, start: -1, end: 0 };

const SIGNS = /([␣⏎⇥∅]|\\x[0-9a-f]{2}|[␀-␡])/;

/**
 * Returns a text on one line, in which visible signs replace spaces, line ends and tabs.
 * @param {string} text
 */
export function visible(text) {
  return text.replaceAll(" ", "␣").replaceAll("\n", "⏎").replaceAll("\t", "⇥") || "∅";
}

/**
 * Returns nodes that show the text of a token; the signs for white space are less prominent than letters.
 * @param {ShownToken} token
 * @returns {Node[]}
 */
export function tokenNodes(token) {
  if (token.hex) return [el("span", { class: "hex", title: "bytes that are no whole character" }, token.text)];
  return token.text.split(SIGNS).filter((part) => part).map((part) =>
    SIGNS.test(part) ? el("span", { class: "sign" }, part) : document.createTextNode(part));
}

/**
 * Returns an element that shows the tokens of a context in a line; tokens that a model cannot see are paler.
 * @param {(ShownToken & {seen: boolean, own: boolean})[]} context last tokens of the context
 * @param {number} nContext number of all tokens of the context
 * @returns {HTMLElement}
 */
export function contextLine(context, nContext) {
  const tokens = context.map((token) =>
    el("span", { class: `token${token.seen ? " seen" : ""}${token.own ? " own" : ""}` }, ...tokenNodes(token)));
  const more = nContext > context.length ? [el("span", { class: "more" }, "… ")] : [];
  return el("p", { class: "context" }, ...more, ...tokens);
}
