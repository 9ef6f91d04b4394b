"""The package indexes of uv's and pip's configuration, with their logins.

uv's configuration has priority: its variables, then uv.toml or [tool.uv] of the project, the user and the machine. If
it names no index, pip's configuration is used: its variables, then all pip.conf files. If the project has sources in
Poetry's or PDM's table and no index of uv, these are added to the user's indexes or replace them.

Passwords are in the `login` of an index and in the environment of uv, never in a key, a pin or a message. With the
`keyring-provider` of uv or pip, the program `keyring` supplies missing passwords, as in uv: first for the index's URL,
then for its host.
"""

from __future__ import annotations

import configparser
import functools
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from hatch_docker.core.context import Context
from hatch_docker.core.errors import ConfigError, ProgramError, RegistryError
from hatch_docker.core.http import urls
from hatch_docker.core.process import ProcessFailed, run
from hatch_docker.core.validation import ANY, first_mismatch
from hatch_docker.project.workspace import member_directories, workspaces_of
from hatch_docker.wheels.declared import DeclaredIndexes, declared_indexes

if TYPE_CHECKING:
    from hatch_docker.core.http.client import Client

Login = tuple[str, str]

# Variables of uv that change the selected versions. They are part of the key of a resolution.
VERSION_VARIABLES = (
    "UV_CONSTRAINT", "UV_EXCLUDE_NEWER", "UV_INDEX_STRATEGY", "UV_OVERRIDE", "UV_PRERELEASE", "UV_RESOLUTION",
)  # fmt: skip
# Keys of [tool.uv] that uv rejects in uv.toml.
_PROJECT_ONLY = frozenset({
    "build-backend", "conflicts", "default-groups", "dependency-groups", "dev-dependencies", "environments",
    "managed", "package", "required-environments", "sources", "workspace",
})
# Types of the settings of uv that are read, for `validation.first_mismatch`.
_INDEX_TYPES: Mapping[str, Any] = {
    "index?": [{"url?": str, "name?": str, "default?": bool, "explicit?": bool, "*": ANY}],
    "index-url?": str, "extra-index-url?": [str], "find-links?": [str], "no-index?": bool,
    "dependency-metadata?": [{"name?": str, "*": ANY}], "*": ANY,
}
_SETTINGS_TYPES: Mapping[str, Any] = {"pip?": _INDEX_TYPES, **_INDEX_TYPES}
_PYPROJECT_TYPES: Mapping[str, Any] = {"tool?": {"uv?": _SETTINGS_TYPES, "*": ANY}, "*": ANY}


@dataclass(frozen=True, slots=True)
class SimpleIndex:
    """A package index (PEP 503), or a flat page or directory of files. `url` has no credentials; `login` has them.

    An `explicit` index is used only for packages that a source (tool.uv.sources) assigns to it. `include`: patterns of
    names that PDM searches in this index only. `exclude`: patterns of names that PDM never searches in it. `options`:
    other settings of the index in uv.
    """

    url: str
    name: str = ""
    login: Login | None = None
    default: bool = False
    explicit: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    declared: bool = False                # by Poetry's or PDM's table
    options: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        login = "***" if self.login else None
        kind = f"default={self.default}, explicit={self.explicit}"
        return f"SimpleIndex({self.url!r}, name={self.name!r}, login={login}, {kind})"

    @property
    def identity(self) -> list[Any]:
        """All fields except the login, as JSON for a key."""
        options = {name: str(value) for name, value in sorted(self.options.items())}
        return [self.url, self.name, self.default, self.explicit, self.include, self.exclude, options]


