// The surprisal of each token of a text, as the server computes it, and the text divided into its tokens.

import { request } from "../api.js";

/**
 * @typedef {{starts: number[], ends: number[], surprisals: number[], ranks: number[], entropies: number[],
 *   n_tokens: number, vocab_size: number, lossless: boolean}} Scores
 * @typedef {{start: number, end: number, first: number, last: number, other: [number, number] | null, value: number}}
 *   Segment a part of the text: its characters, its tokens under the model and, with a second model, under that
 */

/**
 * Upper bounds of the levels of colour for each quantity, with their names.
 * @type {Record<string, {unit: string, bounds: number[], names: string[]}>}
 */
export const SCALES = {
  bits: { unit: "bits", bounds: [1, 2, 4, 6, 9, 13], names: ["up to 1 bit", "2", "4", "6", "9", "13", "more"] },
  rank: { unit: "rank", bounds: [1, 10, 100, 1000], names: ["first guess", "top 10", "top 100", "top 1,000", "beyond"] },
  entropy: { unit: "bits", bounds: [1, 2, 4, 6, 8, 10], names: ["sure: up to 1 bit", "2", "4", "6", "8", "10", "unsure: more"] },
  difference: { unit: "bits", bounds: [-6, -3, -1, 1, 3, 6], names: [
    "this model better by 6 bits", "3", "1", "alike", "1", "3", "the other better by 6 bits"] },
};

/** @type {Map<string, Promise<Scores>>} */
const known = new Map();

/**
 * Returns the scores of a text under a model; the last ones are remembered.
 * @param {string} model
 * @param {string} text
 */
export function scores(model, text) {
  const key = JSON.stringify([model, text]);
  let found = known.get(key);
  if (!found) {
    found = request("/playground/surprise", { model, text });
    found.catch(() => known.delete(key));
    known.set(key, found);
    if (known.size > 100) known.delete(/** @type {string} */ (known.keys().next().value));
  }
  return found;
}

/** @param {number[]} values */
export const sum = (values) => values.reduce((total, value) => total + value, 0);

/**
 * Returns the index of the colour of a value.
 * @param {string} quantity
 * @param {number} value
 */
export function levelOf(quantity, value) {
  const reached = (/** @type {number} */ bound) => quantity === "difference" ? value >= bound : value > bound;
  return SCALES[quantity].bounds.filter(reached).length;
}

/**
 * Divides a text into its tokens. Tokens that share a character form one segment; with a second model, a segment ends
 * where a token ends under both models.
 * @param {Scores} found
 * @param {Scores | null} second
 * @param {string} quantity
 * @returns {Segment[]}
 */
export function segmentsOf(found, second, quantity) {
  /** @type {Segment[]} */
  const segments = [];
  const { starts, ends, surprisals, ranks, entropies } = found;
  const limit = second ? Math.min(ends.at(-1) ?? 0, second.ends.at(-1) ?? 0) : Infinity;
  /** @type {Map<number, number>} */
  const otherStarts = new Map();
  for (const [index, start] of second?.starts.entries() ?? []) if (!otherStarts.has(start)) otherStarts.set(start, index);
  for (let index = 0; index < starts.length && starts[index] < limit; index++) {
    const previous = segments.at(-1);
    const begins = !previous || (starts[index] >= previous.end && (!second || otherStarts.has(starts[index])));
    if (begins) segments.push({ start: starts[index], end: ends[index], first: index, last: index, other: null, value: 0 });
    else Object.assign(previous, { end: Math.max(previous.end, ends[index]), last: index });
  }
  for (const [index, segment] of segments.entries()) {
    const { first, last } = segment;
    if (second) {
      const next = segments[index + 1];
      const from = otherStarts.get(segment.start) ?? 0;
      const to = next ? (otherStarts.get(next.start) ?? 0) - 1 : second.starts.length - 1;
      segment.other = [from, to];
      segment.value = sum(surprisals.slice(first, last + 1)) - sum(second.surprisals.slice(from, to + 1));
    } else if (quantity === "rank") segment.value = Math.max(...ranks.slice(first, last + 1));
    else if (quantity === "entropy") segment.value = entropies[first];
    else segment.value = sum(surprisals.slice(first, last + 1));
  }
  return segments;
}
