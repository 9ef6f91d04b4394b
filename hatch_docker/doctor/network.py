"""Who is asked on the way: mirrors, indexes, registries; whether they answer, and with whose login."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from hatch_docker import urls
from hatch_docker.answers import explain
from hatch_docker.doctor.check import Check, Look, Said
from hatch_docker.errors import RegistryError, TransientError
from hatch_docker.oci.auth import credential_for
from hatch_docker.oci.model import host_platform
from hatch_docker.oci.reference import Reference, parse_reference
from hatch_docker.oci.remote import ACCEPT, Remote, refuse
from hatch_docker.plan import BasePlan, Plan
from hatch_docker.release.names import normalised
from hatch_docker.wheels.index import Index, Indexes, read_indexes
from hatch_docker.wheels.keyrings import with_keyring
from hatch_docker.wheels.target import Target
from hatch_docker.wheels.uv import compile_lock


def debian(look: Look) -> Said:
    """Debian's mirrors: who names them, and that each suite's releases are there and signed."""
    from hatch_docker.bases.apt import find_mirrors
    from hatch_docker.bases.archive import fetch_releases

    bases = {plan.base for plan in look.plans if plan.base.kind == "debian"}
    mirrors = find_mirrors(next(iter(bases), BasePlan("debian", "", "")), look.ctx.environ)
    for suite in look.suites:
        try:
            releases = fetch_releases(mirrors, suite, look.ctx)
        except RegistryError as error:
            raise RegistryError(f"by {mirrors.origin}: {error}; see that it is the right address") from error
        names = ", ".join(release.suite for release in releases)
        yield f"{urls.shown(mirrors.main)}, by {mirrors.origin}: {names} signed by Debian"


def needs_debian(look: Look) -> bool:
    """Whether packages come from Debian: of the base, the compiler, or the system."""
    return look.isolated or look.some(lambda plan: plan.base.kind == "debian" or plan.base.packages, else_=True)


def indexes(look: Look) -> Said:
    """The package indexes, each asked for one project's page; uv's own default by uv."""
    found = with_keyring(read_indexes(look.root, look.ctx.environ), look.ctx)
    whose = f"by {found.source}'s configuration" if found.source else "uv's default"
    if found.no_index and not found.find_links:
        raise RegistryError(f"no index may be asked, {whose}, and there are no find-links: set one")
    for index in found.indexes:
        yield f"{urls.shown(index.url)} answers, {whose}{_asked(index, found, look)}"
    for link in found.find_links:
        yield f"find-links {urls.shown(link.url)}, {whose}{_login_of(link, look.ctx.environ)}"
    if not found.indexes and not found.no_index:
        environ = {**look.ctx.environ, "UV_NO_CACHE": "1", "UV_HTTP_RETRIES": "0"}
        target = Target("3.13.0", host_platform(), ("glibc", "2.36"))
        compile_lock(["pip"], target, look.root, found, replace(look.ctx, environ=environ), metadata={})
        yield "uv's default answers"


def _asked(index: Index, found: Indexes, look: Look) -> str:
    """Ask an index for a page; returns where the login is from. Raises RegistryError where it refuses."""
    login = _login_of(index, look.ctx.environ)
    if not index.url.startswith("http"):
        return login
    bare, header = urls.with_credentials(index.url, look.ctx.environ)
    page = f"{bare.rstrip('/')}/{_some_project(look)}/"
    try:
        response = found.client(look.ctx).send("HEAD", page, headers={**header, **found.authorization(page)})
    except RegistryError as error:
        raise RegistryError(f"{urls.shown(bare)}: {error}; see that it is the right address") from error
    if response.status in (401, 403):
        how = "the login is refused" if login else "there is no login for it"
        raise RegistryError(
            f"{urls.shown(bare)}: {explain(response)}, {how}; put user and password into UV_INDEX_<NAME>_USERNAME and "
            "_PASSWORD, the index's URL or ~/.netrc"
        )
    if response.status not in (200, 404):
        raise RegistryError(f"{urls.shown(bare)}: {explain(response)}")
    return login


def needs_index(look: Look) -> bool:
    """Whether wheels come from an index."""
    needs = look.some(lambda plan: plan.lock.requirements or plan.lock.path, else_=True)
    return bool(needs) or look.isolated or not look.whole


def _some_project(look: Look) -> str:
    """A project to ask an index for: one that is needed, or that every index has."""
    for plan in look.plans:
        for line in plan.lock.requirements:
            from packaging.requirements import Requirement

            return normalised(Requirement(line).name)
    return "pip"


def _login_of(index: Index, environ: Mapping[str, str]) -> str:
    """Where the login for an index is from, never what it is."""
    host = urls.split(index.url).hostname if index.url.startswith("http") else None
    if index.login is not None:
        return ", with the login of that configuration"
    return ", with the login in netrc" if host and host in urls.netrc_passwords(environ) else ""


def registries(plans: Sequence[Plan]) -> Iterator[Check]:
    """A check for each repository: those that are pushed to, then those of bases."""
    pushed = {name for plan in plans if plan.push for name in plan.repositories}
    for name in dict.fromkeys(name for plan in plans for name in plan.repositories):
        yield Check("registry", partial(_push_to, name), partial(_needs_it, needed=name in pushed), asks=True)
    for name in dict.fromkeys(plan.base.location for plan in plans if plan.base.kind == "registry"):
        yield Check("registry", partial(_pull, name), partial(_needs_it, needed=True), asks=True)


def _needs_it(_look: Look, *, needed: bool) -> bool:
    return needed


def _push_to(name: str, look: Look) -> Said:
    """Whether a repository takes an upload, which is taken back at once."""
    reference = parse_reference(name)
    login = _credential(reference, look)
    remote = Remote(look.ctx.client, look.ctx.environ)
    scopes = (f"repository:{reference.repository}:pull,push",)
    with _named(reference, login):
        answer = remote.send(reference, "POST", remote.url(reference, "blobs/uploads/"), scopes)
        if answer.status != 202:
            raise refuse(reference, answer)
    if location := answer.headers.get("location"):
        with contextlib.suppress(RegistryError):
            remote.send(reference, "DELETE", urls.follow(answer.url, location), scopes)
    yield f"{reference.name} takes uploads{login}"


def _pull(name: str, look: Look) -> Said:
    """Whether a base is there and ours to read; else there is one that is asked of nobody."""
    from hatch_docker.bases.registry import WITHOUT

    reference = parse_reference(name)
    login = _credential(reference, look)
    remote = Remote(look.ctx.client, look.ctx.environ)
    url = remote.url(reference, f"manifests/{reference.digest or reference.tag}")
    scopes = (f"repository:{reference.repository}:pull",)
    with _named(reference, login, f"; {WITHOUT}"):
        answer = remote.send(reference, "HEAD", url, scopes, headers={"accept": ACCEPT})
        if answer.status != 200:
            raise refuse(reference, answer)
    yield f"{reference.familiar} is there{login}"


def _credential(reference: Reference, look: Look) -> str:
    """Where the login for a repository is from, never what it is; raises RegistryError for what is broken."""
    found = credential_for(reference.registry, look.ctx.environ, reference.repository)
    return f", with the login of {found.source}" if found else ", without a login"


@contextlib.contextmanager
def _named(reference: Reference, login: str, way_out: str = "") -> Iterator[None]:
    """What is wrong is said of a repository, and what would lead out."""
    try:
        yield
    except RegistryError as error:
        if not way_out and isinstance(error, TransientError):
            way_out = "; see that it is the right address"
        raise RegistryError(f"{reference.name}{login}: {error}{way_out}") from error
