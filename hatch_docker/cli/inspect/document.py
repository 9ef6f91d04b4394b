"""What `inspect --json` writes: the same facts for programs, described in docs/inspect.md. Keys are only ever added."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from hatch_docker.cli.inspect.model import Contents, File, Package
from hatch_docker.cli.inspect.subject import Subject
from hatch_docker.cli.inspect.text import by_size

SCHEMA = 1


def document(subject: Subject, *, files: bool) -> dict[str, Any]:
    """All about an image; sizes are in bytes, `size` as stored, layers count from 1."""
    contents = subject.contents
    image = contents.image
    value: dict[str, Any] = {
        "schema": SCHEMA,
        "name": subject.name,
        "digest": subject.digest,
        "platforms": [
            {"platform": str(platform), "digest": digest, "size": size} for platform, digest, size in subject.platforms
        ],
        "image": {
            "platform": str(image.platform), "digest": image.digest,
            "config_digest": image.manifest_json["config"]["digest"],
            "created": image.config_json.get("created"), **settings(contents),
        },
        "made_by_hatch_docker": contents.ours,
        "size": contents.stored,
        "unpacked_size": contents.unpacked,
        "yours": contents.yours,
        "kinds": [{"kind": part.kind, "unpacked_size": part.size, "size": part.stored} for part in contents.parts],
        "system": contents.system,
        "python": contents.python,
        "layers": [
            {
                "layer": number, "digest": layer.digest, "diff_id": layer.diff_id, "kind": layer.kind,
                "title": layer.title, "size": layer.stored, "unpacked_size": layer.unpacked, "files": layer.files,
                "files_size": layer.size, "removed_size": layer.removed,
            }
            for number, layer in enumerate(contents.layers, 1)
        ],
        "left_out": [asdict(one) for one in subject.left_out],
        "packages": [package(contents, one) for one in by_size(contents.packages)],
        "permissions": {
            "user": contents.permissions.user,
            "owners": {
                name: {"files": count, "size": size} for name, (count, size) in sorted(
                    contents.permissions.owners.items())
            },
            "setuid": list(contents.permissions.privileged),
            "writable": list(contents.permissions.writable),
            "writable_by_everybody": list(contents.permissions.open),
        },
    }  # fmt: skip
    if files:
        rows = sorted((one for one in contents.files if not one.link), key=lambda one: (-one.size, one.path, one.layer))
        value["files"] = [_file(contents, one) for one in rows]
    return value


def settings(contents: Contents) -> dict[str, Any]:
    """What the image runs, and as whom."""
    found = contents.settings
    return {
        "user": found.get("User") or "", "entrypoint": found.get("Entrypoint") or [], "cmd": found.get("Cmd") or [],
        "workdir": found.get("WorkingDir") or "", "env": found.get("Env") or [],
        "ports": sorted(found.get("ExposedPorts") or ()), "volumes": sorted(found.get("Volumes") or ()),
        "stop_signal": found.get("StopSignal") or "", "labels": dict(sorted(contents.labels.items())),
    }  # fmt: skip


def package(contents: Contents, one: Package) -> dict[str, Any]:
    """A package, and by name what it requires; 0 is the layer of one without files."""
    return {
        "type": one.type, "name": one.name, "version": one.version, "layer": one.layer + 1, "size": one.size,
        "files": one.files, "kind": one.kind, "required": not one.root,
        "requires": sorted({contents.packages[need.package].name for need in one.needs}),
    }  # fmt: skip


def _file(contents: Contents, one: File) -> dict[str, Any]:
    owner = contents.packages[one.package].name if one.package >= 0 else ""
    return {"path": f"/{one.path}", "size": one.size, "layer": one.layer + 1, "kind": one.kind, "package": owner}