@dataclass(frozen=True, slots=True)
class Indexes:
    """The indexes to use, from the configuration of `source`: "uv", "pip", "poetry", "pdm", or "" for uv's default.

    `note`: a message that names the sources of Poetry or PDM which are not used, with a remedy.
    """

    indexes: tuple[SimpleIndex, ...]
    find_links: tuple[SimpleIndex, ...]
    no_index: bool
    source: str
    settings: Mapping[str, Any]           # uv.toml of project, user and machine, merged
    version_variables: Mapping[str, str]           # the variables of VERSION_VARIABLES that are set
    certificates: str = ""                # pip's `cert`: CA bundle if no variable names one
    keyring: bool = False                 # True if the program keyring supplies missing passwords
    strategy: str = ""                    # index-strategy of uv that does the same as Poetry or PDM
    note: str = ""

    def identity(self) -> list[Any]:
        """Return everything that affects a resolution, as JSON for a key; no secrets."""
        addresses = [index.identity for index in (*self.indexes, *self.find_links)]
        tables = {**self.settings.get("pip", {}), **self.settings}
        settings = {name: value for name, value in tables.items() if name in _VERSION_SETTINGS}
        return [addresses, self.no_index, dict(self.version_variables), repr(sorted(settings.items())), self.strategy]

    @property
    def secrets(self) -> tuple[str, ...]:
        """All passwords and tokens, also URL-encoded, to be hidden in the output of programs."""
        logins = [index.login for index in (*self.indexes, *self.find_links) if index.login]
        words = {word for user, password in logins for word in (password or user,)}
        return tuple(sorted(words | {quote(word, safe="") for word in words}))

    def authorization(self, url: str) -> dict[str, str]:
        """Return the Authorization header for the index at the origin of a URL; none if that index has no login."""
        for index in (*self.indexes, *self.find_links):
            remote = {urlsplit(url).scheme, urlsplit(index.url).scheme} <= set(urls.PORTS)
            if index.login and remote and urls.origin(index.url) == urls.origin(url):
                return {"authorization": urls.basic(*index.login)}
        return {}

    @property
    def uses_uv_default(self) -> bool:
        """True if uv uses its default index."""
        return not self.no_index and not any(index.default for index in self.indexes)

    def find(self, name: str) -> SimpleIndex | None:
        """Return the first index with this name, compared as in uv; None if there is none."""
        return next((index for index in self.indexes if index.name and index.name.lower() == name.lower()), None)

    def without_declared(self) -> Indexes:
        """Return the indexes without those of Poetry's or PDM's table, for packages whose index Poetry's lock omits."""
        return replace(self, indexes=tuple(index for index in self.indexes if not index.declared), strategy="")

    @property
    def missing_links(self) -> tuple[str, ...]:
        """Local find-links that do not exist. pip skips them with a warning; uv would fail, so it does not get them.

        Empty for uv's own configuration: uv reads it, and fails.
        """
        if self.source in ("", "uv"):
            return ()
        paths = ((link.url, unquote(link.url.removeprefix("file://"))) for link in self.find_links)
        return tuple(url for url, path in paths if "://" not in path and not os.path.exists(path))  # noqa: PTH110

    def client(self, ctx: Context) -> Client:
        """Return the HTTP client of a build. It trusts pip's `cert` bundle if no variable names a bundle."""
        from_environ = any(ctx.environ.get(name) for name in urls.BUNDLES)
        return ctx.client if from_environ or not self.certificates else ctx.client.with_ca_bundle(self.certificates)

    def uv_environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the environment for uv. If uv has no indexes of its own, pip's configuration is in variables of uv.

        Logins are not passed as options, because every user of the machine can read a command line.
        """
        env = {name: value for name, value in environ.items() if not name.startswith(("PIP_", "VIRTUAL_ENV"))}
        env |= {"UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1", "NO_COLOR": "1"}
        bundle = next((environ[name] for name in urls.BUNDLES if environ.get(name)), self.certificates)
        if bundle and _exists(bundle):
            env["SSL_CERT_FILE"] = bundle
        trust_is_set = bundle or env.keys() & set(_TRUST)
        if not trust_is_set and any(map(_exists, urls.CA_FILES)):
            env |= dict.fromkeys(_TRUST, "1")  # the default of Python and pip
        if self.source not in ("", "uv"):
            env = {name: value for name, value in env.items() if name not in _INDEX_VARIABLES}
            env |= {"UV_INDEX_STRATEGY": self.strategy, **env} if self.strategy else {}
            extras = [_with_login(index) for index in self.indexes if not index.default and not index.explicit]
            defaults = [_with_login(index) for index in self.indexes if index.default]
            env |= {"UV_DEFAULT_INDEX": defaults[0]} if defaults else {}
            env |= {"UV_INDEX": " ".join(extras)} if extras else {}
            links = [_with_login(link) for link in self.find_links if link.url not in self.missing_links]
            env |= {"UV_FIND_LINKS": ",".join(links)} if links else {}
            env |= {"UV_KEYRING_PROVIDER": "subprocess"} if self.keyring else {}
        return env


KEYRING_TIMEOUT = 60.0  # seconds, for the user to unlock it
_known_passwords: dict[tuple[str, str, str], str] = {}  # from keyring, by URL, user and PATH; "" if there is none
_TRUST = ("UV_SYSTEM_CERTS", "UV_NATIVE_TLS")  # new and old variable to trust the system's CAs
_INDEX_VARIABLES = ("UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL")
_INDEX_SETTINGS = ("index", "index-url", "extra-index-url", "index-strategy")
_VERSION_SETTINGS = frozenset({
    "constraint-dependencies", "exclude-newer", "exclude-newer-package", "index-strategy",
    "override-dependencies", "prerelease", "resolution",
})


def read_indexes(root: Path, environ: Mapping[str, str]) -> Indexes:
    """Return a project's index configuration. Raise ConfigError for a file that cannot be read."""
    settings, member = _uv_settings(root, environ), {"index": _member_indexes(root)}
    tables = [settings, settings.get("pip", {})]
    found, source = _indexes_of([member, *tables], environ), "uv"
    certificates = provider = ""
    if not any(_indexes_of(tables, environ)):
        options = _pip_options(root, environ)
        found = _indexes_of([member, options], {})
        source = "pip" if any(_indexes_of([options], {})) else ""
        certificates, provider = options.get("cert", ""), options.get("keyring-provider", "")
    for table in (settings.get("pip", {}), settings, {"keyring-provider": environ.get("UV_KEYRING_PROVIDER") or None}):
        provider = table.get("keyring-provider") or provider
    keyring = provider in ("subprocess", "import")  # "import": pip imports keyring instead of running it
    version_variables = {name: environ[name] for name in VERSION_VARIABLES if environ.get(name)}
    indexes = Indexes(*found, source, settings, version_variables, certificates, keyring)
    of_uv = {f"{name}?" for name in _project_table(root)} & _INDEX_TYPES.keys()
    declared = None if of_uv else declared_indexes(_pyproject(root), environ)
    return indexes if declared is None else _with_declared(indexes, declared, environ)


