"""Measures `lmzoo serve`: its answers and its memory under load, and its speed next to direct calls.

    python benchmarks/serving.py                       # all measurements; 100,000 requests take a while
    python benchmarks/serving.py --requests 2000       # a short campaign

The server runs in a process of its own, and this process plays its clients. In the campaign, 64 clients send valid,
streamed, scored, malformed and cancelled requests, and every answer is compared with a direct call. The last line is
JSON with all figures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import psutil

from lmzoo import Predictor, zoo
from lmzoo.neural.neural_lm import NeuralLM

PROMPTS = ("In the beginning", "And he said unto them,", "The king", "Blessed are the", "")
TOKENS = 12
"""Number of tokens of an answer in the campaign."""
SHARE_CANCELLED = 0.05
LONG = 300
"""Largest number of tokens of a text in measurements of speed."""
TEXTS = 5
"""Number of texts that a client asks for, one after the other, in measurements of speed."""
ROUNDS = 5


def make_predictors(folder: Path) -> dict[str, Path]:
    """Saves the predictors that are served: two that count, and a transformer with random weights."""
    markov = Predictor.fit("markov", "kjv")
    ngram = Predictor.fit("ngram", "kjv", tokenizer=markov.tokenizer)
    network = zoo.create("transformer", markov.tokenizer.vocab_size)
    assert isinstance(network, NeuralLM)
    transformer = Predictor(markov.tokenizer, NeuralLM.of(network.fresh_network(0), like=network), "transformer")
    predictors = {"markov": markov, "ngram": ngram, "transformer": transformer}
    return {name: predictor.save(folder / name) for name, predictor in predictors.items()}


@contextmanager
def served(folders: dict[str, Path]) -> Iterator[tuple[str, psutil.Process, subprocess.Popen[str]]]:
    """Starts a server, and yields its URL and its process."""
    command = [sys.executable, "-m", "lmzoo", "serve", *map(str, folders.values()), "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        url = json.loads(process.stdout.readline())["url"]
        yield url, psutil.Process(process.pid), process
        if process.poll() is None:
            process.terminate()


# ---- The campaign -------------------------------------------------------------------------------


class Campaign:
    """Mixed requests of many clients, whose answers are compared with those of direct calls."""

    def __init__(self, url: str, predictors: dict[str, Predictor], seed: int) -> None:
        self.url = url
        self.random = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.wrong: list[Any] = []
        self.cases = [
            (
                name,
                prompt,
                seed,
                predictor.complete(prompt, max_tokens=TOKENS, seed=seed),
                self.scores(predictor, prompt),
            )
            for name, predictor in predictors.items()
            for prompt in PROMPTS
            for seed in range(8)
        ]

    @staticmethod
    def scores(predictor: Predictor, prompt: str) -> list[float]:
        return predictor.model.token_stats(predictor.tokenizer.encode(prompt)).log_probs.tolist()[1:]

    async def run(self, n_requests: int, n_clients: int) -> None:
        """Sends requests until their number is reached."""
        left = iter(range(n_requests))
        connector = aiohttp.TCPConnector(limit=n_clients)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def client() -> None:
                for _ in left:
                    await self.request(session)

            await asyncio.gather(*(client() for _ in range(n_clients)))

    async def request(self, session: aiohttp.ClientSession) -> None:
        """Sends one request of a random kind and checks its answer."""
        name, prompt, seed, text, scores = self.random.choice(self.cases)
        body: dict[str, Any] = {"model": name, "prompt": prompt, "seed": seed, "max_tokens": TOKENS}
        kind = self.random.choices(
            ["plain", "streamed", "scored", "malformed", "cancelled"], [40, 20, 20, 15, 100 * SHARE_CANCELLED]
        )[0]
        if kind == "malformed":
            body |= self.random.choice(
                [{"max_tokens": "many"}, {"prompt": {}}, {"model": "none"}, {"temperature": -1}, {"n": 10**9}]
            )
        if kind == "scored":
            body |= {"echo": True, "logprobs": 2, "max_tokens": 1}
        if kind == "streamed":
            body["stream"] = True
        if kind == "cancelled":
            body |= {"stream": True, "max_tokens": 4000}
        async with session.post(f"{self.url}/completions", json=body) as answer:
            if kind == "cancelled":
                await answer.content.readany()
                answer.close()
                right = answer.status == 200
            elif kind == "malformed":
                right = answer.status in (400, 404) and "message" in (await answer.json())["error"]
            elif kind == "streamed":
                lines = [line[6:] for line in (await answer.text()).split("\n") if line.startswith("data: {")]
                right = "".join(json.loads(line)["choices"][0]["text"] for line in lines) == text
            else:
                choice = (await answer.json())["choices"][0]
                if kind == "plain":
                    right = choice["text"] == text
                else:
                    given = choice["logprobs"]["token_logprobs"][1 : len(scores) + 1]
                    right = bool(np.allclose(given, scores, rtol=0, atol=1e-5))
            self.counts[f"{kind} {answer.status}"] += 1
        if not right:
            self.wrong.append(body)


def campaign(
    url: str, process: psutil.Process, predictors: dict[str, Predictor], n: int, clients: int
) -> dict[str, Any]:
    """Runs the campaign, and returns its figures."""
    asyncio.run(Campaign(url, predictors, seed=1).run(min(2000, n), clients))  # fills caches
    before, started = process.memory_info().rss, time.perf_counter()
    load = Campaign(url, predictors, seed=0)
    asyncio.run(load.run(n, clients))
    seconds = time.perf_counter() - started
    after = process.memory_info().rss
    for body in load.wrong[:5]:
        print("wrong:", body)
    print(f"{n:,} requests of {clients} clients: {len(load.wrong)} wrong, {n / seconds:,.0f} requests/s")
    print(f"memory: {before / 1e6:.0f} MB before, {after / 1e6:.0f} MB after")
    return {
        "requests": n,
        "wrong": len(load.wrong),
        "server_errors": sum(count for kind, count in load.counts.items() if kind.split()[1].startswith("5")),
        "requests_per_second": n / seconds,
        "memory_before": before,
        "memory_after": after,
        "kinds": dict(load.counts),
    }


# ---- Speed --------------------------------------------------------------------------------------


async def tokens_per_second(url: str, model: str, n_clients: int, seed: int, *, stream: bool) -> float:
    """Returns the tokens per second of clients that ask for texts at the same time.

    Their connections are open already, as those of a client that asks a second time.
    """

    async def connect(session: aiohttp.ClientSession) -> None:
        async with session.get(f"{url}/models") as answer:
            await answer.read()

    async def texts(session: aiohttp.ClientSession, client: int) -> int:
        return sum([await text(session, client * TEXTS + number) for number in range(TEXTS)])

    async def text(session: aiohttp.ClientSession, number: int) -> int:
        body: dict[str, Any] = {"model": model, "prompt": PROMPTS[0], "seed": seed + number, "max_tokens": LONG}
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        async with session.post(f"{url}/completions", json=body) as answer:
            if not stream:
                return (await answer.json())["usage"]["completion_tokens"]
            events = (await answer.read()).split(b"\n\n")  # the client should cost little: the server is measured
            usage = next(event for event in reversed(events) if event.startswith(b"data: {"))
            return json.loads(usage.removeprefix(b"data: "))["usage"]["completion_tokens"]

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(connect(session) for _ in range(n_clients)))
        started = time.perf_counter()
        n_tokens = sum(await asyncio.gather(*(texts(session, client) for client in range(n_clients))))
        return n_tokens / (time.perf_counter() - started)


def direct_tokens_per_second(predictor: Predictor, seed: int) -> float:
    """Returns the tokens per second of `Predictor.stream`, for the texts of the first client."""
    started = time.perf_counter()
    texts = ["".join(predictor.stream(PROMPTS[0], max_tokens=LONG, seed=seed + number)) for number in range(TEXTS)]
    seconds = time.perf_counter() - started
    return sum(min(LONG, len(predictor.tokenizer.encode(text)) + 1) for text in texts) / seconds


def speeds(url: str, predictors: dict[str, Predictor]) -> dict[str, Any]:
    """Compares streaming with direct generation, and 16 clients with one; all take turns."""
    figures: dict[str, Any] = {}
    for name, predictor in predictors.items():
        rows: list[tuple[float, float, float, float]] = []
        for turn in range(ROUNDS + 1):
            direct = direct_tokens_per_second(predictor, turn)
            streamed, one, sixteen = (
                asyncio.run(tokens_per_second(url, name, n_clients, turn, stream=stream))
                for n_clients, stream in ((1, True), (1, False), (16, False))
            )
            if turn:  # the first one warms up
                rows.append((direct, streamed, one, sixteen))
        direct, streamed, one, sixteen = (statistics.median(column) for column in zip(*rows, strict=True))
        figures[name] = {"direct": direct, "streamed": streamed, "one_client": one, "sixteen_clients": sixteen}
        print(
            f"{name}: direct {direct:,.0f} tokens/s, streamed {streamed:,.0f} ({streamed / direct:.2f} of it); one "
            f"client {one:,.0f}, 16 clients {sixteen:,.0f} ({sixteen / one:.1f} times)"
        )
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=64)
    arguments = parser.parse_args()
    figures: dict[str, Any] = {"cpus": os.cpu_count()}
    with tempfile.TemporaryDirectory() as folder:
        folders = make_predictors(Path(folder))
        predictors = {name: Predictor.load(path) for name, path in folders.items()}
        with served(folders) as (url, process, server):
            figures["speed"] = speeds(url, predictors)
            figures["campaign"] = campaign(url, process, predictors, arguments.requests, arguments.clients)
            started = time.perf_counter()
            server.terminate()
            server.wait()
            figures["seconds_to_end"] = time.perf_counter() - started
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
