"""The documentation in tests: pages, blocks of code, commands, headings and links."""

import functools
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
LANGUAGES = {"console", "json", "python", "sh", "text", "toml", "yaml"}

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
_LINK = re.compile(r"\]\(([^()\s]+)\)")
_CODE = re.compile(r"`([^`]+)`")
_SEPARATORS = {";", "&&", "||", "|", "&", "(", ")", ";;", "{", "}"}
_REDIRECTIONS = re.compile(r"\d?(>|>>|<|>&|&>)")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_KEYWORDS = {"if", "then", "else", "elif", "fi", "do", "done", "while", "until", "for", "case", "esac", "!", "export"}


@dataclass(frozen=True)
class Block:
    """A block of code on a page, and its heading."""

    page: str
    line: int
    language: str
    heading: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    def script(self) -> str:
        """Return the lines for a shell: those after the prompts of a session, otherwise all lines."""
        lines = self.text.splitlines()
        if any(line.startswith("$ ") for line in lines):
            return "".join(f"{line.removeprefix('$ ')}\n" for line in lines if line.startswith("$ "))
        return self.text


def pages() -> list[Path]:
    """Return the paths of all pages, the README first."""
    return [path for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md") if path.is_file()] + sorted(
        DOCS.rglob("*.md")
    )


def blocks(*languages: str, page: str = "", heading: str = "") -> list[Block]:
    """Return the blocks in some languages (all without an argument), in the order of the pages."""
    found = [block for path in pages() for block in _blocks(path)]
    return [
        block for block in found
        if (not languages or block.language in languages) and page in ("", block.page)
        and heading in ("", block.heading)
    ]  # fmt: skip


@functools.cache
def _blocks(path: Path) -> list[Block]:
    found: list[Block] = []
    text = path.read_text("utf-8")
    for match in _FENCE.finditer(text):
        before = text[: match.start()]
        headings = _HEADING.findall(_FENCE.sub("", before))
        code = "".join(line.removeprefix(match[1]) for line in match[3].splitlines(keepends=True))
        found.append(Block(
            path.relative_to(ROOT).as_posix(), before.count("\n") + 1, match[2], headings[-1] if headings else "", code
        ))  # fmt: skip
    return found


def commands(script: str) -> Iterator[list[str]]:
    """Yield the simple commands of a script as words, without assignments, keywords, redirections and comments."""
    words: list[str] = []
    for line in re.sub(r"\$\(\([^)]*\)\)", "0", script.replace("\\\n", " ")).splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="();|&<>")
        lexer.whitespace_split = True
        words += [*lexer, ";"]
    command: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word in _SEPARATORS or set(word) <= set(";|&()"):
            if command and command[0] != "[":
                yield command
            command = []
        elif _REDIRECTIONS.fullmatch(word):
            skip = True
        elif command or not (_ASSIGNMENT.match(word) or word in _KEYWORDS):
            command.append(word)


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and Python-Markdown make them."""
    headings = _HEADING.findall(_FENCE.sub("", path.read_text("utf-8")))
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


def inline(path: Path) -> list[str]:
    """Return the code spans in a page's text."""
    return [" ".join(code.split()) for code in _CODE.findall(_FENCE.sub("", path.read_text("utf-8")))]


def links(path: Path) -> Sequence[str]:
    """Return the targets of a page's links, without those in blocks of code."""
    return _LINK.findall(_FENCE.sub("", path.read_text("utf-8")))
