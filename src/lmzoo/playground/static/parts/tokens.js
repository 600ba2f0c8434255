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
 * Returns an element that shows the tokens of a context in a line; tokens that a model cannot see are paler. Neighbours
 * that look alike share an element, except for the tokens that this model alone has.
 * @param {(ShownToken & {seen: boolean, own: boolean})[]} context last tokens of the context
 * @param {number} nContext number of all tokens of the context
 * @param {boolean} words true if the tokens are words, between which there are spaces
 * @returns {HTMLElement}
 */
export function contextLine(context, nContext, words) {
  /** @type {{look: string, texts: string[]}[]} */
  const runs = [];
  for (const { text, hex, seen, own } of context) {
    const look = `token${seen ? " seen" : ""}${own ? " own" : ""}${hex ? " hex" : ""}`;
    const last = runs.at(-1);
    if (last && !own && last.look === look) last.texts.push(text);
    else runs.push({ look, texts: [text] });
  }
  return el("p", { class: "context" }, el("span", {}, nContext > context.length ? "… " : "",
    ...runs.map(({ look, texts }) => el("span", { class: look }, texts.join(words ? " " : "")))));
}
