"""Parser of GITHUB_OUTPUT files, like that of GitHub's runner."""

from pathlib import Path


def read_outputs(path: Path) -> dict[str, str]:
    """Return the outputs of a step by name; the last value of a name counts. Each must have a delimiter."""
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
