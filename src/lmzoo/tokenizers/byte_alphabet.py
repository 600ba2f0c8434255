"""The vocabulary entries by which tokenizers represent single bytes."""

from __future__ import annotations


def _byte_characters() -> dict[str, int]:
    """Maps the 256 characters of byte-level tokenizers (Radford et al. 2019) to the bytes that they represent."""
    as_itself = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in as_itself]
    return {chr(byte): byte for byte in as_itself} | {chr(256 + n): byte for n, byte in enumerate(others)}


BYTE_OF = _byte_characters()
"""The byte that each character of a byte-level tokenizer stands for."""
BYTE_CHARACTERS = sorted(BYTE_OF, key=BYTE_OF.__getitem__)
"""The characters that stand for the bytes 0 to 255 in byte-level tokenizers."""


def byte_entries(*, in_bytes: bool) -> list[str]:
    """Returns the vocabulary entries of the 243 bytes that occur in UTF-8, in the order of the bytes.

    If `in_bytes` is True, the entries are those of a byte-level tokenizer, which writes each byte as one printable
    character. Otherwise they have the form "<0x0A>". The bytes C0, C1 and F5 to FF never occur in UTF-8.
    """
    used = [byte for byte in range(256) if byte not in (0xC0, 0xC1) and byte < 0xF5]
    return [BYTE_CHARACTERS[byte] if in_bytes else f"<0x{byte:02X}>" for byte in used]
