// The bars of the view Predict as a picture.

import { inUnit } from "./units.js";

const NAMESPACE = "http://www.w3.org/2000/svg";
const [WIDTH, ROW, COLUMNS, MARGIN] = [320, 20, 3, 24];

/**
 * Returns the bars of all models as the text of an SVG file; all share one axis.
 * @param {import("./units.js").Prediction[]} predictions
 * @param {Map<string, import("./card.js").Card>} cards
 * @param {string} prompt
 */
export function barsAsSvg(predictions, cards, prompt) {
  const shown = predictions.filter(({ error }) => !error);
  const nRows = Math.max(...shown.map(({ tokens }) => tokens.length));
  const height = (nRows + 3) * ROW;
  const svg = node("svg", {
    xmlns: NAMESPACE, width: COLUMNS * (WIDTH + MARGIN) + MARGIN, "font-family": "sans-serif", "font-size": 13,
    height: Math.ceil(shown.length / COLUMNS) * height + 3 * MARGIN, fill: "#1c1c1a",
  });
  svg.append(node("rect", { width: "100%", height: "100%", fill: "#ffffff" }),
    node("text", { x: MARGIN, y: 1.5 * MARGIN, "font-size": 16 }, prompt));
  const largest = Math.max(...shown.flatMap(({ tokens }) => tokens.map(({ final }) => final)));
  shown.forEach(({ name, tokens, entropy }, index) => {
    const x = MARGIN + (index % COLUMNS) * (WIDTH + MARGIN);
    const y = 3 * MARGIN + Math.floor(index / COLUMNS) * height;
    const model = cards.get(name)?.model;
    svg.append(node("text", { x, y, "font-weight": "bold" },
      `${model?.year ?? ""} ${model?.title ?? name}, ${entropy.toFixed(2)} bits`));
    tokens.forEach((token, row) => {
      const top = y + (row + 1) * ROW;
      svg.append(node("text", { x: x + 100, y: top, "text-anchor": "end" }, token.text),
        node("rect", { x: x + 108, y: top - 11, width: 130 * token.final / largest, height: 12, fill: "#0b57a4" }),
        node("text", { x: x + WIDTH, y: top, "text-anchor": "end" }, inUnit(token, "probability")));
    });
  });
  return new XMLSerializer().serializeToString(svg);
}

/**
 * @param {string} tag
 * @param {Record<string, string | number>} attributes
 * @param {string} [text]
 */
function node(tag, attributes, text = "") {
  const element = document.createElementNS(NAMESPACE, tag);
  for (const [name, value] of Object.entries(attributes)) if (name !== "xmlns") element.setAttribute(name, String(value));
  element.textContent = text;
  return element;
}
