"""The generated sections of docs/options.md. `python -m tests.options_page docs/options.md` writes them."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hatch_docker.config import IMAGES
from hatch_docker.config.schema import IMAGES_DESCRIPTION, LISTS, Option, all_options, item_options
from hatch_docker.core.context import VARIABLES

# Titles and their options and tables. Other tables have a section with their name, other options are below OTHERS.
GROUPS: Mapping[str, Sequence[str]] = {
    "Name, tags and registries": ("image", "tags", "prereleases-move-tags", "push", "registries", "allow-dirty"),
    "Base, engine and platforms": ("base", "python", "engine", "builder", "platforms"),
    "Dependencies": ("extras", "dependency-groups", "lock", "pins", "wheel-records"),
    "The program": (
        "entrypoint", "cmd", "init", "env", "user", "workdir", "ports", "volumes", "stop-signal", "healthcheck",
        "ca-certificates",
    ),
    "Files, steps and labels": ("files", "steps", "labels", "annotations"),
    "Checks and limits": ("check", "max-size", "max-growth", "native-libraries"),
    "Results of a build": ("archive", "load", "compression", "sbom", "provenance", "dotenv"),
    "Debug images": ("debug", "debug-shell"),
}  # fmt: skip
OTHERS = "Other options"

# A value for each option, except Booleans and enumerations: their example is a value that differs from the default.
EXAMPLES: Mapping[str, str] = {
    "image": '"registry.example/team/app"',
    "tags": '["{version}", "{major}.{minor}", "latest"]',
    "registries": '["registry.example/team/app", "localhost:5000"]',
    "builder": '"podman"',
    "base": '"debian:trixie"',
    "python": '"3.13"',
    "platforms": '["linux/amd64", "linux/arm64"]',
    "extras": '["postgres"]',
    "dependency-groups": '["prod"]',
    "lock": '"requirements.txt"',
    "pins": '"none"',
    "entrypoint": '["web", "--port", "8000"]',
    "cmd": '["--workers", "2"]',
    "env": '{ LOG_LEVEL = "info" }',
    "labels": '{ "org.example.team" = "web" }',
    "annotations": '{ "org.opencontainers.image.vendor" = "Example" }',
    "user": '"1000:1000"',
    "workdir": '"/srv"',
    "ports": "[8000]",
    "volumes": '["/data"]',
    "stop-signal": '"SIGINT"',
    "healthcheck.command": '["web", "--check"]',
    "healthcheck.interval": '"10s"',
    "healthcheck.timeout": '"5s"',
    "healthcheck.start-period": '"20s"',
    "healthcheck.start-interval": '"1s"',
    "ca-certificates": '["company.crt"]',
    "healthcheck.retries": "5",
    "files[].source": '"config"',
    "files[].target": '"/etc/app"',
    "files[].mode": '"0640"',
    "steps[].command": '["django-admin", "collectstatic", "--no-input"]',
    "steps[].outputs": '["/srv/static"]',
    "steps[].inputs": '["manage.py", "assets/**/*.scss"]',
    "steps[].env": '{ SECRET_KEY = "only for this command" }',
    "steps[].secrets": '["HF_TOKEN"]',
    "steps[].timeout": '"30m"',
    "sbom": '["cyclonedx", "spdx"]',
    "max-size": '"50MB"',
    "max-growth": '"5%"',
    "dotenv": '"image.env"',
    "build.base": '"registry.example/python:3.13-dev"',
    "build.packages": '["libpq-dev"]',
    "build.env": '{ CFLAGS = "-O3" }',
    "build.args": '{ CHANNEL = "beta" }',
    "build.secrets": '["INDEX_TOKEN"]',
    "build.timeout": '"30m"',
    "build.memory": '"4GB"',
    "runtime.packages": '["libpq5"]',
    "slim.leave-out": '["tests", "locales"]',
    "slim.locales": '["de"]',
    "slim.keep": '["pandas/tests"]',
    "cache.from": '["type=registry,ref=registry.example/app:cache"]',
    "cache.to": '["type=registry,ref=registry.example/app:cache"]',
    "sign.key": '"env://COSIGN_PRIVATE_KEY"',
    "check.command": '["web", "--version"]',
    "check.timeout": '"10s"',
    "debian.mirror": '"https://mirror.example/debian"',
    "debian.security-mirror": '"https://mirror.example/debian-security"',
    "standalone.mirror": '"https://mirror.example/pythons"',
    "standalone.release": '"20261003"',
    "standalone.suite": '"bookworm"',
}
# Options that an option needs; its example contains them too.
WITH: Mapping[str, Sequence[str]] = {
    "builder": ("engine",), "debug-shell": ("base", "debug"), "max-growth": ("registries",),
    "runtime.packages": ("base",), "files[].source": ("files[].target",), "files[].target": ("files[].source",),
    "files[].mode": ("files[].source", "files[].target"),
    "steps[].command": ("steps[].outputs",), "steps[].outputs": ("steps[].command",),
    **{f"steps[].{name}": ("steps[].command", "steps[].outputs")
       for name in ("inputs", "env", "secrets", "network", "timeout")},
    "healthcheck.interval": ("healthcheck.command",), "healthcheck.timeout": ("healthcheck.command",),
    "healthcheck.start-period": ("healthcheck.command",), "init": ("base",),
    "healthcheck.start-interval": ("healthcheck.command", "healthcheck.start-period"),
    "healthcheck.retries": ("healthcheck.command",),
    "slim.locales": ("slim.leave-out",), "slim.keep": ("slim.leave-out",), "check.timeout": ("check.command",),
    "sign.transparency-log": ("sign.key",), "debian.security-mirror": ("debian.mirror",),
}  # fmt: skip


def options_page() -> str:
    """Return all options as Markdown: an index by group, then a section with an example for each option."""
    grouped = groups()
    index = [f"- {title}: " + ", ".join(f"[`{option.name}`](#{_anchor(option.name)})" for option in options)
             for title, _, options in grouped]  # fmt: skip
    parts = ["\n".join(index)]
    for title, text, options in grouped:
        parts += [f"## {title}", *([text] if text else []), *(_section(option) for option in options)]
    several = "[Several images](workspaces.md#several-images-of-one-project) has an example."
    parts += ["## Further images", f"{IMAGES_DESCRIPTION} {several}"]
    parts.append(_block(f"{IMAGES}.worker", ['entrypoint = ["worker"]']))
    return "\n\n".join(parts)


def groups() -> list[tuple[str, str, list[Option]]]:
    """Return the groups in the order of the page: title, introduction, options."""
    named = {name: title for title, names in GROUPS.items() for name in names}
    found: dict[str, list[Option]] = {title: [] for title in GROUPS}
    texts = dict.fromkeys(GROUPS, "")
    for option in _all():
        first = option.path[0].removesuffix("[]")
        title = named.get(first) or (f"Table {first}" if len(option.path) > 1 or option.is_table else OTHERS)
        if option.is_table:
            texts.setdefault(title, option.schema["description"])
        else:
            found.setdefault(title, []).append(option)
    order = {name: number for number, name in enumerate(named)}
    for title in GROUPS:
        found[title].sort(key=lambda option: order[option.path[0].removesuffix("[]")])
    return [(title, texts.get(title, ""), options) for title, options in found.items()]


def _all() -> Iterator[Option]:
    for option in all_options():
        yield from item_options(option.name) if option.name in LISTS else [option]


def _section(option: Option) -> str:
    text, _, default = option.schema["description"].partition(" Default: ")
    value = option.schema.get("default")
    shown = "required" if option.required else default.removesuffix(".") or "none"
    facts = [
        f"- Type: {_type(option.schema)}", f"- Default: {shown if value is None else f'`{json.dumps(value)}`'}",
        *([] if option.path[0].endswith("[]") else [f"- Variable: `{option.variable}`"]),
    ]  # fmt: skip
    return "\n\n".join([f"### `{option.name}`", text, "\n".join(facts), _example(option)])


def _example(option: Option) -> str:
    known = {other.name: other for other in _all()}
    names = sorted([*WITH.get(option.name, ()), option.name], key=list(known).index)
    tables: dict[str, list[str]] = {}
    for name in names:
        *table, last = known[name].path
        tables.setdefault(".".join(table), []).append(f"{last} = {_value(known[name])}")
    return "\n".join(["```toml", "\n\n".join(_table(table, lines) for table, lines in tables.items()), "```"])


def _value(option: Option) -> str:
    """Return an option's value for an example. Raise ValueError if EXAMPLES lacks a necessary value."""
    if option.name in EXAMPLES:
        return EXAMPLES[option.name]
    if option.schema.get("type") == "boolean":
        return json.dumps(not option.schema.get("default", False))
    if "enum" in option.schema:
        return json.dumps(next(word for word in option.schema["enum"][::-1] if word != option.schema.get("default")))
    raise ValueError(f"EXAMPLES in tests/options_page.py has no value for the option {option.name}")


