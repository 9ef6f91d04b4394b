"""Randomly damaged documents, for testing parsers of untrusted input."""

import copy
import random
from collections.abc import Callable, Sequence
from typing import Any

Draw = Callable[[random.Random], Any]
"""Function that makes a random document with a generator of random numbers."""

# Values that often break parsers: large numbers, half of a character, terminal escapes, deep nesting, nothing.
TEXTS = ("", " ", "\0", "\n", "\x1b[2J", "\ud800", "..", "/", "%", "=", ":", "@", '"', "'", "٣", "e" * 300, "9" * 5000)
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 2**63, 10**30, -0.0, 1e308, [], {}, [[]], [None], {"": {}}, {"name": 3}, [{}], *TEXTS,
)  # fmt: skip
BYTES = (
    b"", b"\0", b"\xff", b"\n", b"\r\n", b"\x1b[2J", b"9" * 5000, b"[" * 3000, b"{" * 3000, b"(" * 3000, b"-1",
    b"\xed\xa0\x80", b"\xd9\xa3", b"\xc2\xb2", b'"', b"'", b"\\", b"..", b"/", b" " * 3000, b":", b"=", b",",
    b"%s", b"\x80" * 12,
)  # fmt: skip


def damaged(documents: Sequence[bytes]) -> Draw:
    """Choose a document and change, delete, insert or repeat a few pieces; sometimes return random bytes."""
    return lambda dice: _damage(dice, documents)


def damaged_text(documents: Sequence[str]) -> Draw:
    """Damage text like `damaged`. Bytes that are not UTF-8 become lone surrogates, as in file names."""
    return lambda dice: _damage_text(dice, documents)


def wrong_values(documents: Sequence[Any]) -> Draw:
    """Choose a JSON or TOML value and replace, delete or rename a few values in it."""
    return lambda dice: _replace_values(dice, documents)


def mapped(draw: Draw, function: Callable[[Any], Any]) -> Draw:
    return lambda dice: function(draw(dice))


def one_of(*draws: Draw) -> Draw:
    return lambda dice: dice.choice(draws)(dice)


def tuple_of(*draws: Draw) -> Draw:
    return lambda dice: tuple(draw(dice) for draw in draws)


def _damage(dice: random.Random, documents: Sequence[bytes]) -> bytes:
    if dice.random() < 0.05:
        return dice.randbytes(dice.randint(0, 200))
    data = bytearray(dice.choice(documents))
    for _ in range(dice.randint(1, 4)):
        start = dice.randint(0, len(data))
        end = min(start + dice.randint(0, 40), len(data))
        kind = dice.choice(("flip", "cut", "put", "double", "end"))
        if kind == "flip" and start < len(data):
            data[start] = dice.randrange(256)
        elif kind == "cut":
            del data[start:end]
        elif kind == "put":
            data[start:end] = dice.choice((*BYTES, dice.randbytes(dice.randint(0, 8))))
        elif kind == "double":
            data[start:start] = data[start:end] * dice.randint(1, 50)
        elif kind == "end":
            del data[start:]
    return bytes(data)


def _damage_text(dice: random.Random, documents: Sequence[str]) -> str:
    data = _damage(dice, [text.encode(errors="surrogatepass") for text in documents])
    return data.decode(errors="surrogateescape")


def _replace_values(dice: random.Random, documents: Sequence[Any]) -> Any:
    value = copy.deepcopy(dice.choice(documents))
    for _ in range(dice.randint(1, 3)):
        places = list(_places(value))
        if not places:
            return copy.deepcopy(dice.choice(VALUES))
        place, key = dice.choice(places)
        kind = dice.randint(0, 5)
        if kind == 0:
            del place[key]
        elif kind == 1 and isinstance(place, dict):
            place[dice.choice(TEXTS)] = place.pop(key)
        elif kind == 2 and isinstance(place[key], str):
            place[key] = _damage_text(dice, [place[key]])
        elif kind == 3:
            other, name = dice.choice(places)
            if (isinstance(other, dict) and name in other) or (isinstance(other, list) and name < len(other)):
                place[key] = copy.deepcopy(other[name])
        else:
            place[key] = copy.deepcopy(dice.choice(VALUES))
    return value


def _places(value: Any) -> Any:
    """Yield the container and the key of each value inside a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        yield value, key
        yield from _places(inner)