def _with_declared(indexes: Indexes, declared: DeclaredIndexes, environ: Mapping[str, str]) -> Indexes:
    """Return the user's indexes combined with those of Poetry's or PDM's table."""
    own = [
        replace(
            _index(entry["url"], environ, name=entry["name"]), default=entry["default"], explicit=entry["explicit"],
            include=entry["include"], exclude=entry["exclude"], declared=True,
        )
        for entry in declared.indexes
    ]
    settings = {name: value for name, value in indexes.settings.items() if name not in _INDEX_SETTINGS}
    if "pip" in settings:
        settings["pip"] = {name: value for name, value in settings["pip"].items() if name not in _INDEX_SETTINGS}
    links = [_index(entry["url"], environ, name=entry["name"]) for entry in declared.links]
    return replace(
        indexes, indexes=(*own, *(() if declared.replaces else indexes.indexes)), source=declared.tool,
        find_links=(*indexes.find_links, *links),
        settings=settings, strategy=declared.strategy, note=declared.note,
    )


def config_files(root: Path, environ: Mapping[str, str]) -> list[str]:
    """Return the paths of all files that `read_indexes` may read for a project, including those that do not exist."""
    names = ("uv.toml", "pyproject.toml")
    return [
        *(str(directory / name) for directory in (root, *root.parents) for name in names),
        *([environ["UV_CONFIG_FILE"]] if environ.get("UV_CONFIG_FILE") else ()), *_uv_files(environ),
        *([f"{environ['APPDATA']}/uv/uv.toml"] if environ.get("APPDATA") else ()),
        *filter(None, _pip_files(environ)),
    ]


def with_keyring(indexes: Indexes, ctx: Context) -> Indexes:
    """Return the indexes with passwords from keyring; unchanged if the configuration does not enable keyring.

    Each password is requested once per process, and becomes a secret of the build. Raise RegistryError if the program
    `keyring` is not installed or does not respond in time.
    """
    if not indexes.keyring:
        return indexes

    def with_password(index: SimpleIndex) -> SimpleIndex:
        user, password = index.login or ("", "")
        if not user or user.startswith("-") or password or not index.url.startswith("http"):
            return index
        key = (index.url, user, ctx.environ.get("PATH", ""))
        if key not in _known_passwords:
            _known_passwords[key] = _keyring_password(index.url, user, ctx.environ)
        password = _known_passwords[key]
        if not password:
            return index
        ctx.secrets.add(f"the login of the index {index.url}", password)
        return replace(index, login=(user, password))

    return replace(
        indexes, indexes=tuple(map(with_password, indexes.indexes)),
        find_links=tuple(map(with_password, indexes.find_links)),
    )


def _keyring_password(url: str, user: str, environ: Mapping[str, str]) -> str:
    for service in (url, urlsplit(url).netloc):
        try:
            found = run(["keyring", "get", service, user], env=environ, timeout=KEYRING_TIMEOUT).strip("\r\n")
        except ProcessFailed:  # keyring has no such entry
            continue
        except ProgramError as error:
            raise RegistryError(
                f"the package index {url}: {error}, though the configuration asks for keyring's passwords; install "
                "keyring, or put the password into UV_INDEX_<NAME>_PASSWORD or ~/.netrc"
            ) from error
        if found:
            return found
    return ""


