// The models of the server, and those that the address names.

import { request } from "../api.js";
import { notify, read } from "../state.js";

/**
 * A model of the server; models come in the order of the years in which their families were introduced.
 * @typedef {{name: string, species: string, title: string, year: number | null, people: string, idea: string,
 *   sees: string, tokenizer: string, vocab_size: number, learns_from: string, can_chat: boolean,
 *   error: string | null}} ListedModel
 */

/** @type {Promise<ListedModel[]> | null} */
let listed = null;

/** @type {Map<string, string[]>} names of the models that are shown where the address names none, by parameter */
const defaults = new Map();

/** Returns all models of the server, also those that cannot be loaded; they are requested once. */
export function listModels() {
  if (!listed) {
    listed = request("/playground/models");
    listed.catch(() => { listed = null; });
  }
  return listed;
}

/** Returns the models of the server that can be used. */
export async function usableModels() {
  return (await listModels()).filter((model) => !model.error);
}

/** Returns the usable models that have learned from plain text; if there are none, all usable models. */
export async function textModels() {
  const models = await usableModels();
  const ofText = models.filter((model) => model.learns_from === "text");
  return ofText.length ? ofText : models;
}

/** Requests the models again, and tells all parts of the page that there may be new ones. */
export async function reloadModels() {
  const models = await request("/playground/models");
  listed = Promise.resolve(models);
  notify();
}

/**
 * Returns the models that the address names, or `limit` models of text, of different eras, if it names none.
 * @param {string} [parameter] name of the value in the address, which holds names separated by commas
 * @param {number} [limit]
 * @returns {Promise<ListedModel[]>}
 */
export async function chosenModels(parameter = "models", limit = Infinity) {
  const usable = await usableModels();
  const named = (/** @type {string[]} */ names) => usable.filter((model) => names.includes(model.name));
  const asked = named(read(parameter, "").split(","));
  if (asked.length) return asked;
  const models = await textModels();
  if (models.length <= limit) return models;
  if (!defaults.has(parameter)) {
    const step = limit > 1 ? (models.length - 1) / (limit - 1) : 0;
    defaults.set(parameter, Array.from({ length: limit }, (_, index) => models[Math.round(index * step)].name));
  }
  return named(/** @type {string[]} */ (defaults.get(parameter)));
}

/**
 * Returns the model that the address names, or else the first of `preferred` families that the server has.
 * @param {string} parameter name of the value in the address
 * @param {string[]} preferred names of model families; without any, no model is the default
 * @param {(model: ListedModel) => boolean} [fits] tells which models can be chosen
 * @returns {Promise<ListedModel | null>}
 */
export async function chosenModel(parameter, preferred, fits = () => true) {
  const models = (await usableModels()).filter(fits);
  const asked = models.find((model) => model.name === read(parameter, ""));
  if (asked || !preferred.length) return asked ?? null;
  const [before] = defaults.get(parameter) ?? [];
  const shown = models.find((model) => model.name === before);
  if (shown) return shown; // A model that is added later does not take the place of the one that is read.
  const family = preferred.find((one) => models.some((model) => model.species === one));
  const found = models.find((model) => model.species === family);
  if (found) defaults.set(parameter, [found.name]);
  return found ?? models[0] ?? null;
}

/**
 * Returns the year and the title of a model, and its name if this is another one than that of its family.
 * @param {ListedModel} model
 */
export function caption(model) {
  const title = model.species === model.name || !model.species ? model.title : `${model.title} (${model.name})`;
  return model.year === null ? title : `${model.year} ${title}`;
}
