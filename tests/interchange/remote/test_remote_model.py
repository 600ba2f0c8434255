"""Probabilities and text of remote models, from a server that works, and from servers that lack something."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from toy_server import ToyServer, bits_of, choice_reply, events_reply, json_reply, tokens_of

from lmzoo.corpora import Document
from lmzoo.errors import ConfigurationError, CorpusError, RemoteError
from lmzoo.interchange.remote import RemoteModel, remote_evaluation
from lmzoo.interchange.remote.answers import ScoredToken
from lmzoo.interchange.remote.surprisals import align

TEXT = "The cat sat, six, naïve 🎉!"


def expected_bits(text: str) -> list[float | None]:
    tokens = tokens_of(text)
    return [None, *(bits_of(before, token) for before, token in pairwise(tokens))]


# ---- The most likely tokens -------------------------------------------------------------------------


@pytest.mark.parametrize("has_newer_shape", [False, True])
def test_top_tokens_leave_the_rest_unassigned(server: ToyServer, has_newer_shape: bool) -> None:
    server.has_newer_shape = has_newer_shape
    top = RemoteModel(f"{server.url}#toy").top_tokens("One,", 2)
    assert [text for text, _ in top.tokens] == [" six", " seven"]
    assert [probability for _, probability in top.tokens] == pytest.approx([0.5, 0.25])
    assert top.unassigned == pytest.approx(0.25)
    request = server.received[-1]
    assert request.route == "/v1/completions"
    assert request.body["model"] == "toy"
    assert (request.body["prompt"], request.body["logprobs"], request.body["temperature"]) == ("One,", 2, 1)


def test_a_sampled_token_beyond_the_k_best_is_not_listed(server: ToyServer) -> None:
    logs = {" b": math.log(0.25), " a": math.log(0.5), " rare": math.log(0.01)}
    shown = {"tokens": [" rare"], "token_logprobs": [math.log(0.01)], "top_logprobs": [logs]}
    server.script = [choice_reply(logprobs=shown)]
    top = RemoteModel(f"{server.url}#toy").top_tokens("x", 2)
    assert [text for text, _ in top.tokens] == [" a", " b"]
    assert top.unassigned == pytest.approx(0.25)


@pytest.mark.parametrize(
    "logprobs", [None, {"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": None}, {"content": None}, {}]
)
def test_servers_without_probabilities_are_refused(server: ToyServer, logprobs: Any) -> None:
    server.script = [choice_reply(logprobs=logprobs)]
    with pytest.raises(RemoteError, match=f"^{server.url}/completions gave no log-probabilities of the next token"):
        RemoteModel(f"{server.url}#toy").top_tokens("x")


def test_a_text_that_ends_has_no_next_token(server: ToyServer) -> None:
    server.script = [choice_reply(text="", logprobs={"tokens": [], "token_logprobs": [], "top_logprobs": []})]
    with pytest.raises(RemoteError, match="ended the text"):
        RemoteModel(f"{server.url}#toy").top_tokens("x")


@pytest.mark.parametrize(
    ("logprobs", "message"),
    [
        ({"tokens": ["a"], "token_logprobs": [0.5]}, "the log-probability 0.5 is above 0"),
        ({"tokens": ["a", "b"], "token_logprobs": [-1.0]}, "2 tokens, 1 log-probabilities"),
        ({"tokens": ["a"], "token_logprobs": [-1.0], "top_logprobs": [{"a": 0, "b": -1}]}, "sum to 1.3679"),
        ({"content": [{"token": "a", "logprob": -1, "top_logprobs": [{"token": "a", "logprob": 9}]}]}, "9 is above 0"),
        ({"tokens": ["a"], "token_logprobs": ["-1"]}, "should be a valid number, got '-1'"),
        ({"tokens": ["a"], "token_logprobs": [float("nan")]}, "NaN is not a finite number"),
        ({"tokens": ["a"], "token_logprobs": [float("-inf")]}, "-Infinity is not a finite number"),
        ({"tokens": "a", "token_logprobs": [-1]}, "'choices.0.logprobs.tokens': input should be a valid"),
    ],
)
def test_nonsense_probabilities_are_refused(server: ToyServer, logprobs: Any, message: str) -> None:
    server.script = [choice_reply(logprobs=logprobs)]
    with pytest.raises(RemoteError, match=f"^{server.url}/completions gave .*{message}"):
        RemoteModel(f"{server.url}#toy").top_tokens("x")


# ---- Surprisals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("has_usage", [False, True])
def test_surprisals_are_those_of_the_model(server: ToyServer, has_usage: bool) -> None:
    server.has_usage = has_usage
    surprisals = RemoteModel(f"{server.url}#toy").surprisals(TEXT)
    assert [token.text for token in surprisals] == tokens_of(TEXT)
    assert [TEXT[token.start : token.end] for token in surprisals] == tokens_of(TEXT)
    assert surprisals[0].surprisal_bits is None
    assert [token.surprisal_bits for token in surprisals[1:]] == pytest.approx(expected_bits(TEXT)[1:])
    assert surprisals.scored_bytes == len(TEXT.encode()) - len("The")
    assert surprisals.bits_per_byte == pytest.approx(surprisals.total_bits / surprisals.scored_bytes)
    assert (
        surprisals.not_covered == "Not scored: 1 token without a log-probability (3 bytes), and the end of each text."
    )
    assert server.received[-1].body["max_tokens"] == 1, "0 has no limit in llama-cpp-python"


def test_a_start_token_is_no_part_of_the_text(server: ToyServer) -> None:
    server.start_token = "<s>"
    server.has_usage = False
    surprisals = RemoteModel(f"{server.url}#toy").surprisals("The cat")
    assert [(token.text, token.surprisal_bits) for token in surprisals] == [("The", 10), (" cat", 2)]
    assert surprisals.not_covered == "Not scored: the end of each text."
    assert surprisals.scored_bytes == 7


@pytest.mark.parametrize("text", ["The cat", "The", ","])
@pytest.mark.parametrize("has_newer_shape", [False, True])
@pytest.mark.parametrize("has_usage", [False, True])
def test_a_server_that_ignores_echo_is_refused(
    server: ToyServer, text: str, has_newer_shape: bool, has_usage: bool
) -> None:
    server.honours_echo, server.has_newer_shape, server.has_usage = False, has_newer_shape, has_usage
    with pytest.raises(RemoteError, match=f"^{server.url}/completions returned no log-prob.* it ignores `echo`$"):
        RemoteModel(f"{server.url}#toy").surprisals(text)


def test_a_generated_token_that_equals_the_text_is_no_echo(server: ToyServer) -> None:
    shown = {"tokens": ["a"], "token_logprobs": [-1.0], "top_logprobs": [{"a": -1.0}]}
    for fields in ({"usage": {"completion_tokens": 1}}, {}):
        model = RemoteModel(f"{server.url}#toy")
        model.surprisals("The cat")  # the check of the positions
        server.script = [json_reply({"choices": [{"text": "a", "logprobs": shown}], **fields})]
        with pytest.raises(RemoteError, match="it ignores `echo`"):
            model.surprisals("a")


def test_a_server_with_shifted_positions_is_refused(server: ToyServer) -> None:
    server.is_shifted = True
    with pytest.raises(RemoteError, match=r"' six' after .* 0\.500 as a prediction, but 0\.001 in an echoed prompt"):
        RemoteModel(f"{server.url}#toy").surprisals(TEXT)


def test_positions_are_checked_once(server: ToyServer) -> None:
    model = RemoteModel(f"{server.url}#toy")
    model.surprisals(TEXT)
    n_requests = len(server.received)
    assert n_requests == 3
    model.surprisals(TEXT)
    assert len(server.received) == n_requests + 1


def test_a_shortened_or_changed_prompt_is_refused(server: ToyServer) -> None:
    for shown in (
        ["cat", " sat", ","],
        ["the", " cat", " sat", ","],
        ["The", " cat", ","],
        ["The", " cat", " sat", " x"],
    ):
        model = RemoteModel(f"{server.url}#toy")
        model.surprisals("The cat")
        logprobs = {"tokens": shown, "token_logprobs": [None, *[-1.0] * (len(shown) - 1)]}
        server.script = [choice_reply(text="".join(shown), logprobs=logprobs)]
        with pytest.raises(RemoteError, match=f"returned {len(shown)} tokens that do not make up the prompt"):
            model.surprisals("The cat sat!")


def test_an_echo_without_probabilities_is_refused(server: ToyServer) -> None:
    model = RemoteModel(f"{server.url}#toy")
    model.surprisals("The cat")
    shown = {"tokens": ["The", " cat", ","], "token_logprobs": [None, None, -1.0]}
    server.script = [choice_reply(text="The cat,", logprobs=shown)]
    with pytest.raises(RemoteError, match="returned the tokens of the prompt without log-probabilities"):
        model.surprisals("The cat")
    server.script = [choice_reply(text="The cat,", logprobs=shown | {"token_logprobs": [None, -9999.0, -1.0]})]
    with pytest.raises(RemoteError, match="-9999 stands for a token of unknown probability"):
        model.surprisals("The cat")


@pytest.mark.parametrize(
    ("text", "tokens", "spans"),
    [
        ("a é b", ["a", " ", "\ufffd", "\ufffd", " b"], [(0, 1), (1, 2), (2, 3), (2, 3), (3, 5)]),
        ("a 🎉", ["a", " ", "", "", ""], [(0, 1), (1, 2), (2, 3), (2, 3), (2, 3)]),
        ("a 🎉", ["a", " ", "", "", "🎉"], [(0, 1), (1, 2), (2, 2), (2, 2), (2, 3)]),
        ("é b", ["bytes:\\xc3", "bytes:\\xa9", " b"], [(0, 1), (0, 1), (1, 3)]),
        ("The cat", [" The", " cat"], [(0, 3), (3, 7)]),
        ("", [], []),
        ("a long text", ["a", "\ufffd"], None),
        ("a b", ["a", "\ufffd", "c"], None),
        ("abc", ["a", "b"], None),
        ("abc", ["a", "b", "c", "d"], None),
    ],
)
def test_spans_of_tokens(text: str, tokens: list[str], spans: list[tuple[int, int]] | None) -> None:
    aligned = align(text, [ScoredToken(token, -1.0, []) for token in tokens])
    assert (None if aligned is None else [(token.start, token.end) for token in aligned]) == spans


def test_a_character_that_is_scored_in_part_does_not_count() -> None:
    tokens = [ScoredToken(token, log_prob, []) for token, log_prob in [("", None), ("", -1.0), (" b", math.log(0.5))]]
    aligned = align("é b", tokens)
    assert aligned is not None
    assert (aligned.scored_bytes, aligned.total_bits) == (2, 1.0)
    assert aligned.not_covered.startswith("Not scored: 2 tokens without a log-probability (2 bytes)")


def test_evaluation_of_documents(server: ToyServer) -> None:
    documents = [Document("a", "The cat sat, six"), Document("b", ""), Document("c", "One"), Document("d", TEXT)]
    model = RemoteModel(f"{server.url}#toy")
    result = remote_evaluation(model, documents)
    bits = [*expected_bits("The cat sat, six")[1:], *expected_bits(TEXT)[1:]]
    assert result.total_bits == pytest.approx(sum(each or 0 for each in bits))
    assert result.n_bytes == sum(len(document.text.encode()) for document in documents)
    assert result.scored_bytes == result.n_bytes - len("The" + "One" + "The")
    assert result.bits_per_byte == pytest.approx(result.total_bits / result.scored_bytes)
    assert (result.n_documents, result.scored_tokens, result.model) == (3, len(bits), "toy")
    assert result.not_covered.startswith("Not scored: 3 tokens without a log-probability (9 bytes)")
    with pytest.raises(CorpusError, match="1 documents have no token"):
        remote_evaluation(model, documents[2:3])


# ---- Text -------------------------------------------------------------------------------------------


def test_text_whole_and_in_pieces(server: ToyServer) -> None:
    model = RemoteModel(f"{server.url}#toy")
    text = model.complete("One", max_tokens=4, temperature=0.5, top_p=0.9, seed=7, stop="z")
    assert text == ", six, six"
    assert list(model.stream("One", max_tokens=4)) == [",", " six", ",", " six"]
    assert list(model.chat([{"role": "user", "content": "One"}], max_tokens=2)) == [",", " six"]
    whole, streamed, chat = server.received
    fields = {"temperature": 0.5, "top_p": 0.9, "seed": 7, "stop": ["z"], "max_tokens": 4}
    assert whole.body == {"model": "toy", "prompt": "One", **fields}
    assert streamed.body == {
        "model": "toy", "prompt": "One", "max_tokens": 4, "temperature": 1.0, "top_p": 1.0, "stream": True,
    }  # fmt: skip
    assert chat.route == "/v1/chat/completions"
    assert chat.body["messages"] == [{"role": "user", "content": "One"}]


def test_wrong_arguments_are_refused_before_a_request(server: ToyServer) -> None:
    model = RemoteModel(f"{server.url}#toy")
    calls: list[Any] = [
        lambda: model.complete("x", temperature=-1),
        lambda: model.complete("x", temperature=math.nan),
        lambda: model.complete("x", top_p=2),
        lambda: model.complete("x", max_tokens=0),
        lambda: model.complete("x", seed=-1),
        lambda: model.complete("x", stop=[""]),
        lambda: model.stream("x", stop=[5]),
        lambda: model.chat([{"role": "user"}]),
        lambda: model.top_tokens("x", 0),
        lambda: model.surprisals(""),
        lambda: RemoteModel(server.url, tries=0),
        lambda: RemoteModel(server.url, timeout=(0, 1)),
        lambda: RemoteModel(server.url, token_limit=0),
    ]
    for call in calls:
        with pytest.raises(ConfigurationError):
            call()
    assert not server.received


# ---- The name of the model, and the token limit -----------------------------------------------------


def test_the_only_model_of_a_server_needs_no_name(server: ToyServer) -> None:
    model = RemoteModel(f"{server.url}/")
    assert repr(model) == f"<RemoteModel the only model at {server.url}>"
    assert model.complete("One", max_tokens=1) == ","
    assert model.model == "toy"
    assert [request.route for request in server.received] == ["/v1/models", "/v1/completions"]
    server.models = ("toy", "other")
    with pytest.raises(RemoteError, match=r"/models lists 2 models: choose one with .*#MODEL \(toy, other\)$"):
        RemoteModel(server.url).complete("x")


def test_the_token_limit_is_kept(server: ToyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    model = RemoteModel(f"{server.url}#toy", token_limit=12)
    model.complete("One, two", max_tokens=3)
    assert model.tokens_used == 6, "3 of the prompt and 3 generated, as the server counts"
    with pytest.raises(RemoteError, match="not asked: 6 of 12 tokens are used, and this request may need 7 more"):
        model.complete("One, two", max_tokens=4)
    assert len(server.received) == 1
    server.has_usage = False
    model.complete("One", max_tokens=2)
    assert model.tokens_used == 9, "an estimate: a token for 3 bytes"
    monkeypatch.setenv("LMZOO_TOKEN_LIMIT", "5")
    with pytest.raises(RemoteError, match=r"0 of 5 tokens are used.*\(LMZOO_TOKEN_LIMIT\)$"):
        RemoteModel(f"{server.url}#toy").complete("x", max_tokens=5)
    monkeypatch.setenv("LMZOO_TOKEN_LIMIT", "many")
    with pytest.raises(ConfigurationError, match="LMZOO_TOKEN_LIMIT must be a number of tokens, got 'many'"):
        RemoteModel(server.url)


def test_streams_count_for_the_limit_also_if_they_are_left(server: ToyServer) -> None:
    model = RemoteModel(f"{server.url}#toy")
    stream = model.stream("One", max_tokens=50)
    assert [next(stream) for _ in range(3)] == [",", " six", ","]
    stream.close()  # type: ignore[attr-defined]
    assert model.tokens_used == 1 + 3
    piece = {"text": "a", "finish_reason": "stop"}
    usage = {"prompt_tokens": 30, "completion_tokens": 40}
    server.script = [events_reply({"choices": [piece]}, {"choices": [], "usage": usage}, "[DONE]")]
    assert list(model.stream("One")) == ["a"]
    assert model.tokens_used == 4 + 70


def test_the_code_of_the_page_runs(server: ToyServer, capsys: pytest.CaptureFixture[str]) -> None:
    page = Path(__file__).parents[3] / "docs" / "how-to" / "remote.md"
    (code,) = re.findall(r"^```py\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    address = "http://127.0.0.1:8000/v1#gpt2"
    assert address in code
    exec(compile(code.replace(address, f"{server.url}#toy"), str(page), "exec"), {})
    assert "The None\n capital 10.0\n of 10.0\n" in capsys.readouterr().out
