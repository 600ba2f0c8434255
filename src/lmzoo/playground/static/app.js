// Shows the view that the address names. Each view is a custom element in a file of its own, loaded when first shown.

import { el } from "./dom.js";
import { addressOf, onChange, read } from "./state.js";

/** The views in the order of the navigation: name in the address, and title. */
export const VIEWS = [
  ["predict", "Predict"],
  ["tokens", "Tokens"],
  ["slide", "Slide"],
  ["inside", "Attention and memory"],
  ["surprise", "Surprise"],
  ["game", "Shannon's game"],
  ["chat", "Chat and rank"],
  ["timeline", "Timeline"],
];

let shown = "";

async function show() {
  const names = VIEWS.map(([name]) => name);
  const asked = read("view", "predict");
  const name = names.includes(asked) ? asked : "predict";
  const links = VIEWS.map(([view, title]) =>
    el("a", { href: addressOf({ view }), "aria-current": view === name ? "page" : null }, title));
  document.querySelector("nav")?.replaceChildren(...links);
  if (name === shown) return;
  shown = name;
  await import(`./views/${name}.js`);
  document.title = `${VIEWS.find(([view]) => view === name)?.[1]} – lmzoo playground`;
  document.querySelector("main")?.replaceChildren(document.createElement(`lmzoo-${name}`));
}

document.querySelector("nav")?.addEventListener("click", (event) => {
  const link = /** @type {HTMLElement} */ (event.target).closest("a");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  history.pushState(null, "", link.getAttribute("href"));
  show();
  document.querySelector("main")?.focus();
});
window.addEventListener("popstate", show);
onChange(show);
show();
