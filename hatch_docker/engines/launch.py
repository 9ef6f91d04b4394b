"""The launcher, a program in the image: it replaces variables in a command, `${PORT:-8000}`, and runs the command.

It uses the standard library only, without slow imports, because a container may have no shell. A console script of the
environment runs in this interpreter, to save the start of a second one. Any other program replaces this process
(execve), so that it gets the container's signals.
"""

import os
import sys

PATH = "/opt/hatch-docker/launch.py"
"""The path of this file in an image."""


def expand(word: str, variables: dict[str, str]) -> str:
    """Return a word with `${NAME}` and `${NAME:-default}` replaced, as in a shell; `$${` gives `${`.

    A default may contain variables: `${A:-${B:-1}}`. Raises LookupError with the name of a variable that is not set and
    has no default.
    """
    before, found, rest = word.partition("${")
    if not found:
        return word
    if before.endswith("$"):
        return before[:-1] + found + expand(rest, variables)
    body, end, after = rest.partition("}")
    while end and body.count("${") > body.count("}"):  # the brace ends a variable in the default
        more, end, after = after.partition("}")
        body += "}" + more
    name, default, text = body.partition(":-")
    if not end or not name.isidentifier() or not name.isascii():
        return before + found + expand(rest, variables)
    value = variables.get(name, "")
    if not value and default:
        value = expand(text, variables)
    elif name not in variables:
        raise LookupError(name)
    return before + value + expand(after, variables)


def uses_variables(words: tuple[str, ...]) -> bool:
    """Return whether one of the words contains a variable or `$${`."""
    try:
        return any(expand(word, {}) != word for word in words)
    except LookupError:
        return True


def _fail(message: str, status: int) -> None:
    sys.stderr.write("error: " + message + "\n")
    sys.exit(status)


def _script(name: str) -> "tuple[str, bytes] | None":
    """Return the path and the text of a console script of this interpreter, None for another program."""
    path = name if "/" in name else os.path.join(os.path.dirname(sys.executable), name)
    try:
        with open(path, "rb") as file:
            line = file.readline().rstrip()
            if line == b"#!" + os.fsencode(sys.executable):
                return path, line + b"\n" + file.read()
    except OSError:
        pass  # `_execute` reports the error
    return None


def _execute(words: list[str]) -> None:
    """Replace this process by a program; as in a shell, the exit status is 127 if it does not exist, else 126."""
    import _signal  # type: ignore[import-not-found]  # importing `signal` is slow

    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):  # Python ignores them, and the program would inherit that
        _signal.signal(number, _signal.SIG_DFL)
    try:
        os.execvp(words[0], words)
    except OSError as error:
        _fail(words[0] + ": " + str(error.strerror), 127 if isinstance(error, FileNotFoundError) else 126)


def _main(words: list[str]) -> "tuple[str, bytes]":
    """Return the path and the text of the command's console script, or replace this process by another program."""
    try:
        words = [expand(word, dict(os.environ)) for word in words]
        program = words[0]
    except IndexError:
        _fail("there is no command", 64)
    except LookupError as missing:
        name = missing.args[0]
        _fail("the variable " + name + " is not set, and has no default in the command: ${" + name + ":-VALUE}", 64)
    found = _script(program)
    if found is None:
        _execute(words)
    assert found is not None
    sys.argv[:] = [found[0], *words[1:]]
    sys.path[0] = os.path.dirname(found[0])
    return found


if __name__ == "__main__":
    __file__, _text = _main(sys.argv[1:])
    exec(compile(_text, __file__, "exec"))
