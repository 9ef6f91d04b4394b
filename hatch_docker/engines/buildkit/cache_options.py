"""Command line options for the shared caches of a build; an option that the program would ignore is an error."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from hatch_docker.core.context import Context
from hatch_docker.core.errors import ConfigError
from hatch_docker.core.files import mark_as_cache
from hatch_docker.plan.model import CachePlan
from hatch_docker.project.workspace import writable_path

TABLE = "tool.hatch-docker.cache"
CACHE_SECRETS = (
    "ACTIONS_RUNTIME_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_CLIENT_SECRET",
    "BUILDKIT_AZURE_STORAGE_SECRET_ACCESS_KEY",
)  # fmt: skip
"""Environment variables with logins of caches; their values are hidden in the output of programs."""

GHA_BUILDX = (0, 21)  # the first version of buildx for GitHub's cache service v2, the only one since April 2025


def buildx_caches(cache: CachePlan, root: Path, version: tuple[int, int], ctx: Context) -> list[str]:
    """Return `--cache-from` and `--cache-to` of `docker buildx build`. `root`: the project's directory.

    Raises ConfigError for type=gha without its environment variables, because buildx would ignore the option without a
    message, and for a cache directory outside of the project.
    """
    options = []
    for option, many, place in (("from", cache.sources, "src"), ("to", cache.targets, "dest")):
        for fields in many:
            if fields["type"] == "gha":
                _check_gha(option, version, ctx.environ)
            if fields["type"] == "local":
                path = root / fields[place]
                if option == "to":
                    writable_path(root, fields[place], f"{TABLE}.to", "HATCH_DOCKER_CACHE_TO", ctx.environ)
                elif not (path / "index.json").is_file():
                    ctx.progress.info(f"  nothing in the cache {fields[place]} yet")
                    continue
                is_layout = (path / "oci-layout").is_file()
                if option == "to" and (is_layout or not path.is_dir() or not any(path.iterdir())):
                    mark_as_cache(path)  # other directories may contain files of the project
                fields = {**fields, place: str(path)}
            row = io.StringIO()
            csv.writer(row, lineterminator="").writerow([f"{name}={value}" for name, value in fields.items()])
            options.append(f"--cache-{option}={row.getvalue()}")
    return options


def _check_gha(option: str, version: tuple[int, int], environ: Mapping[str, str]) -> None:
    where = f"{TABLE}.{option}: type=gha"
    missing = [] if environ.get("ACTIONS_RUNTIME_TOKEN") else ["ACTIONS_RUNTIME_TOKEN"]
    if not environ.get("ACTIONS_CACHE_URL") and not environ.get("ACTIONS_RESULTS_URL"):
        missing.append("ACTIONS_RESULTS_URL")
    if missing:
        raise ConfigError(
            f"{where} works only in GitHub Actions, where a step has to export these variables: "
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set; use "
            "crazy-max/ghaction-github-runtime there, and set this option only there, with its variable"
        )
    if not environ.get("ACTIONS_CACHE_URL") and (0, 0) < version < GHA_BUILDX:  # (0, 0): the version is unknown
        oldest = ".".join(map(str, GHA_BUILDX))
        raise ConfigError(
            f"{where} needs buildx {oldest} or newer for GitHub's current cache service, and this is "
            f"{version[0]}.{version[1]}; use docker/setup-buildx-action, or type=registry"
        )


def podman_caches(cache: CachePlan) -> list[str]:
    """Return `--cache-from` and `--cache-to` of `podman build`, which stores each step as a tag in a cache repository.

    Raises ConfigError for options that Podman does not support.
    """
    options = []
    pairs = [*(("from", fields) for fields in cache.sources), *(("to", fields) for fields in cache.targets)]
    for option, fields in pairs:
        where = f"{TABLE}.{option}"
        if fields["type"] != "registry":
            raise ConfigError(f"{where}: podman keeps its cache in registries only, not in type={fields['type']}")
        ref = fields["ref"]
        if "@" in ref or ":" in ref.rpartition("/")[2]:
            raise ConfigError(
                f"{where}: podman keeps its cache in a separate repository, so {ref!r} must have no tag; "
                "docker buildx takes that too"
            )
        more = sorted(set(fields) - {"type", "ref", "mode"})
        if more or fields.get("mode") == "min":
            what = ", ".join(more) or "mode=min"
            raise ConfigError(f"{where}: podman does not know {what}; leave it out")
        options.append(f"--cache-{option}={ref}")
    return options