def _index(text: str, environ: Mapping[str, str], *, name: str = "", default: bool = False) -> SimpleIndex:
    """Return the index with this URL. The login is in the URL, or in UV_INDEX_<NAME>_USERNAME and _PASSWORD."""
    try:
        parts = urlsplit(text)
        host = parts.netloc.rpartition("@")[2]
        login = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
        parts.port  # noqa: B018 - raises ValueError if it is not a number
    except ValueError:  # the error's text may contain a password
        raise ConfigError(
            f"the package index {urls.redact_url(text)!r} is not a URL; in a password write / as %2F, # as %23 and "
            "@ as %40"
        ) from None
    if name:
        variable = "UV_INDEX_" + re.sub(r"[^A-Z0-9]", "_", name.upper())
        user, password = environ.get(f"{variable}_USERNAME"), environ.get(f"{variable}_PASSWORD")
        if user or password:
            login = (user or (login[0] if login else ""), password or (login[1] if login else ""))
    return SimpleIndex(parts._replace(netloc=host).geturl() if host else text, name, login, default)


def _with_login(index: SimpleIndex) -> str:
    if index.login is None:
        return index.url
    parts = urlsplit(index.url)
    user, password = (quote(word, safe="") for word in index.login)
    return parts._replace(netloc=f"{user}{password and f':{password}'}@{parts.netloc}").geturl()


def _indexes_of(
    tables: Sequence[Mapping[str, Any]], environ: Mapping[str, str]
) -> tuple[tuple[SimpleIndex, ...], tuple[SimpleIndex, ...], bool]:
    """Return indexes, find-links and `no-index`, from uv's variables and then from tables of settings.

    Only the first of several default indexes is returned.
    """
    found: list[SimpleIndex] = []
    for variable in _INDEX_VARIABLES:
        is_default = variable in ("UV_DEFAULT_INDEX", "UV_INDEX_URL")
        for word in environ.get(variable, "").split():
            match = re.fullmatch(r"([\w.-]+)=(.+)", word)
            name, url = match.groups() if match else ("", word)
            found.append(_index(url, environ, name=name, default=is_default))
    for table in tables:
        for entry in table.get("index", []):
            url, name = entry.get("url", ""), entry.get("name", "")
            kind = {"default": entry.get("default", False), "explicit": entry.get("explicit", False)}
            options = {key: value for key, value in entry.items() if key not in ("url", "name", *kind)}
            found.append(replace(_index(url, environ, name=name), **kind, options=options))
        found += [_index(url, environ) for url in table.get("extra-index-url", [])]
        found += [_index(table["index-url"], environ, default=True)] if "index-url" in table else []
    default = next((index for index in found if index.default), None)
    links = [word for word in environ.get("UV_FIND_LINKS", "").split(",") if word.strip()]
    links += [link for table in tables for link in table.get("find-links", [])]
    no_index = _is_true(environ.get("UV_NO_INDEX")) or any(table.get("no-index") for table in tables)
    return (
        tuple(index for index in found if not index.default or index is default),
        tuple(_index(link.strip(), environ) for link in links), no_index,
    )


def _is_true(text: str | None) -> bool:
    return (text or "").lower() in ("1", "true", "yes", "on")


