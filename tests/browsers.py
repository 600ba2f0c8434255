"""Where the browser of the tests is, and how it is started."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]


SHORT_PAUSES = """
for (const name of ["setTimeout", "setInterval"]) {
  const original = window[name];
  window[name] = (call, delay, ...rest) => original(call, delay < 5000 ? Math.min(delay, 50) : delay, ...rest);
}
"""
"""A script that shortens the pauses of a page, as between two questions to a server that does not answer."""


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Starts Chromium, and ends it together with the event loop that Playwright runs in this thread."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=60_000)  # a loaded machine answers late
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        yield browser
        browser.close()
