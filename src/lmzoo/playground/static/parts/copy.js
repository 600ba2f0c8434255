// The request of a view as code: a dialog with a program in Python and a command for the shell.

import { el } from "../dom.js";

/**
 * Returns a program in Python and a shell command that send a request to this server and print its answer.
 * @param {string} path
 * @param {any} body
 * @returns {[string, string][]} pairs of a title and a text
 */
export function requestSnippets(path, body) {
  const address = new URL(path, location.href).href;
  const python = [
    "import requests", "", `body = ${pythonLiteral(body)}`,
    `answer = requests.post(${pythonLiteral(address)}, json=body, timeout=60)`,
    "answer.raise_for_status()", "print(answer.json())",
  ];
  const quoted = `'${JSON.stringify(body).replaceAll("'", "'\\''")}'`;
  return [
    ["Python", python.join("\n")],
    ["curl", `curl ${address} \\\n  -H 'Content-Type: application/json' \\\n  -d ${quoted}`],
  ];
}

/**
 * Returns a JSON value as Python code.
 * @param {any} value
 * @returns {string}
 */
export function pythonLiteral(value) {
  if (value === null || value === undefined) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (Array.isArray(value)) return `[${value.map(pythonLiteral).join(", ")}]`;
  if (typeof value === "object") {
    const items = Object.entries(value).map(([name, item]) => `${JSON.stringify(name)}: ${pythonLiteral(item)}`);
    return `{${items.join(", ")}}`;
  }
  return JSON.stringify(value);
}

/**
 * `<lmzoo-copy>`: a button that opens the dialog.
 *
 * The property `snippets` is a function that returns pairs of a title and a text, such as `requestSnippets`.
 */
class Copy extends HTMLElement {
  /** @type {() => [string, string][]} */
  snippets = () => [];

  connectedCallback() {
    if (this.firstChild) return;
    const dialog = el("dialog", { "aria-label": "Copy as Python or curl" });
    this.append(el("button", { type: "button", onclick: () => this.#open(dialog) }, "Copy as Python / curl"), dialog);
  }

  /** @param {HTMLDialogElement} dialog */
  #open(dialog) {
    const parts = this.snippets().map(([title, text]) => el("section", {}, el("h2", {}, title),
      el("pre", { tabindex: 0, "aria-label": title }, text),
      el("button", { type: "button", onclick: () => copy(title, text, dialog) }, `Copy ${title}`)));
    dialog.replaceChildren(...parts, el("form", { method: "dialog" }, el("button", {}, "Close")),
      el("p", { class: "note", role: "status" }));
    dialog.showModal();
  }
}

/**
 * @param {string} title
 * @param {string} text
 * @param {HTMLDialogElement} dialog
 */
async function copy(title, text, dialog) {
  const status = /** @type {HTMLElement} */ (dialog.querySelector("[role=status]"));
  try {
    await navigator.clipboard.writeText(text);
    status.textContent = `${title} was copied.`;
  } catch {
    status.textContent = "The browser does not allow copying here: select the text instead.";
  }
}

customElements.define("lmzoo-copy", Copy);
