// The models that are fitted while the server runs: their progress in the head of the page, and their arrival.

import { request } from "../api.js";
import { announce, el } from "../dom.js";
import { StateElement } from "../state.js";
import { listModels, reloadModels } from "./models.js";
import { duration } from "./units.js";

/**
 * @typedef {{name: string, title: string, state: "waiting" | "fitting" | "ready" | "failed", share: number | null,
 *   seconds_left: number | null, message: string}} Fit
 */

const PAUSE = 2000; // milliseconds between two requests

/** `<lmzoo-training>`: a menu with the progress of all fits, and a sentence as long as there is no model. */
class Training extends StateElement {
  build() {
    this.summary = el("summary");
    this.list = el("ul", { class: "plain" });
    this.menu = el("details", { class: "menu", hidden: true }, this.summary, el("div", {}, this.list));
    this.empty = el("p", { class: "lead", hidden: true });
    this.append(this.menu, this.empty);
    this.#follow();
  }

  async update() {
    const models = await listModels();
    this.empty.hidden = models.some((model) => !model.error);
    this.empty.textContent = models.length ? `No model can be loaded: ${models[0].error}`
      : "No model is fitted yet. The first ones appear here soon.";
  }

  /** Shows the progress until all fits have ended. Without any, as on most servers, there is one request only. */
  async #follow() {
    let again = true;
    try {
      /** @type {Fit[]} */
      const fits = await request("/playground/training");
      await welcome(fits.filter((fit) => fit.state === "ready"));
      again = fits.some((fit) => fit.state === "waiting" || fit.state === "fitting");
      this.menu.hidden = fits.every((fit) => fit.state === "ready");
      this.summary.textContent = summary(fits);
      this.list.replaceChildren(...fits.map(item));
    } catch {
      // The server may answer again later.
    }
    if (again) setTimeout(() => this.#follow(), PAUSE);
  }
}

/**
 * Adds models that have been fitted to the page.
 * @param {Fit[]} fits
 */
async function welcome(fits) {
  const known = (await listModels()).map((model) => model.name);
  const added = fits.filter(({ name }) => !known.includes(name));
  if (!added.length) return;
  await reloadModels();
  announce(`New: ${added.map((fit) => fit.title).join(", ")}.`);
}

/**
 * Returns the most important fact about the fits.
 * @param {Fit[]} fits
 */
function summary(fits) {
  const nReady = fits.filter((fit) => fit.state === "ready").length;
  const count = `${nReady} of ${fits.length} models`;
  const current = fits.find((fit) => fit.state === "fitting") ?? fits.find((fit) => fit.state === "waiting");
  if (current) return [count, current.state === "fitting" ? current.title : "", progress(current)].filter((part) => part).join(" · ");
  return `${count} · ${fits.length - nReady} failed`;
}

/**
 * Returns the share of a fit that is done, and the time that is left.
 * @param {Fit} fit
 */
function progress({ share, seconds_left, message }) {
  if (share === null) return message;
  return `${Math.floor(100 * share)} %${seconds_left === null ? "" : `, ${duration(seconds_left)} left`}`;
}

/** @param {Fit} fit */
function item(fit) {
  const bar = el("progress", { max: 1, value: fit.share ?? 0, "aria-label": fit.title });
  const state = { waiting: "waiting", ready: "ready", failed: `failed: ${fit.message}`, fitting: progress(fit) }[fit.state];
  return el("li", { class: "fit" }, el("span", {}, fit.title), bar, el("span", { class: "number" }, state));
}

customElements.define("lmzoo-training", Training);
