"""No file names the host of a package index or a mirror."""

import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent

# Regular expressions, so that this file does not contain the names.
PUBLIC_HOSTS = r"(?:[a-z0-9-]+\.)+debian\.(?:org|net)|(?:[a-z0-9-]+\.)*(?:pypi|pythonhosted)\.org"


def tracked() -> list[Path]:
    """Return the project's files; without git, those in the directories with code."""
    if (ROOT / ".git").exists():
        listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
        paths = [ROOT / os.fsdecode(name) for name in listing.split(b"\0") if name]
    else:
        paths = [path for name in ("hatch_docker", "tests") for path in (ROOT / name).rglob("*")]
    return [path for path in paths if path.is_file() and path.suffix not in (".pgp", ".pyc")]


def configured_hosts() -> set[str]:
    """Return the hosts in the configuration of this machine's pip, uv and apt."""
    home = Path.home()
    files = [Path("/etc/pip.conf"), home / ".pip/pip.conf", home / ".config/pip/pip.conf", home / ".config/uv/uv.toml"]
    files += [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]
    texts = [path.read_text("utf-8", "replace") for path in files if path.is_file() and os.access(path, os.R_OK)]
    texts += [value for name, value in os.environ.items() if re.match(r"(?:PIP|UV)_.*(?:INDEX|LINKS)", name)]
    hosts = re.findall(r"https?://(?:[^/\s@]*@)?([A-Za-z0-9.-]+)", "\n".join(texts))
    return {host for host in hosts if "." in host and not re.fullmatch(r"[0-9.]+", host)}


def test_no_file_names_an_index_or_mirror_host() -> None:
    """Indexes and mirrors come from the user's configuration, in tests too."""
    hosts = [PUBLIC_HOSTS, *(re.escape(host) for host in configured_hosts())]
    pattern = re.compile("|".join(hosts).encode())
    found = {
        f"{path.relative_to(ROOT)}: {match[0].decode()}"
        for path in tracked()
        for match in pattern.finditer(path.read_bytes())
    }
    assert not found
