"""Bytes and time from a pull on an empty node to an application's first response, and the minimum of a lazy pull.

    python benchmarks/lazy_pull.py [--base base.tar]

Two images of `example_project`: that of uv's Dockerfile, and hatch-docker's on `debian:trixie`. A proxy delays the
registry by 50 ms and limits it to 100 Mbit/s (without TCP's slow start). Then strace in the image's tree lists the
files that are opened until the first response. Their size, each file compressed alone as zstd:chunked and eStargz do,
is the minimum that a lazy pull fetches, without the cost of its requests. Needs strace and the requirements of
`benchmarks/seed.py`. Prints a table.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.build_times import remove  # noqa: E402 - the script is run by its path
from benchmarks.delayed import delayed  # noqa: E402
from benchmarks.end_to_end import DEBIAN, Bench  # noqa: E402
from benchmarks.seed_place import Place, place_in, run  # noqa: E402

ROUND_TRIP = 0.05
RATE = 12.5e6  # bytes per second
OPENED = re.compile(r'(?:openat\([^,]*, |execve\()"([^"]+)".* = \d+$')
IMAGES = {"uv": "uv's file", "debian": f"ours, `{DEBIAN}`"}
PORT = 8917
SERVE = ["--host", "0.0.0.0", "--port", "8000"]


def wait_for_response(place: Place, container: str, before: str) -> str:
    """Wait until a container of this name, with another ID than `before`, responds; return its ID."""
    for _ in range(2000):
        shown = subprocess.run(
            ["docker", "inspect", "--format", "{{.Id}} {{.NetworkSettings.IPAddress}}", container],
            env={**os.environ, "DOCKER_HOST": place.host}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        name, _, address = shown.stdout.strip().partition(" ")
        if shown.returncode == 0 and name != before and address:
            try:
                with urllib.request.urlopen(f"http://{address}:8000/", timeout=1):
                    return name
            except OSError:
                pass
        time.sleep(0.05)
    sys.exit("no container answers")


def start(place: Place, container: str, image: str, *command: str) -> None:
    """Replace a container by a new one with the same name."""
    subprocess.run(["docker", "rm", "--force", container], env={**os.environ, "DOCKER_HOST": place.host},
                   capture_output=True, check=False)  # fmt: skip
    place.docker("run", "--detach", f"--name={container}", image, *command)


def compressed_size(name: str) -> int:
    """Return the size of an image's layers in the registry, in bytes."""
    host, _, path = name.partition("/")
    repository, _, tag = path.partition(":")
    kinds = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
    request = urllib.request.Request(f"http://{host}/v2/{repository}/manifests/{tag}", headers={"Accept": kinds})
    with urllib.request.urlopen(request) as stream:
        return sum(layer["size"] for layer in json.load(stream)["layers"])


def opened_files(place: Place, image: str, command: list[str], directory: Path) -> tuple[int, int]:
    """Run an image's command until its first response; return the number of opened files and their compressed bytes."""
    tree = directory / "tree"
    tree.mkdir()
    place.docker("create", "--name=tree", image)
    place.docker("export", f"--output={directory / 'tree.tar'}", "tree")
    place.docker("rm", "tree")
    run("tar", "-xf", directory / "tree.tar", "-C", tree)
    config = json.loads(place.docker("image", "inspect", image))[0]["Config"]
    words = [*(config["Entrypoint"] or []), *(command or config["Cmd"] or [])]
    words = [str(PORT) if word == "8000" else word for word in words]
    log = directory / "trace"
    environ = dict(pair.partition("=")[::2] for pair in config["Env"])
    process = subprocess.Popen(
        ["strace", "-f", "-qq", "-s", "4096", "-e", "trace=openat,execve", "-o", log, "chroot", tree, *words],
        env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        for _ in range(600):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/", timeout=1):
                    break
            except OSError:
                time.sleep(0.1)
        else:
            sys.exit(f"{image} does not answer")
        text = log.read_text(errors="replace")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=60)
    found = {_inside(tree, match[1]) for line in text.splitlines() if (match := OPENED.search(line))}
    files = [path for path in found if path.is_file()]
    size = sum(len(zlib.compress(path.read_bytes(), 6)) for path in files)
    remove(tree)
    return len(files), size


def _inside(tree: Path, path: str) -> Path:
    """Resolve a path in a tree, with symlinks relative to the tree."""
    place = tree / path.lstrip("/")
    for _ in range(40):
        for part in (*reversed(place.parents), place):
            if part.is_symlink() and part.is_relative_to(tree):
                target, rest = str(part.readlink()), place.relative_to(part)
                place = (tree / target.lstrip("/") if target.startswith("/") else part.parent / target) / rest
                place = Path(os.path.normpath(place))
                break
        else:
            return place
    return place


def main() -> None:
    """Parse the arguments and measure in a temporary directory."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--base", type=Path, help="a tar file of the base's files (default: make one)")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="lazy-pull-"))
    print("| image | fetched | pull | to the answer | read until then | files read |\n|---|--:|--:|--:|--:|--:|")
    try:
        with place_in(directory, options.base) as place:
            bench = Bench(place)
            bench.theirs("uv"), bench.ours("debian", DEBIAN)
            for name, title in IMAGES.items():
                command = ["mandelbrot-tiles", *SERVE] if name == "uv" else []
                place.docker("system", "prune", "--all", "--force")
                place.docker("builder", "prune", "--all", "--force")  # BuildKit's cache has layers of uv's image
                size = compressed_size(f"{bench.host}/{name}:1")
                with delayed(bench.host, ROUND_TRIP, RATE) as address:
                    started = time.perf_counter()
                    place.docker("pull", f"{address}/{name}:1")
                    pulled = time.perf_counter() - started
                    start(place, "app", f"{address}/{name}:1", *command)
                    wait_for_response(place, "app", "")
                    took = time.perf_counter() - started
                    place.docker("rm", "--force", "app")
                    count, read = opened_files(place, f"{address}/{name}:1", command, directory)
                cells = f"{size / 1e6:.1f} MB | {pulled:.1f} s | {took:.1f} s | {read / 1e6:.1f} MB | {count}"
                print(f"| {title} | {cells} |", flush=True)
    finally:
        subprocess.run(["umount", directory / "data"], capture_output=True, check=False)  # dockerd leaves this mount
        remove(directory)


if __name__ == "__main__":
    main()
