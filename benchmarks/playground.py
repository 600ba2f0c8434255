"""Measures how quick the pages of `lmzoo play` are in Chromium: the start, the keystrokes, and the longest tasks.

    python benchmarks/playground.py                # 24 models, a prompt of 300 tokens, 30 keystrokes for each group

- *start*: seconds from the command to the complete view Predict of all predictors of texts that come with lmzoo, in a
  browser that runs already. Every start is a new process.
- *keystroke*: milliseconds from a keystroke at the end of the prompt to the frame that shows the new predictions,
  for models that count, for networks, and for all 24 together; the part of it for which the page waited for the server;
  and the processor time of the server and of the main thread of the page, which depend less on what else the machine
  does.
- *longest task*: the longest stretch for which the page could not react, as the browser reports it (from 50 ms up).

The page waits 30 ms for another keystroke before it asks. The last line is JSON with all figures.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psutil
from playwright.sync_api import Browser, Page, sync_playwright

from lmzoo import Predictor, load_corpus
from lmzoo.models.shipped import shipped_folder, shipped_text_models

N_ERAS = 24
"""Number of models; copies of networks are added to those that come with lmzoo."""
N_TOKENS = 300
TYPED = " and the king said unto all the people that were with him, Go ye"

WATCH = """
window.longTasks = [];
new PerformanceObserver((list) => longTasks.push(...list.getEntries().map((entry) => entry.duration)))
  .observe({ type: "longtask", buffered: true });
window.answered = 0;
addEventListener("input", () => { window.typed = performance.now(); window.answered = 0; }, true);
document.addEventListener("DOMContentLoaded", () => new MutationObserver((changes) => {
  if (!changes.some(({ target }) => target.closest?.(".cards"))) return;
  requestAnimationFrame(() => setTimeout(() => { window.answered = performance.now(); }));
}).observe(document.body, { childList: true, subtree: true }));
"""
"""Notes long tasks, the time of the last keystroke, and that of the frame in which cards have changed after it."""
WAITED = """() => {
  const entry = performance.getEntriesByType("resource").filter(({ name }) => name.endsWith("/predict")).at(-1);
  performance.clearResourceTimings();
  return entry.responseStart - entry.requestStart;
}"""


@contextmanager
def playing(*places: str) -> Iterator[tuple[str, psutil.Process]]:
    """Starts `lmzoo play`, and yields its address and its process."""
    command = [sys.executable, "-m", "lmzoo", "play", *places, "--port", "0", "--no-browser", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield json.loads(process.stdout.readline())["address"], psutil.Process(process.pid)
        finally:
            process.terminate()


def open_predict(browser: Browser, address: str, n_models: int, **state: str) -> Page:
    """Opens the view Predict, and returns when it shows the predictions of all models."""
    page = browser.new_page(viewport={"width": 1280, "height": 800}, bypass_csp=True)  # waiting evaluates a string
    page.add_init_script(WATCH)
    page.goto(f"{address}/?{urlencode(state)}")
    page.locator(f"article:nth-child({n_models}) tbody tr").first.wait_for(state="attached", timeout=120_000)
    return page


def starts(browser: Browser, rounds: int) -> list[float]:
    """Returns the seconds from the command to the complete view, for each round."""
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        with playing() as (address, _):
            page = open_predict(browser, address, len(shipped_text_models()))
            seconds.append(time.perf_counter() - started)
            page.close()
    return seconds


def keystrokes(
    browser: Browser, address: str, server: psutil.Process, prompt: str, models: list[str], n: int
) -> dict[str, Any]:
    """Types at the end of a prompt, and returns the medians of the times in milliseconds."""
    page = open_predict(browser, address, len(models), prompt=prompt, models=",".join(models))
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def main_thread() -> float:
        metrics = session.send("Performance.getMetrics")["metrics"]
        return 1000 * next(one["value"] for one in metrics if one["name"] == "TaskDuration")

    def served() -> float:
        times = server.cpu_times()
        return 1000 * (times.user + times.system)

    field = page.get_by_role("textbox", name="Prompt")
    field.focus()
    field.press("End")
    page.evaluate("longTasks.length = 0")  # those of the start
    total, waited = [], []
    page_before, server_before = main_thread(), served()
    for character in TYPED[:n]:
        page.wait_for_timeout(150)
        page.evaluate("performance.clearResourceTimings()")
        page.keyboard.type(character)
        page.wait_for_function("answered > 0", polling=20)
        total.append(page.evaluate("answered - typed"))
        waited.append(page.evaluate(WAITED))
    page_time, server_time = main_thread() - page_before, served() - server_before
    tasks = page.evaluate("longTasks")
    page.close()
    return {
        "models": len(models),
        "median_ms": statistics.median(total),
        "slowest_ms": max(total),
        "waited_ms": statistics.median(waited),
        "server_cpu_ms": server_time / n,
        "main_thread_cpu_ms": page_time / n,
        "longest_task_ms": max(tasks, default=0),
        "tasks_over_100_ms": sum(task > 100 for task in tasks),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keystrokes", type=int, default=30)
    parser.add_argument("--starts", type=int, default=5)
    arguments = parser.parse_args()

    predictors = {name: Predictor.load(name) for name in shipped_text_models()}
    networks = [name for name, predictor in predictors.items() if predictor.model.device_name is not None]
    counting = [name for name in predictors if name not in networks]
    tokenizer = predictors["ngram"].tokenizer
    text = load_corpus("kjv").test[0].text
    prompt = text[: tokenizer.pieces(text)[N_TOKENS - 1].end]
    figures: dict[str, Any] = {"cpus": os.cpu_count(), "affinity": len(os.sched_getaffinity(0))}
    chromium = shutil.which("chromium")
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        seconds = starts(browser, arguments.starts)
        figures["start_s"] = {"median": statistics.median(seconds), "first": seconds[0], "models": len(predictors)}
        print(f"start: {statistics.median(seconds):.2f} s (median of {len(seconds)}; the first {seconds[0]:.2f} s)")
        copies = [f"{name}-2" for name in networks[: N_ERAS - len(predictors)]]
        for name in copies:
            shutil.copytree(shipped_folder() / name.removesuffix("-2"), Path(folder) / name)
        with playing(*predictors, *(str(Path(folder) / name) for name in copies)) as (address, server):
            groups = {"counting": counting, "networks": networks, "all": [*predictors, *copies]}
            for group, models in groups.items():
                figures[group] = found = keystrokes(browser, address, server, prompt, models, arguments.keystrokes)
                print(
                    f"{group} ({len(models)}): {found['median_ms']:.0f} ms from a keystroke to the answer, of which "
                    f"{found['waited_ms']:.0f} ms for the server; processor time of the server "
                    f"{found['server_cpu_ms']:.0f} ms, of the page {found['main_thread_cpu_ms']:.0f} ms; longest task "
                    f"{found['longest_task_ms']:.0f} ms"
                )
        browser.close()
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
