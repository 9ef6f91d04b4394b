"""The command or option that a user means by a word that is none."""

import difflib
from collections.abc import Iterable

# Words of other tools, by the command that does it here.
COMMANDS = {
    "build": "image make bake package",
    "init": "new create setup start quickstart",
    "build --watch --run": "run dev serve up",
    "build --watch": "watch",
    "build --push": "release deploy",
    "dockerfile": "generate export render",
    "lock": "pin freeze",
    "lock --upgrade": "update upgrade",
    "push": "publish upload",
    "load": "import",
    "inspect": "show ls list images sbom dive history",
    "why": "tree depends",
    "diff": "compare",
    "outdated": "stale fresh scan audit",
    "verify-signature": "cosign",
    "doctor": "check info status test",
    "clean": "prune rm purge cache",
    "schema": "config options",
    "completion": "completions autocomplete",
    "--version": "version",
}
_MEANT = {word: command for command, words in COMMANDS.items() for word in words.split()}

# Options of other tools that have no similar one here, by what to do.
_ADVICE = {
    **dict.fromkeys(("-f", "--file"), "a build needs no Dockerfile; `hatch-docker dockerfile` writes one"),
    "--pull": "HATCH_DOCKER_REFRESH=1 asks the registry for the base again",
    **dict.fromkeys(("-n", "--name"), "did you mean --image?"),
    "--from": "did you mean --base?",
    **dict.fromkeys(("--dest", "--outdir", "-d"), "did you mean --output?"),
    **dict.fromkeys(("--force", "--no-caches", "--fresh"), "did you mean --no-cache?"),
    **dict.fromkeys(("--arch", "--target-platform"), "did you mean --platform?"),
}  # fmt: skip


def close_to(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return the name that is most like a word, "" if none is."""
    return next(iter(difflib.get_close_matches(word, list(known), 1, cutoff)), "")


def command_advice(word: str, known: Iterable[str]) -> str:
    """Return a sentence about a command that does not exist."""
    words = {**_MEANT, **{name: name for name in known}}
    similar = close_to(word.lower(), words) if len(word) > 2 else ""  # two letters resemble everything
    meant = words.get(word.lower()) or words.get(similar, "")
    lists = "`hatch-docker help` lists all commands"
    return f"did you mean `hatch-docker {meant}`? {lists}" if meant else lists


def option_advice(word: str, known: Iterable[str]) -> str:
    """Return a sentence about an option that a command does not have, "" if there is nothing to say.

    An option of the table may be meant; pydantic is imported for its names.
    """
    if word in _ADVICE:
        return _ADVICE[word]
    if meant := close_to(word, known, 0.75):
        return f"did you mean {meant}?"
    if not word.startswith("--"):
        return ""
    from hatch_docker.config.suggest import options_meant

    for name in (word[2:], f"{word[2:]}s"):
        if names := options_meant(name):
            variable = "HATCH_DOCKER_" + names[0].replace(".", "_").replace("-", "_").upper()
            return f"`{names[0]}` is an option of [tool.hatch-docker]; {variable} sets it for one run"
    return ""
