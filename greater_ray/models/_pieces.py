"""Text as numbers without a vocabulary: the prompts of a model whose tokens nobody tells."""

import re
from collections.abc import Iterable

from greater_ray.errors import ModelError
from greater_ray.types import TokenIds

_PIECE_BYTES = 6  # of a piece; with the mark in front its number is exact in every JSON reader


def pieces(text: str) -> TokenIds:
    """Cut text into words with the blank in front of them, long ones in pieces of up to six bytes of UTF-8.

    The numbers stand for the pieces themselves, so no vocabulary is needed, and there are about as many as a tokenizer
    makes: limits in tokens mean what they mean elsewhere.
    """
    found = []
    for word in re.findall(r"\s?\S+|\s", text):
        piece = b""
        for character in word:
            more = character.encode("utf-8", "surrogatepass")
            if len(piece) + len(more) > _PIECE_BYTES:
                found.append(piece)
                piece = b""
            piece += more
        found.append(piece)
    return tuple(int.from_bytes(b"\1" + piece) for piece in found)


def text_of(ids: Iterable[int]) -> str:
    """Put pieces together again.

    Raises:
        ModelError: the ids are a vocabulary's, not pieces.
    """
    try:
        parts = [number.to_bytes((number.bit_length() + 7) // 8) for number in ids]
        if any(part[:1] != b"\1" for part in parts):
            raise ValueError("no mark")
        return b"".join(part[1:] for part in parts).decode("utf-8", "surrogatepass")
    except (ValueError, OverflowError):
        why = "a prompt of another model's tokens cannot be shown to an endpoint; give it as text."
        raise ModelError(why, setting="prompt") from None
