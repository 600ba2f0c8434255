// Bars that show a number between 0 and 1.

import { el } from "../dom.js";

/**
 * Returns a bar on its track.
 * @param {number} length from 0 to 1
 * @param {number} [start] distance of the bar from the start of the track
 */
export function bar(length, start = 0) {
  const fill = el("span", { class: "fill", "aria-hidden": "true" });
  fill.style.width = `${100 * length}%`;
  if (start) fill.style.marginLeft = `${100 * start}%`;
  return el("span", { class: "track" }, fill);
}
