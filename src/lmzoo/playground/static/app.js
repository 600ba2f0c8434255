// Shows the view that the address names. Each view is a custom element in a file of its own, loaded when first shown.

import { announce, el } from "./dom.js";
import "./parts/training.js";
import { addressOf, onChange, read, write } from "./state.js";

/** The views in the order of the navigation: name in the address, and title. */
const VIEWS = [
  ["predict", "Predict"],
  ["tokens", "Tokens"],
  ["slide", "Slide"],
  ["inside", "Attention and memory"],
  ["surprise", "Surprise"],
  ["game", "Shannon's game"],
  ["chat", "Chat and rank"],
  ["timeline", "Timeline"],
];

const MARGIN = 40; // pixels before the current view in the row of links, where the one before it shows

const links = VIEWS.map(([view, title]) => el("a", { "data-view": view }, title));
let shown = "";

async function show() {
  const names = VIEWS.map(([name]) => name);
  const asked = read("view", "predict");
  const name = names.includes(asked) ? asked : "predict";
  for (const link of links) {
    const view = /** @type {string} */ (link.getAttribute("data-view"));
    link.href = addressOf({ view });
    if (view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (name === shown) return;
  const current = links[names.indexOf(name)];
  current.parentElement?.scrollTo({ left: current.offsetLeft - MARGIN }); // on narrow screens
  shown = name;
  try {
    await import(`./views/${name}.js`);
  } catch {
    shown = "";
    announce("This view cannot be loaded: start lmzoo play again, and reload the page."); // Browsers remember a failed import.
    return;
  }
  if (name !== shown) return;
  document.title = `${VIEWS.find(([view]) => view === name)?.[1]} – lmzoo playground`;
  document.querySelector("main")?.replaceChildren(document.createElement(`lmzoo-${name}`));
}

document.querySelector("nav")?.replaceChildren(...links);
document.querySelector("nav")?.addEventListener("click", (event) => {
  const link = /** @type {HTMLElement} */ (event.target).closest("a");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  write({ view: /** @type {string} */ (link.getAttribute("data-view")) }, { history: true });
  document.querySelector("main")?.focus({ preventScroll: true }); // scrolling hides the navigation on narrow screens
  scrollTo(0, 0);
});
onChange(show);
show();
