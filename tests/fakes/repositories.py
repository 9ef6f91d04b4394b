"""Git repositories with packages, for tests of git dependencies, and an HTTP server for them on loopback."""

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.conftest import run
from tests.projects import git

STATIC = """[project]
name = "below"
version = "3.1"
dependencies = ["six"]
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
"""
VERSIONED = """[project]
name = "top-dep"
dynamic = ["version"]
[build-system]
requires = ["setuptools", "setuptools-scm"]
build-backend = "setuptools.build_meta"
[tool.setuptools]
packages = ["top_dep"]
[tool.setuptools_scm]
"""


def make_repository(place: Path) -> str:
    """Write a repository with two packages and two commits, and return the last commit.

    `top-dep` gets its version from the tag v1.5 of the first commit. `below` is in sub/.
    """
    files = {
        "pyproject.toml": VERSIONED, "top_dep/__init__.py": "VALUE = 1\n", "top_dep/data.txt": "data\n",
        "sub/pyproject.toml": STATIC, "sub/below/__init__.py": "import six\n",
    }  # fmt: skip
    for path, text in files.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_text(text)
    (place / "top_dep/link").symlink_to("data.txt")
    git(place, "init", "-q")
    commit_all(place)
    git(place, "tag", "-m", "release", "v1.5")
    (place / "top_dep/__init__.py").write_text("VALUE = 2\n")
    return commit_all(place)


def commit_all(place: Path) -> str:
    """Commit all files, and return the commit."""
    git(place, "add", "-A")
    git(place, "commit", "-qm", "a commit")
    return run("git", "rev-parse", "HEAD", cwd=place).strip()


@contextmanager
def serving_files(directory: Path, paths: list[str]) -> Iterator[str]:
    """Serve a directory for git's dumb HTTP protocol, and yield the URL. `paths`: gets path and login of each request.
    """

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_arguments: object) -> None:
            paths.append(f"{self.path} {self.headers.get('Authorization', '')}".strip())

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(directory)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
