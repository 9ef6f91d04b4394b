"""JSON of `inspect --json`, described in docs/inspect.md. Keys are added, but never removed or changed."""

from dataclasses import asdict
from typing import Any

from hatch_docker.cli.inspect.model import ImageContents, Package, largest_files, largest_packages
from hatch_docker.cli.inspect.reader import NamedImage

SCHEMA = 1


def document(named: NamedImage, *, files: bool) -> dict[str, Any]:
    """Return the contents of an image as JSON. Sizes are in bytes, layers count from 1. `files`: list all files."""
    contents = named.contents
    image = contents.image
    value: dict[str, Any] = {
        "schema": SCHEMA,
        "name": named.name,
        "digest": named.digest,
        "platforms": [
            {"platform": str(platform), "digest": digest, "size": size} for platform, digest, size in named.platforms
        ],
        "image": {
            "platform": str(image.platform), "digest": image.digest,
            "config_digest": image.manifest_json["config"]["digest"],
            "created": image.config_json.get("created"), **settings(contents),
        },
        "made_by_hatch_docker": contents.by_hatch_docker,
        "size": contents.size,
        "unpacked_size": contents.unpacked_size,
        "yours": contents.yours,
        "kinds": [asdict(kind) for kind in contents.kinds],
        "system": contents.system,
        "python": contents.python,
        "layers": [{"layer": number, **asdict(layer)} for number, layer in enumerate(contents.layers, 1)],
        "left_out": [asdict(excluded) for excluded in named.left_out],
        "packages": [package_document(contents, package) for package in largest_packages(contents.packages)],
        "permissions": asdict(contents.permissions),
    }  # fmt: skip
    if files:
        value["files"] = [
            {"path": f"/{file.path}", "size": file.size, "layer": file.layer + 1, "kind": file.kind,
             "package": contents.package_of(file)}
            for file in largest_files(contents)
        ]  # fmt: skip
    return value


def settings(contents: ImageContents) -> dict[str, Any]:
    """Return the settings of an image's configuration: command, user, environment variables, labels and others."""
    config = contents.settings
    return {
        "user": config.get("User") or "", "entrypoint": config.get("Entrypoint") or [], "cmd": config.get("Cmd") or [],
        "workdir": config.get("WorkingDir") or "", "env": config.get("Env") or [],
        "ports": sorted(config.get("ExposedPorts") or ()), "volumes": sorted(config.get("Volumes") or ()),
        "stop_signal": config.get("StopSignal") or "", "labels": contents.labels,
    }  # fmt: skip


def package_document(contents: ImageContents, package: Package) -> dict[str, Any]:
    """Return a package as JSON, with the names of the packages that it requires. `layer` is 0 if it has no file."""
    return {
        "type": package.type, "name": package.name, "version": package.version, "layer": package.layer + 1,
        "size": package.size, "files": package.files, "kind": package.kind, "required": not package.root,
        "requires": sorted({contents.packages[dependency.package].name for dependency in package.dependencies}),
    }  # fmt: skip
