// Votes on pairs of replies: which one is better?

import { request } from "../api.js";
import { announce, el } from "../dom.js";
import { read, write } from "../state.js";

/**
 * @typedef {{key: string, prompt: {role: string, content: string}[], first: string, second: string}} Comparison
 * @typedef {{choice: string, models: [string, string] | null}} SavedVote
 * @typedef {{comparison: Comparison | null, last: SavedVote | null, n_left: number, n_votes: number}} Session
 */

/** Actions: name in requests, key, title. */
const ACTIONS = [["1", "1", "The first is better"], ["2", "2", "The second is better"], ["tie", "t", "Tie"],
  ["skip", "s", "Skip"], ["undo", "u", "Undo"]];

const CHOICES = /** @type {Record<string, string>} */ (
  { 1: "the first reply is better", 2: "the second reply is better", tie: "a tie" });

/** `<lmzoo-ranking>`: asks for the name of the rater, and then shows one comparison after the other. */
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
    this.form = el("form", { class: "row", onsubmit: start }, el("label", { class: "field" }, el("span", {}, "Your name"), this.name), el("button", { class: "main" }, "Start voting"));
    this.problem = el("p", { class: "error", hidden: true });
    this.ballot = el("div", { class: "ballot", tabindex: -1, role: "group", "aria-label": "Vote", hidden: true,
      onkeydown: (/** @type {KeyboardEvent} */ event) => this.#key(event) });
    this.append(el("p", {}, "You see two replies to one prompt, in random order. After your vote, the page names the models that wrote them. "
      + "Each vote is saved immediately in the file votes.jsonl, from which lmzoo align learns. "
      + "With Undo, you vote again on the last comparison, and only the new vote counts."),
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
  #draw({ comparison, last, n_left, n_votes }) {
    const buttons = ACTIONS.map(([action, key, title]) => el("button", { type: "button", "aria-keyshortcuts": key, onclick: () => this.#act(action),
      disabled: action === "undo" ? n_votes === 0 : !comparison }, title, " ", el("kbd", {}, key)));
    const parts = [];
    if (comparison) {
      parts.push(el("div", { class: "conversation" }, ...comparison.prompt.map((message) => el("p", {}, el("strong", {}, `${message.role}: `), message.content))),
        el("div", { class: "columns" }, ...[comparison.first, comparison.second].map((reply, index) =>
          el("section", { class: "panel-card" }, el("h3", {}, `Reply ${index + 1}`), el("p", { class: "answer", dir: "auto" }, reply || "(an empty reply)")))));
    } else parts.push(el("p", { class: "lead" }, "Thank you: there are no more replies to compare."));
    const saved = last ? savedSentence(last) : "";
    this.ballot.replaceChildren(...parts, el("div", { class: "row" }, ...buttons),
      el("p", { class: "saved", hidden: !saved }, saved),
      el("p", { class: "note" }, `Comparisons left: ${n_left}. Your votes in this session: ${n_votes}.`));
    this.ballot.hidden = false;
    this.ballot.focus({ preventScroll: true });
    announce([saved, comparison ? `Comparisons left: ${n_left}.` : "There are no more comparisons."].filter((text) => text).join(" "));
  }
}

/**
 * Says what was saved with the last vote, and which model wrote which reply.
 * @param {SavedVote} vote
 */
function savedSentence({ choice, models }) {
  const saved = `Your last vote is saved: ${CHOICES[choice]}.`;
  if (!models) return `${saved} The file of comparisons does not say which models wrote the replies.`;
  const [first, second] = models;
  return first === second ? `${saved} The model ${first} wrote both replies, with different random numbers.`
    : `${saved} The model ${first} wrote the first reply, and ${second} the second.`;
}

customElements.define("lmzoo-ranking", Ranking);
