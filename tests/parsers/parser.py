"""Registration of parsers of untrusted input, with valid and damaged documents, for test_fuzz."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.fakes.damaged_documents import Draw, damaged, damaged_text, mapped, one_of, wrong_values

Parse = Callable[[Any, Path], object]
Documents = tuple[Draw, Any]
"""Damaged documents, and a valid document."""

PARSERS: dict[str, tuple[Parse, Draw, Any]] = {}


def parses(documents: Documents) -> Callable[[Parse], Parse]:
    """Register a function that parses a document. Its second argument is a directory for files."""

    def register(parse: Parse) -> Parse:
        PARSERS[parse.__name__] = (parse, *documents)
        return parse

    return register


def of_bytes(*documents: bytes) -> Documents:
    return damaged(documents), documents[0]


def of_text(*documents: str) -> Documents:
    return damaged_text(documents), documents[0]


def of_json(*values: Any) -> Documents:
    """Return documents with wrong values or damaged bytes."""
    texts = [json.dumps(value).encode() for value in values]
    return one_of(mapped(wrong_values(values), lambda value: json.dumps(value).encode()), damaged(texts)), texts[0]


def of_toml(text: str) -> Documents:
    data = text.encode()
    tables = mapped(wrong_values([tomllib.loads(text)]), lambda value: toml(value).encode(errors="replace"))
    return one_of(tables, damaged([data])), data


def toml(value: Any, top: bool = True) -> str:
    """Return a value as TOML. Nested tables are inline. None, which TOML does not have, is left out."""
    if isinstance(value, dict):
        rows = [f"{toml(name, False)} = {toml(item, False)}" for name, item in value.items() if item is not None]
        return "\n".join(rows) if top else "{" + ", ".join(rows) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(toml(item, False) for item in value if item is not None) + "]"
    return json.dumps(value, default=str, ensure_ascii=isinstance(value, str) and value.isascii())


def written(directory: Path, name: str, data: bytes) -> Path:
    path = directory / name
    path.write_bytes(data)
    return path
