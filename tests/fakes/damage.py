"""Sound documents, damaged: what Hypothesis draws for the parsers of what strangers write."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

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


@st.composite
def spoilt(draw: st.DrawFn, documents: Sequence[bytes]) -> bytes:
    """One of some documents with a few pieces changed, cut out, doubled or put elsewhere; now and then anything."""
    if draw(st.integers(0, 19)) == 0:
        return draw(st.binary(max_size=200))
    data = bytearray(draw(st.sampled_from(documents)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(start + draw(st.integers(0, 40)), len(data))
        kind = draw(st.sampled_from(("flip", "cut", "put", "double", "end")))
        if kind == "flip" and start < len(data):
            data[start] = draw(st.integers(0, 255))
        elif kind == "cut":
            del data[start:end]
        elif kind == "put":
            data[start:end] = draw(st.sampled_from(BYTES) | st.binary(max_size=8))
        elif kind == "double":
            data[start:start] = data[start:end] * draw(st.integers(1, 50))
        elif kind == "end":
            del data[start:]
    return bytes(data)


def spoilt_text(documents: Sequence[str]) -> st.SearchStrategy[str]:
    """The same of text; what is no UTF-8 becomes lone surrogates, as in names of files."""
    encoded = [text.encode(errors="surrogatepass") for text in documents]
    return spoilt(encoded).map(lambda data: data.decode(errors="surrogateescape"))


@st.composite
def misfit(draw: st.DrawFn, documents: Sequence[Any]) -> Any:
    """One of some values of JSON or TOML in which a few values are others, missing, or under another name."""
    value = copy.deepcopy(draw(st.sampled_from(documents)))
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(value))
        if not places:
            return copy.deepcopy(draw(st.sampled_from(VALUES)))
        place, key = draw(st.sampled_from(places))
        kind = draw(st.integers(0, 5))
        if kind == 0:
            del place[key]
        elif kind == 1 and isinstance(place, dict):
            place[draw(st.sampled_from(TEXTS))] = place.pop(key)
        elif kind == 2 and isinstance(place[key], str):
            place[key] = draw(spoilt_text([place[key]]))
        elif kind == 3:
            other, name = draw(st.sampled_from(places))
            if (isinstance(other, dict) and name in other) or (isinstance(other, list) and name < len(other)):
                place[key] = copy.deepcopy(other[name])
        else:
            place[key] = copy.deepcopy(draw(st.sampled_from(VALUES)))
    return value


def _places(value: Any) -> Any:
    """Every place in a value that holds another: the container and the key."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        yield value, key
        yield from _places(inner)
