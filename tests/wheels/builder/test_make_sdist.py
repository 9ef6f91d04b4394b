"""Archives of a project's tree, from which a backend builds the wheel."""

from pathlib import Path

from hatch_docker.core.context import open_context
from hatch_docker.core.progress import Progress
from hatch_docker.oci.compression import Decompressed
from hatch_docker.oci.tar import read_tar
from hatch_docker.project.tree import read_tree
from hatch_docker.wheels.builder.make_sdist import packed_tree


def test_packed_tree_is_reproducible(tmp_path: Path) -> None:
    """The bytes do not depend on the project's path. Two hard links become two files."""
    archives = []
    for place in ("a", "b/c"):
        root = tmp_path / place
        root.mkdir(parents=True)
        for name in ("pyproject.toml", "run"):
            (root / name).write_text(name)
        (root / "run").chmod(0o755)
        (root / "other").hardlink_to(root / "run")
        (root / "link").symlink_to("run")
        ctx = open_context({"HATCH_DOCKER_CACHE_DIR": str(tmp_path / "cache" / place)}, Progress(lambda line: None))
        archives.append(packed_tree(read_tree(root, {}, versioned=False), "app-1.tar.gz", ctx))
    assert archives[0].read_bytes() == archives[1].read_bytes()
    assert archives[0].name == "app-1.tar.gz"
    with archives[0].open("rb") as stream:
        found = {entry.path: (entry.kind, entry.mode & 0o100, entry.target, content and content.read())
                 for entry, content in read_tar(Decompressed(stream, 1 << 20))}  # fmt: skip
    assert found == {
        "source/pyproject.toml": ("file", 0, "", b"pyproject.toml"), "source/run": ("file", 0o100, "", b"run"),
        "source/other": ("file", 0o100, "", b"run"), "source/link": ("symlink", 0o100, "run", None),
    }
