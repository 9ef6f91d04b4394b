"""Sound documents, damaged at random, for the parsers of what strangers write."""

import copy
import random
from collections.abc import Callable, Sequence
from typing import Any

Draw = Callable[[random.Random], Any]
"""A function that makes a document, another one for each state of the generator of random numbers."""

# What has broken readers before: numbers too large, half of a character, orders to a terminal, depth, nothing.
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
    """Some document with a few pieces changed, cut out, doubled or put elsewhere; now and then random bytes."""
    return lambda dice: _spoil(dice, documents)


def damaged_text(documents: Sequence[str]) -> Draw:
    """The same of text; bytes that are not UTF-8 become lone surrogates, as in names of files."""
    return lambda dice: _spoil_text(dice, documents)


def wrong_values(documents: Sequence[Any]) -> Draw:
    """Some value of JSON or TOML in which a few values are others, missing, or under another name."""
    return lambda dice: _misfit(dice, documents)


def mapped(draw: Draw, function: Callable[[Any], Any]) -> Draw:
    return lambda dice: function(draw(dice))


def one_of(*draws: Draw) -> Draw:
    return lambda dice: dice.choice(draws)(dice)


def tuple_of(*draws: Draw) -> Draw:
    return lambda dice: tuple(draw(dice) for draw in draws)


def _spoil(dice: random.Random, documents: Sequence[bytes]) -> bytes:
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


def _spoil_text(dice: random.Random, documents: Sequence[str]) -> str:
    data = _spoil(dice, [text.encode(errors="surrogatepass") for text in documents])
    return data.decode(errors="surrogateescape")


def _misfit(dice: random.Random, documents: Sequence[Any]) -> Any:
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
            place[key] = _spoil_text(dice, [place[key]])
        elif kind == 3:
            other, name = dice.choice(places)
            if (isinstance(other, dict) and name in other) or (isinstance(other, list) and name < len(other)):
                place[key] = copy.deepcopy(other[name])
        else:
            place[key] = copy.deepcopy(dice.choice(VALUES))
    return value


def _places(value: Any) -> Any:
    """Every place in a value that holds another: the container and the key."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        yield value, key
        yield from _places(inner)