def _uv_settings(root: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return uv's settings files merged: the project's first, then the user's and the machine's; lists are joined."""
    if _is_true(environ.get("UV_NO_CONFIG")):
        return {}
    if environ.get("UV_CONFIG_FILE"):
        return _toml(Path(environ["UV_CONFIG_FILE"]), _SETTINGS_TYPES)
    user, *machine = _uv_files(environ)
    paths = [user, next(filter(_exists, machine), "")]
    if environ.get("APPDATA"):
        paths.insert(1, f"{environ['APPDATA']}/uv/uv.toml")
    merged: dict[str, Any] = {}
    for table in (_project_table(root), *(_toml(Path(path), _SETTINGS_TYPES) for path in paths if _exists(path))):
        for name, value in table.items():
            if name in _PROJECT_ONLY:
                continue
            if isinstance(value, list) and isinstance(merged.get(name), list):
                merged[name] = merged[name] + value
            else:
                merged.setdefault(name, value)
    return merged


def _project_table(root: Path) -> dict[str, Any]:
    """Return uv's settings for a project. A member of a workspace has the settings of the workspace.

    Raise ConfigError if the file is above the project and belongs to another user: uv would read it (for example in
    /tmp).
    """
    trusted = {0, os.getuid(), root.stat().st_uid}
    root = next((place for place, _ in workspaces_of(root)), root)
    for directory in (root, *root.parents):
        path, table = directory / "uv.toml", None
        if _exists(path):
            table = _toml(path, _SETTINGS_TYPES)
        elif _exists(path := directory / "pyproject.toml"):
            table = _pyproject(directory).get("tool", {}).get("uv")
        if table is not None:
            if directory != root and path.stat().st_uid not in trusted:
                raise ConfigError(
                    f"{path} belongs to the user {path.stat().st_uid}, who could choose your packages: remove it, or "
                    "move the project"
                )
            return table
    return {}


def _pyproject(root: Path) -> dict[str, Any]:
    return _toml(root / "pyproject.toml", _PYPROJECT_TYPES) if _exists(root / "pyproject.toml") else {}


def _member_indexes(root: Path) -> list[dict[str, Any]]:
    """Return the indexes that workspace members declare, the project's first. Only tool.uv.sources uses them."""
    places = [root] if any(workspaces_of(root)) else []
    places += member_directories(root, _pyproject(root)).values()
    tables = (_pyproject(place).get("tool", {}).get("uv", {}) for place in places)
    return [{**index, "explicit": True, "default": False} for table in tables for index in table.get("index", [])]


def _uv_files(environ: Mapping[str, str]) -> list[str]:
    """Return the path of the user's uv.toml, then those of the machine; uv reads the first that exists."""
    machine = (f"{directory}/uv/uv.toml" for directory in _machine_directories(environ))
    return [f"{_user_directory(environ)}/uv/uv.toml", *machine, "/etc/uv/uv.toml"]


def _user_directory(environ: Mapping[str, str]) -> str:
    return environ.get("XDG_CONFIG_HOME") or f"{environ.get('HOME') or ''}/.config"


def _machine_directories(environ: Mapping[str, str]) -> list[str]:
    return (environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")


def _exists(path: Path | str) -> bool:
    """Return whether a file exists; False if its directory is not accessible, as in pip."""
    return os.path.isfile(path)  # noqa: PTH113 - Path's method raises for such a directory


def _toml(path: Path, expected: Mapping[str, Any]) -> dict[str, Any]:
    try:
        table = _parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"cannot read the index configuration in {path}: {error}") from error
    if (place := first_mismatch(expected, table)) is not None:
        raise ConfigError(f"the index configuration in {path} cannot be read: {place} is not valid there for uv")
    return table


@functools.lru_cache(16)
def _parse(text: str) -> dict[str, Any]:
    """Parse a TOML document. The result is cached for later reads in the same build, and must not be changed."""
    return tomllib.loads(text)


def _pip_options(root: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return pip's options, with the types of uv's settings of the same names.

    Priority: variables, [install], [global]; the user's file before the machine's.
    """
    found: dict[str, str] = {}
    for path in filter(_exists, _pip_files(environ)):
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(Path(path).read_text(encoding="utf-8"), path)
        except (OSError, ValueError, configparser.Error) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(f"cannot read pip's configuration {path}: {reason}") from error
        for section in ("global", "install"):
            if parser.has_section(section):
                found |= {name.replace("_", "-"): value.strip() for name, value in parser.items(section)}
    options: dict[str, Any] = {  # no other options: pip's `index` is a string
        name: environ.get("PIP_" + name.upper().replace("-", "_")) or found.get(name, "")
        for name in ("index-url", "extra-index-url", "find-links", "no-index", "cert", "keyring-provider")
    }
    links = options["find-links"].split()
    options |= {
        "find-links": [link if "://" in link else str(root / Path(link).expanduser()) for link in links],
        "extra-index-url": options["extra-index-url"].split(), "no-index": _is_true(options["no-index"]),
    }
    return {name: value for name, value in options.items() if value}


def _pip_files(environ: Mapping[str, str]) -> list[str]:
    """Return all possible paths of a pip.conf by increasing priority (pip's documentation, Configuration, Location)."""
    only = environ.get("PIP_CONFIG_FILE", "")
    if only == "/dev/null":
        return []
    home = environ.get("HOME") or ""
    others = (("APPDATA", "pip/pip.ini"), ("VIRTUAL_ENV", "pip.conf"))
    return [
        *(f"{directory}/pip/pip.conf" for directory in reversed(_machine_directories(environ))),
        "/Library/Application Support/pip/pip.conf", "/etc/pip.conf", f"{home}/.pip/pip.conf",
        f"{_user_directory(environ)}/pip/pip.conf", f"{home}/Library/Application Support/pip/pip.conf",
        *(f"{environ[variable]}/{name}" for variable, name in others if environ.get(variable)), only,
    ]
