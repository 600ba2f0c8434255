// The view "Chat and rank": a chat model beside a model that continues the text, and votes on pairs of replies.

import { events, request } from "../api.js";
import { announce, el } from "../dom.js";
import { modelChoice } from "../parts/choice.js";
import { settings, textField } from "../parts/controls.js";
import { requestSnippets } from "../parts/copy.js";
import { readDecoding, readSeed } from "../parts/decoding.js";
import { chosenModel, usableModels } from "../parts/models.js";
import "../parts/ranking.js";
import { StateElement, read } from "../state.js";

/** @typedef {import("../parts/models.js").ListedModel} ListedModel */

const DEFAULT_MESSAGE = "last word of: light upon waters";
const MAX_TOKENS = 100;

/**
 * The answers of one kind of model: title, path of the requests, name of the model in the address of the page, families
 * of which the first that the server has is the default, models that can be chosen, and the message in a request.
 * @typedef {{title: string, path: string, parameter: string, preferred: string[], fits: (model: ListedModel) => boolean,
 *   message: (text: string) => object}} Kind
 */

/** @type {Kind} */
const REPLIES = { title: "Chat model replies", path: "/v1/chat/completions", parameter: "chatter",
  preferred: ["gpt-4", "chat", "huggingface", "gpt-3.5"], fits: (model) => model.can_chat,
  message: (text) => ({ messages: [{ role: "user", content: text }] }) };
/** @type {Kind} */
const CONTINUATIONS = { title: "Model continues the text", path: "/v1/completions", parameter: "writer",
  preferred: ["transformer", "gpt2", "lstm", "ngram"], fits: () => true, message: (text) => ({ prompt: text }) };

/** A model and its answer to a message. */
class Column {
  /** @param {Kind} kind */
  constructor(kind) {
    this.kind = kind;
    this.given = el("span", { class: "given" });
    this.answer = el("span");
    this.cut = el("p", { class: "note", hidden: true }, `Cut after ${MAX_TOKENS} tokens.`);
    this.output = el("div", { class: "answer", dir: "auto", role: "region", "aria-label": kind.title, "aria-busy": "false", tabindex: 0 },
      this.given, this.answer);
    this.element = el("section", { class: "panel-card" }, el("h3", {}, kind.title),
      modelChoice("Model", kind.parameter, kind.preferred, kind.fits), this.output, this.cut);
    this.model = "";
  }

  async update() {
    const { parameter, preferred, fits } = this.kind;
    this.model = (await chosenModel(parameter, preferred, fits))?.name ?? "";
  }

  /**
   * Returns the request for an answer.
   * @param {string} text
   */
  body(text) {
    const { top_k, min_p, ...others } = readDecoding();
    return { model: this.model, ...this.kind.message(text), ...others, ...(top_k ? { top_k } : {}),
      ...(min_p ? { min_p } : {}), seed: readSeed(), max_tokens: MAX_TOKENS };
  }

  /**
   * Shows an answer as it is written.
   * @param {string} text
   * @param {AbortSignal} signal
   */
  async stream(text, signal) {
    this.output.setAttribute("aria-busy", "true");
    this.given.textContent = this.kind === CONTINUATIONS ? text : "";
    this.answer.replaceChildren();
    this.cut.hidden = true;
    try {
      for await (const event of events(this.kind.path, { ...this.body(text), stream: true }, signal)) {
        if (event.error) throw new Error(event.error.message);
        const [choice] = event.choices;
        this.answer.append(choice?.delta?.content ?? choice?.text ?? "");
        if (choice?.finish_reason === "length") this.cut.hidden = false;
      }
    } catch (error) {
      if (signal.aborted) return;
      this.answer.replaceChildren(el("span", { class: "error" }, /** @type {Error} */ (error).message));
      throw error;
    } finally {
      this.output.setAttribute("aria-busy", "false");
    }
  }
}

class Chat extends StateElement {
  columns = [new Column(REPLIES), new Column(CONTINUATIONS)];
  controller = new AbortController();

  build() {
    const field = textField("Message", "message", DEFAULT_MESSAGE, { rows: 2 });
    field.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return; // Enter also ends the input of a character.
      event.preventDefault();
      this.#send();
    });
    this.send = el("button", { type: "button", class: "main", onclick: () => this.#send() }, "Send");
    this.stop = el("button", { type: "button", disabled: true, onclick: () => this.controller.abort() }, "Stop");
    const copy = el("lmzoo-copy");
    copy.snippets = () => requestSnippets(REPLIES.path, this.columns[0].body(message()));
    this.chat = el("section", { class: "chat" },
      field,
      el("div", { class: "row" }, this.send, this.stop, copy), el("div", { class: "bar" }, settings(el("lmzoo-decoding"))),
      el("div", { class: "columns" }, ...this.columns.map((column) => column.element)));
    this.missing = el("section", { hidden: true },
      el("p", { class: "lead" }, "No chat model is loaded. These commands train one, and open the playground with it and with the models of its earlier stages:"),
      commands("lmzoo align --out runs/my-chat\nlmzoo play runs/my-chat"),
      el("p", { class: "lead" }, "This command opens the playground with a pretrained chat model, which the extra lmzoo[smollm] installs:"),
      commands("lmzoo play smollm2"));
    this.ranking = el("section");
    this.append(el("h2", {}, "Completion beside chat"), this.chat, this.missing,
      el("h2", {}, "Which reply is better?"), this.ranking);
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    this.controller.abort();
  }

  async update() {
    if (!this.ranking.firstChild) await this.#rank();
    this.missing.hidden = (await usableModels()).some((model) => model.can_chat);
    this.chat.hidden = !this.missing.hidden;
    for (const column of this.columns) await column.update();
  }

  /** Offers to vote if the server has replies to compare. */
  async #rank() {
    const canVote = await request("/playground/ballot");
    this.ranking.replaceChildren(...canVote ? [document.createElement("lmzoo-ranking")] : [
      el("p", { class: "lead" }, "There are no replies to compare yet. These commands make replies for people to rank, and open the playground with them:"),
      commands("lmzoo align --ranker people --out runs/my-votes\nlmzoo play runs/my-votes")]);
  }

  async #send() {
    const text = message();
    if (this.chat.hidden) return;
    if (!text.trim()) {
      announce("Write a message first.");
      return;
    }
    this.controller.abort();
    const controller = this.controller = new AbortController();
    this.send.disabled = true;
    this.stop.disabled = false;
    announce("The models are writing.");
    const results = await Promise.allSettled(this.columns.map((column) => column.stream(text, controller.signal)));
    if (controller !== this.controller) return;
    this.send.disabled = false;
    this.stop.disabled = true;
    const failed = results.some((result) => result.status === "rejected");
    announce(controller.signal.aborted ? "Stopped." : failed ? "A model could not answer." : "The answers are complete.");
  }
}

function message() {
  return read("message", DEFAULT_MESSAGE);
}

/** @param {string} text */
function commands(text) {
  return el("pre", { tabindex: 0, "aria-label": "Commands" }, text);
}

customElements.define("lmzoo-chat", Chat);
