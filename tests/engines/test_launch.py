"""The launcher: replacement of variables in the command of an image, and start of the command."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from hatch_docker.engines import launch

NOT_SET = "is not set, and has no default in the command"
VARIABLES = {"PORT": "80", "EMPTY": "", "NESTED": "${PORT}", "_A1": "x"}


@pytest.mark.parametrize(
    ("word", "filled"),
    [
        ("${PORT}", "80"), ("--port=${PORT:-8000}/", "--port=80/"), ("${NONE:-8000}", "8000"), ("${EMPTY:-x}", "x"),
        ("${EMPTY}", ""), ("${NONE:-}", ""), ("${PORT}:${_A1}", "80:x"), ("${NESTED}", "${PORT}"),
        ("$${PORT}", "${PORT}"), ("${NONE:-x y}", "x y"),
        ("$$${PORT}", "$${PORT}"), ("${PORT}$${PORT}", "80${PORT}"), ("${NONE:-${PORT}}", "80"),
        ("${NONE:-${NO:-${PORT}}}/}", "80/}"), ("${PORT:-${NO:-1}}/", "80/"), ("${NONE:-${NESTED}}", "${PORT}"),
        ("${NONE:-${PORT}", "${NONE:-80"), ("${NONE:-$${PORT}}", "${PORT}"),
        # not a variable: unchanged
        ("$PORT", "$PORT"), ("${PORT", "${PORT"), ("${}", "${}"), ("${1}", "${1}"), ("${PORT-1}", "${PORT-1}"),
        ("${a b}", "${a b}"), ("${ä}", "${ä}"), ("a$b {PORT}", "a$b {PORT}"), ("", ""),
    ],
)  # fmt: skip
def test_variables_of_a_word_are_replaced_once(word: str, filled: str) -> None:
    assert launch.expand(word, VARIABLES) == filled
    assert launch.uses_variables((word,)) == (launch.expand(word, {"NESTED": "", **VARIABLES}) != word)


def start(tmp_path: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the launcher with the Python of an environment that has the console script `app` and the program `other`."""
    programs = tmp_path / "bin"
    programs.mkdir()
    python = programs / "python"
    python.symlink_to(sys.executable)
    text = "import os, sys\ndef main(): print(os.getppid(), __file__, __name__, sys.argv[1:], sys.path[0])\nmain()\n"
    for name, line in (("app", f"#!{python}"), ("other", "#!/bin/sh\necho $PPID sh $*; exit 3;")):
        (programs / name).write_text(f"{line}\n{text}")
        (programs / name).chmod(0o755)
    environ: Mapping[str, str] = {"PATH": f"{programs}:{os.environ['PATH']}", **variables}
    command = [python, launch.__file__, *words]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("words", "status", "output"),
    [
        (("app", "${PORT:-1}", "x"), 0, "{0} {1}/bin/app __main__ ['9', 'x'] {1}/bin"),
        (("other", "${PORT:-1}"), 3, "{0} sh 9"),
        (("python", "-c", "import sys; print(sys.argv)", "${PORT}"), 0, "['-c', '9']"),
        (("nowhere", "${PORT}"), 127, "error: nowhere: No such file or directory"),
        (("/etc/passwd",), 126, "error: /etc/passwd: Permission denied"),
        (("app", "${HOST}"), 64, f"error: the variable HOST {NOT_SET}: ${{{{HOST:-VALUE}}}}"),
        ((), 64, "error: there is no command"),
    ],
)  # fmt: skip
def test_launcher_process_becomes_the_command(words: tuple[str, ...], status: int, output: str, tmp_path: Path) -> None:
    """A console script runs in the same interpreter, another program replaces it; there is no further process."""
    done = start(tmp_path, *words, PORT="9")
    text = (done.stdout + done.stderr).strip()
    assert (done.returncode, text) == (status, output.format(os.getpid(), tmp_path))


def test_sigpipe_is_not_ignored_in_the_program(tmp_path: Path) -> None:
    done = start(tmp_path, "grep", "SigIgn", "/proc/self/status")
    assert int(done.stdout.split()[1], 16) & 1 << 12 == 0, done  # SIGPIPE
