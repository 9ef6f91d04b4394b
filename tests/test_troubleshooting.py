"""docs/troubleshooting.md contains all errors that a user can cause, and no others. The code is parsed for them."""

import ast
import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product

import pytest

from tests.modules import PACKAGE, modules, nodes

PAGE = PACKAGE.parent / "docs" / "troubleshooting.md"
HOLE = "\N{HORIZONTAL ELLIPSIS}"  # placeholder for values in a message
LEAST = 8  # letters; a shorter message only passes on an error of another program

if not PAGE.is_file():
    pytest.skip("an sdist has no docs", allow_module_level=True)


def errors() -> set[str]:
    """Return the names of all subclasses of HatchDockerError."""
    classes = [
        (node.name, [base.id for base in node.bases if isinstance(base, ast.Name)])
        for path in modules().values()
        for node in nodes(path)
        if isinstance(node, ast.ClassDef)
    ]
    found = {"HatchDockerError"}
    while more := {name for name, bases in classes if found & set(bases)} - found:
        found |= more
    return found


def templates(node: ast.expr | None, known: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the possible texts of a message, with HOLE for each value; a name stands for all values assigned to it."""
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=parts):
            return ["".join(chosen) for chosen in product(*(templates(part, known) for part in parts))]
        case ast.FormattedValue(value=value):
            return templates(value, known)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return ["".join(pair) for pair in product(templates(left, known), templates(right, known))]
        case ast.IfExp(body=body, orelse=orelse):
            return [*templates(body, known), *templates(orelse, known)]
        case ast.BoolOp(values=parts):
            return [text for part in parts for text in templates(part, known)]
        case ast.Call(func=ast.Name(id="redact" | "sanitize"), args=[first, *_]):
            return templates(first, known)
        case ast.Name(id=name):
            return list(known.get(name, [HOLE]))
    return [HOLE]


def assigned(nodes: Iterable[ast.AST]) -> dict[str, list[str]]:
    """Return the texts that a function assigns to each name."""
    found: dict[str, list[str]] = {}
    for node in nodes:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found.setdefault(node.targets[0].id, []).extend(templates(node.value, {}))
    return found


@functools.cache
def messages() -> list[tuple[str, str]]:
    """Return the place and the template of each error and warning."""
    return sorted(set(find_messages()))


def find_messages() -> Iterator[tuple[str, str]]:
    kinds = errors()
    for name, path in modules().items():
        tree, *_others = nodes(path)
        config = name.startswith("config.")
        if name in ("config.messages", "config.suggest", "config.types"):
            yield from ((name, text) for text in sentences(tree))
        for function in nodes(path):
            if not isinstance(function, ast.FunctionDef):
                continue
            inside = tuple(ast.walk(function))
            known = assigned(inside)
            raised = {id(node.exc) for node in inside if isinstance(node, ast.Raise)}
            for node in (node for node in inside if isinstance(node, ast.Call) and node.args):
                if is_message(node, kinds, config=config, raised=id(node) in raised):
                    yield from ((f"{name}:{node.lineno}", text) for text in templates(node.args[0], known))


def sentences(tree: ast.AST) -> Iterator[str]:
    """Yield the parts of the configuration's errors."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            for value in node.value.values:
                yield from (re.sub(r"{\w+}", HOLE, text) for text in templates(value, {}))
        elif isinstance(node, ast.Return):
            yield from templates(node.value, {})
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Text":
            yield from templates(node.args[0], {})


def is_message(call: ast.Call, kinds: set[str], *, config: bool, raised: bool) -> bool:
    """Return whether a call makes an error or a warning from its first argument."""
    if isinstance(call.func, ast.Attribute):
        return call.func.attr in ("warn", "_warn", "abort", "__init__", "with_message") or (
            config and call.func.attr == "append"
        )
    name = call.func.id if isinstance(call.func, ast.Name) else ""
    return name in kinds or name == "warn" or (config and name == "ValueError") or (raised and name.startswith("_"))


def entries() -> list[str]:
    """Return the messages on the page."""
    blocks = re.findall(r"^```text\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line]


def pattern(entry: str) -> re.Pattern[str]:
    """Return a regular expression for an entry; "..." matches any text."""
    return re.compile(".*".join(re.escape(part) for part in re.split(r"\.{3,}", entry)), re.DOTALL)


NOT_ERRORS = {
    "config.schema",                # errors for authors of the page
    "wheels.builder.sandbox_init",  # for wheels.builder.sandbox, not for users
}


def is_own_message(where: str, text: str) -> bool:
    """Return whether a message is an error for users with a text of its own."""
    return where.partition(":")[0] not in NOT_ERRORS and len(re.findall(r"[a-zA-Z]", text)) >= LEAST


def test_all_messages_are_on_the_page() -> None:
    """A new error needs an entry in docs/troubleshooting.md with a remedy."""
    known = [pattern(entry) for entry in entries()]
    missing = [
        f"{where}: {text.replace(HOLE, '...')}" for where, text in messages()
        if is_own_message(where, text) and not any(item.fullmatch(text) for item in known)
    ]  # fmt: skip
    assert len(messages()) > 500
    assert not missing, f"docs/troubleshooting.md lacks:\n{chr(10).join(missing)}"


def test_all_entries_are_messages() -> None:
    """An entry without a message in the code must be removed. Entries must not match any text."""
    texts = "\n".join(text.replace("\n", " ") for _, text in messages())
    for entry in set(entries()):
        assert len(re.findall(r"[a-zA-Z]", entry)) >= 4, entry
    dead = [
        entry for entry in sorted(set(entries()))
        if not re.search(f"^{pattern(entry).pattern}$", texts, re.MULTILINE)
    ]  # fmt: skip
    assert not dead, f"nobody says any more:\n{chr(10).join(dead)}"


def test_entries_are_unique_and_have_a_text() -> None:
    """In each section of the page."""
    for section in re.split(r"^#+ ", PAGE.read_text("utf-8"), flags=re.MULTILINE)[1:]:
        blocks = re.findall(r"^```text\n(.*?)^```\n\n(```|#|.)", section, re.MULTILINE | re.DOTALL)
        assert len(blocks) == section.count("```text"), section
        assert all(after not in ("```", "#") for _, after in blocks), section
        lines = [line for block, _ in blocks for line in block.splitlines()]
        assert len(lines) == len(set(lines)), section
