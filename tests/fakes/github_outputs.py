"""GITHUB_OUTPUT as a runner reads it."""

from pathlib import Path


def read_outputs(path: Path) -> dict[str, str]:
    """The outputs of a step by name, of which the last counts; each must be enclosed by a delimiter."""
    found = {}
    lines = iter(path.read_text("utf-8").splitlines())
    for line in lines:
        name, separator, delimiter = line.partition("<<")
        assert separator, line
        value = []
        while (line := next(lines)) != delimiter:
            value.append(line)
        found[name] = "\n".join(value)
    return found
