// Probabilities as text, in the unit that the reader chooses, and the axis that all bars share.

/**
 * A possible next token with its stages; see `PredictedToken` on the server.
 * @typedef {import("./tokens.js").ShownToken & {adds: string | null, rank: number, prob: number,
 *   log_prob: number | null, scaled: number | null, tempered: number, final: number, cut_by: string | null,
 *   interval: [number, number], order: number | null}} PredictedToken
 */

/**
 * The prediction of one model; see `Prediction` on the server.
 * @typedef {{name: string, error: string | null, entropy: number, final_entropy: number, n_context: number,
 *   n_seen: number, context: any[], n_tokens: number, n_kept: number, tokens: PredictedToken[], rest: number,
 *   draw: number, drawn: number, states: {state: number, prob: number, tokens: string[]}[] | null}} Prediction
 */

/** Names of the settings that cut tokens, as the page shows them. */
export const CUTS = /** @type {Record<string, string>} */ (
  { temperature: "T = 0", top_k: "top-k", top_p: "top-p", min_p: "min-p" });

/**
 * Returns a probability as a percentage with about three digits.
 * @param {number} prob
 */
export function percent(prob) {
  const value = 100 * prob;
  if (value === 0) return "0 %";
  if (value < 0.001) return "< 0.001 %";
  return `${value.toFixed(value >= 10 ? 1 : value >= 1 ? 2 : 3)} %`;
}

/**
 * Returns a share as a whole percentage.
 * @param {number} share
 */
export function wholePercent(share) {
  return `${(100 * share).toFixed(0)} %`;
}

/**
 * Returns the surprisal of a probability in bits.
 * @param {number} prob
 */
export function surprisal(prob) {
  return prob > 0 ? Math.max(0, -Math.log2(prob)).toFixed(2) : "∞";
}

/**
 * Returns a number with few digits and a proper minus sign; null is minus infinity.
 * @param {number | null} value
 */
export function signed(value) {
  return value === null ? "−∞" : value.toFixed(2).replace("-", "−");
}

/**
 * Returns the probability of a token in a unit.
 * @param {PredictedToken} token
 * @param {string} unit "probability", "bits" or "rank"
 */
export function inUnit(token, unit) {
  if (unit === "rank") return `${token.rank}.`;
  return unit === "bits" ? surprisal(token.final) : percent(token.final);
}

/**
 * Returns the end of an axis for probabilities up to `largest`: a round number that is at least as large.
 * @param {number} largest
 */
export function axisEnd(largest) {
  return [0.05, 0.1, 0.2, 0.4, 0.6, 0.8].find((end) => end >= largest) ?? 1;
}

/**
 * Returns a time in whole seconds, minutes or hours.
 * @param {number} seconds
 */
export function duration(seconds) {
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}
