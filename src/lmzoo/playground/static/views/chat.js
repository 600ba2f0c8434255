// The view "Chat and rank": a chat model beside a model that continues the text, and votes on pairs of replies.

import { events, request } from "../api.js";
import { announce, el } from "../dom.js";
import { requestSnippets } from "../parts/copy.js";
import { readDecoding, readSeed } from "../parts/decoding.js";
import { StateElement, read, write } from "../state.js";

/**
 * @typedef {{key: string, prompt: {role: string, content: string}[], first: string, second: string}} Comparison
 * @typedef {{comparison: Comparison | null, n_left: number, n_votes: number}} Session
 */

const DEFAULT_MESSAGE = "last word of: light upon waters";
const MAX_TOKENS = 60;
/** Actions of the ranking: name in requests, key, title. */
const ACTIONS = [["1", "1", "The first is better"], ["2", "2", "The second is better"], ["tie", "t", "Tie"], ["skip", "s", "Skip"], ["undo", "u", "Undo"]];

class Chat extends StateElement {
  /** @type {any[] | null} columns of the answers */
  columns = null;
  /** @type {AbortController | null} */
  controller = null;

  build() {
    const type = () => write({ message: this.field.value });
    this.field = el("textarea", { rows: 2, maxlength: 20000, oninput: type, onkeydown: (/** @type {KeyboardEvent} */ event) => {
      if (event.key !== "Enter" || event.shiftKey) return;
      event.preventDefault();
      this.#send();
    } });
    this.content = el("div");
    this.append(el("h2", {}, "Completion beside chat"), this.content);
    request("/playground/chat").then((facts) => this.#show(facts),
      (error) => this.content.replaceChildren(el("p", { class: "error" }, error.message)));
  }

  update() {
    const text = read("message", DEFAULT_MESSAGE);
    if (this.field.value !== text) this.field.value = text;
  }

  /** @param {{chat: string[], completion: string[], can_vote: boolean}} facts */
  #show(facts) {
    const parts = [];
    if (facts.chat.length) {
      this.send = el("button", { type: "button", class: "main", onclick: () => this.#send() }, "Send");
      this.stop = el("button", { type: "button", disabled: true, onclick: () => this.controller?.abort() }, "Stop");
      this.columns = [this.#column("chatter", "Chat model replies", facts.chat, true), this.#column("writer", "Model continues the text", facts.completion, false)];
      const copy = el("lmzoo-copy");
      copy.snippets = () => requestSnippets("/v1/chat/completions", this.columns?.[0].body(this.field.value));
      parts.push(el("label", { class: "prompt" }, el("span", {}, "Message"), this.field), el("div", { class: "row" }, this.send, this.stop, copy),
        el("lmzoo-decoding"), el("div", { class: "columns" }, ...this.columns.map((column) => column.element)));
    } else {
      parts.push(el("p", { class: "lead" }, "The server has no chat model. One is trained in minutes, and the playground is started with it:"),
        el("pre", { tabindex: 0, "aria-label": "Commands" }, "lmzoo align --out runs/my-chat\nlmzoo play runs/my-chat/predictors/*"));
    }
    parts.push(el("h2", {}, "Which reply is better?"));
    if (facts.can_vote) parts.push(document.createElement("lmzoo-ranking"));
    else {
      parts.push(el("p", { class: "lead" }, "There are no replies to compare yet. A run of lmzoo align that learns from people makes them; start the playground with its folder:"),
        el("pre", { tabindex: 0, "aria-label": "Commands" }, "lmzoo align --ranker people --out runs/my-chat"));
    }
    this.content.replaceChildren(...parts);
  }

  /**
   * Returns a column with the answer of one model.
   * @param {string} parameter name of the model in the address
   * @param {string} title
   * @param {string[]} names
   * @param {boolean} chats
   */
  #column(parameter, title, names, chats) {
    const list = el("select", { name: parameter, onchange: () => write({ [parameter]: list.value }, { history: true }) },
      ...names.map((name) => el("option", { value: name }, name)));
    const asked = read(parameter, names.at(-1) ?? "");
    list.value = names.includes(asked) ? asked : names.at(-1) ?? "";
    const prompt = el("span", { class: "given" });
    const answer = el("span");
    const output = el("div", { class: "answer", role: "region", "aria-label": title, "aria-busy": "false", tabindex: 0 }, prompt, answer);
    const body = (/** @type {string} */ text) => ({
      model: list.value, ...(chats ? { messages: [{ role: "user", content: text }] } : { prompt: text }),
      ...decodingFields(), seed: readSeed(), max_tokens: MAX_TOKENS,
    });
    return { list, prompt, answer, output, body, chats,
      element: el("section", { class: "panel-card" }, el("h3", {}, title), el("label", { class: "field" }, el("span", {}, "Model"), list), output) };
  }

  async #send() {
    const text = this.field.value;
    if (!text.trim() || !this.columns) return;
    this.controller?.abort();
    const controller = new AbortController();
    this.controller = controller;
    this.send.disabled = true;
    this.stop.disabled = false;
    announce("The models are writing.");
    const results = await Promise.allSettled(this.columns.filter((column) => column.list.value).map((column) => this.#stream(column, text, controller.signal)));
    if (controller !== this.controller) return;
    this.send.disabled = false;
    this.stop.disabled = true;
    const failed = results.some((result) => result.status === "rejected");
    announce(controller.signal.aborted ? "Stopped." : failed ? "A model could not answer." : "The answers are complete.");
  }

  /**
   * @param {any} column
   * @param {string} text
   * @param {AbortSignal} signal
   */
  async #stream(column, text, signal) {
    column.output.setAttribute("aria-busy", "true");
    column.prompt.textContent = column.chats ? "" : text;
    column.answer.replaceChildren();
    try {
      const path = column.chats ? "/v1/chat/completions" : "/v1/completions";
      for await (const event of events(path, { ...column.body(text), stream: true }, signal)) {
        if (event.error) throw new Error(event.error.message);
        const [choice] = event.choices ?? [];
        column.answer.append((column.chats ? choice?.delta?.content : choice?.text) ?? "");
      }
    } catch (error) {
      if (signal.aborted) return;
      column.answer.replaceChildren(el("span", { class: "error" }, /** @type {Error} */ (error).message));
      throw error;
    } finally {
      column.output.setAttribute("aria-busy", "false");
    }
  }
}

/** Returns the settings of decoding as fields of OpenAI's requests. */
function decodingFields() {
  const { temperature, top_p, top_k, min_p } = readDecoding();
  return { temperature, top_p, ...(top_k ? { top_k } : {}), ...(min_p ? { min_p } : {}) };
}

class Ranking extends HTMLElement {
  /** @type {Session | null} */
  session = null;
  busy = false;