def _block(table: str, lines: Sequence[str]) -> str:
    return "\n".join(["```toml", _table(table, lines), "```"])


def _table(table: str, lines: Sequence[str]) -> str:
    name = f"tool.hatch-docker.{table}".rstrip(".").removesuffix("[]")
    return "\n".join([f"[[{name}]]" if table.endswith("[]") else f"[{name}]", *lines])


def _anchor(name: str) -> str:
    return "".join(letter for letter in name if letter.isalnum() or letter == "-")


def _type(value: Mapping[str, Any]) -> str:
    if "enum" in value:
        return " or ".join(f'`"{word}"`' for word in value["enum"])
    names = {"string": "string", "boolean": "Boolean", "integer": "number", "object": "table of strings"}
    if "items" in value:
        names["array"] = "list of strings or numbers" if "integer" in value["items"]["type"] else "list of strings"
    kinds = value["type"] if isinstance(value["type"], list) else [value["type"]]
    return " or ".join(names[kind] for kind in kinds)


def variables_page() -> str:
    """Return a Markdown list of the variables that are not options."""
    return "\n".join(f"- `{name}`: {text}" for name, text in VARIABLES.items())


def with_sections(text: str) -> str:
    """Return the page with current texts between its markers, `<!-- options -->` and `<!-- variables -->`."""
    for name, make in (("options", options_page), ("variables", variables_page)):
        start, end = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
        before, found, rest = text.partition(start)
        after = rest.partition(end)[2]
        if not found or not after:
            raise ValueError(f"the page has no place for the {name}")
        text = f"{before}{start}{make()}{end}{after}"
    return text


if __name__ == "__main__":
    for page in map(Path, sys.argv[1:]):
        page.write_text(with_sections(page.read_text("utf-8")), "utf-8")
