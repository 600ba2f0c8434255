"""Seeded mutations of files: of any bytes, of the lines and fields of a text, of JSON values, and of safetensors."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np

_NASTY: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 1.5, -0.0, 1e-300, 1e308, 2**31, 2**53, 2**63, 10**30, 600_000_000, 3_000_000_000,
    20_000, 3_000_000, 10**12, "", "x", "1", "nan", "../../EVIL", "/elsewhere/EVIL", "..", "a/b", "a\\b", "\0",
    "\x1b[31m", "<script>alert(1)</script>", "=cmd|' /C calc'!A0", "\u202e", "x" * 100_000,
    [], {}, [1], [[]], {"a": {}}, ["x", 1],
)  # fmt: skip
_RAW = (
    b"NaN", b"Infinity", b"-Infinity", b"1e999", b"9" * 5000, b"[" * 100_000, b'{"a":' * 50_000, b'"\\ud800"',
    b"[" * 300 + b"]" * 300, b"\xff", b"",
)  # fmt: skip
_MARK = "the place of a raw value"
_BYTES = np.frombuffer(b"\x00\x01\t\n\r \"',-.0123456789:<>[\\]aE{}\x7f\x80\xc3\xe2\xff", np.uint8)


def mutated_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    """Returns data with 1 to 4 changes: bytes replaced, inserted, removed, repeated or reversed, or the end cut off."""
    for _ in range(rng.integers(1, 5)):
        start = int(rng.integers(len(data) + 1))
        stop = min(len(data), start + int(rng.integers(1, 33)))
        noise = bytes(rng.choice(_BYTES, rng.integers(1, 9)))
        changed = (
            data[:start] + noise + data[start + len(noise) :],
            data[:start] + noise + data[start:],
            data[:start] + data[stop:],
            data[:stop] + data[start:],
            data[:start],
            data[:start] + data[start:stop][::-1] + data[stop:],
        )
        data = changed[rng.integers(len(changed))] or data
    return data


def mutated_lines(data: bytes, rng: np.random.Generator) -> bytes:
    """Returns a text with a changed field, with lines repeated, removed or exchanged, or with changed bytes."""
    lines = data.split(b"\n")
    row, other = rng.integers(len(lines), size=2)
    match rng.integers(4):
        case 0:
            return mutated_bytes(data, rng)
        case 1:
            lines[row], lines[other] = lines[other], lines[row]
        case 2:
            lines[row : row + 1] = [lines[row]] * rng.integers(0, 3)
        case _:
            fields = lines[row].split(b"\t")
            values = [
                b"nan",
                b"inf",
                b"-inf",
                b"-2_0.5",
                b"1e400",
                b"",
                b" ",
                b"9" * 400,
                b"0x1p3",
                b"-99",
                b"5",
                b"\xff",
            ]
            fields[rng.integers(len(fields))] = values[rng.integers(len(values))]
            lines[row] = b"\t".join(fields)
    return b"\n".join(lines)


def mutated_json(data: bytes, rng: np.random.Generator) -> bytes:
    """Returns JSON with one changed, removed, renamed or exchanged value, or with changed bytes."""
    if rng.random() < 0.25:
        return mutated_bytes(data, rng)
    value = json.loads(data)
    holder, key = _place(value, rng)
    choice = rng.random()
    raw = b""
    if choice < 0.65:
        holder[key] = copy.deepcopy(_NASTY[rng.integers(len(_NASTY))])
    elif choice < 0.75:
        holder[key], raw = _MARK, _RAW[rng.integers(len(_RAW))]
    elif choice < 0.85:
        del holder[key]
    elif isinstance(holder, dict):
        holder[str(_NASTY[rng.integers(len(_NASTY))])[:50]] = holder.pop(key)
    else:
        holder.insert(key, copy.deepcopy(holder[key]))
    text = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return text.replace(json.dumps(_MARK).encode(), raw) if raw else text


def _place(value: Any, rng: np.random.Generator) -> tuple[Any, Any]:
    """Returns a random container within a JSON value, and a random key or index of it."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = keys[rng.integers(len(keys))]
        inner = value[key]
        if not (isinstance(inner, dict | list) and inner) or rng.random() < 0.15:
            return value, key
        value = inner


def mutated_safetensors(data: bytes, rng: np.random.Generator) -> bytes:
    """Returns a safetensors file with a changed header, changed numbers or changed bytes."""
    size = int.from_bytes(data[:8], "little")
    header, body = data[8 : 8 + size], data[8 + size :]
    match rng.integers(4):
        case 0:
            return mutated_bytes(data, rng)
        case 1:
            header = mutated_json(header, rng)
            return len(header).to_bytes(8, "little") + header + body
        case 2:
            declared = (0, size - 1, size + 1, 2**31, 2**63, 2**64 - 1, int(rng.integers(size)))
            return declared[rng.integers(len(declared))].to_bytes(8, "little") + header + body
        case _:
            numbers = bytearray(body)
            for _ in range(rng.integers(1, 4)):
                wrong = np.array([np.nan, np.inf, -np.inf, -1, 1e30, 0])[rng.integers(6)]
                dtype = (np.float32, np.float64, np.int64, np.int32)[rng.integers(4)]
                with np.errstate(all="ignore"):
                    new = np.array([wrong]).astype(dtype).tobytes()
                start = int(rng.integers(max(1, len(numbers) // len(new)))) * len(new)
                numbers[start : start + len(new)] = new
            return data[: 8 + size] + bytes(numbers)[: len(body)]