  connectedCallback() {
    if (this.firstChild) return;
    this.name = el("input", { type: "text", name: "rater", maxlength: 100, required: true, autocomplete: "off", value: read("rater", "") });
    const start = (/** @type {Event} */ event) => {
      event.preventDefault();
      write({ rater: this.name.value.trim() });
      this.#ask(() => request(`/playground/votes?${new URLSearchParams({ rater: this.name.value })}`));
    };
    this.form = el("form", { class: "row", onsubmit: start }, el("label", { class: "field" }, el("span", {}, "Your name"), this.name), el("button", { class: "main" }, "Start to vote"));
    this.problem = el("p", { class: "error", hidden: true });
    this.ballot = el("div", { class: "ballot", tabindex: -1, role: "group", "aria-label": "Vote", hidden: true,
      onkeydown: (/** @type {KeyboardEvent} */ event) => this.#key(event) });
    this.append(el("p", {}, "Two replies to one prompt, in random order; you do not see which model wrote which. Votes are saved at once, in the file that lmzoo align learns from."),
      this.form, this.problem, this.ballot);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const action = ACTIONS.find(([, key]) => key === event.key.toLowerCase());
    if (!action) return;
    event.preventDefault();
    this.#act(action[0]);
  }

  /** @param {string} action */
  #act(action) {
    if (this.busy || !this.session) return;
    if (!this.session.comparison && action !== "undo") return;
    this.#ask(() => request("/playground/votes", { rater: this.name.value, action, key: this.session?.comparison?.key ?? "" }));
  }

  /** @param {() => Promise<Session>} ask */
  async #ask(ask) {
    this.busy = true;
    try {
      this.session = await ask();
      this.problem.hidden = true;
      this.#draw(this.session);
    } catch (error) {
      this.problem.textContent = /** @type {Error} */ (error).message;
      this.problem.hidden = false;
    }
    this.busy = false;
  }

  /** @param {Session} session */
  #draw({ comparison, n_left, n_votes }) {
    const buttons = ACTIONS.map(([action, key, title]) => el("button", { type: "button", "aria-keyshortcuts": key, onclick: () => this.#act(action),
      disabled: action === "undo" ? n_votes === 0 : !comparison }, title, " ", el("kbd", {}, key)));
    const parts = [];
    if (comparison) {
      parts.push(el("div", { class: "conversation" }, ...comparison.prompt.map((message) => el("p", {}, el("strong", {}, `${message.role}: `), message.content))),
        el("div", { class: "columns" }, ...[comparison.first, comparison.second].map((reply, index) =>
          el("section", { class: "panel-card" }, el("h3", {}, `Reply ${index + 1}`), el("p", { class: "answer" }, reply || "(an empty reply)")))));
    } else parts.push(el("p", { class: "lead" }, "Thank you: there are no more replies to compare."));
    this.ballot.replaceChildren(...parts, el("div", { class: "row" }, ...buttons), el("p", { class: "note" }, `${n_left} left; ${n_votes} votes by you in this session.`));
    this.ballot.hidden = false;
    this.ballot.focus({ preventScroll: true });
    announce(comparison ? `${n_left} comparisons left.` : "There are no more comparisons.");
  }
}

customElements.define("lmzoo-ranking", Ranking);
customElements.define("lmzoo-chat", Chat);
