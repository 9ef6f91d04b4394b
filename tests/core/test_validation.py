"""Conversion of JSON to dataclasses: accepted and rejected values."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pytest

from hatch_docker.core.validation import FileName, Line, read_record


@dataclass(frozen=True, slots=True)
class Inner:
    name: Line
    size: int
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Outer:
    file: FileName
    ids: Mapping[str, tuple[int, int]]
    rows: tuple[Inner, ...] = ()
    only: Inner | None = None
    words: frozenset[str] = frozenset()
    seconds: float = 0.0
    done: bool = False


FULL = Outer("a.tar", {"app": (1, 2)}, (Inner("x", 1), Inner("y", 2, "z")), Inner("w", 0), frozenset({"b"}), 1.5, True)


def test_record_round_trip() -> None:
    value = asdict(FULL)
    value["words"] = sorted(value["words"])
    assert read_record(Outer, json.loads(json.dumps(value))) == FULL
    assert read_record(Outer, {"file": "a", "ids": {}, "seconds": 1}) == Outer("a", {}, seconds=1)


def test_list_is_read_as_fields_in_order() -> None:
    assert read_record(Inner, ["x", 1]) == Inner("x", 1)
    assert read_record(Outer, ["a", {}, [["x", 1, None]]]) == Outer("a", {}, (Inner("x", 1),))


@pytest.mark.parametrize(("kind", "value"), [
    (Inner, None), (Inner, "x"), (Inner, []), (Inner, ["x", 1, None, 4]), (Inner, {"name": "x"}),
    (Inner, {"name": "x", "size": 1, "more": 2}), (Inner, {"name": "x", "size": "1"}), (Inner, ["x", True]),
    (Inner, ["x", -1]), (Inner, ["x", 1.0]), (Inner, ["x\ny", 1]), (Inner, ["x", 1, 2]),
    (Outer, {"file": "a/b", "ids": {}}), (Outer, {"file": "a", "ids": []}), (Outer, ["a", {"app": [1]}]),
    (Outer, ["a", {"app": [1, "2"]}]), (Outer, ["a", {}, {}]), (Outer, ["a", {}, [], {}]),
    (Outer, ["a", {}, [], None, "b"]), (Outer, ["a", {}, [], None, [], "1"]),
])  # fmt: skip
def test_wrong_type_is_rejected(kind: type[Any], value: object) -> None:
    with pytest.raises(ValueError, match="not "):
        read_record(kind, value)
