"""Checks of the servers of a build: Debian mirrors, package indexes and registries, with their credentials."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from hatch_docker.bases.debian.apt_config import find_mirrors
from hatch_docker.bases.debian.archive import fetch_releases
from hatch_docker.bases.debian.standalone import find_archive, mirror_origin
from hatch_docker.bases.image import NO_REGISTRY_HINT
from hatch_docker.cli.doctor.check import Check, Finding, Report, Setup
from hatch_docker.core.errors import RegistryError, TransientError
from hatch_docker.core.http import urls
from hatch_docker.core.http.responses import explain
from hatch_docker.oci.auth import credential_for
from hatch_docker.oci.model import Platform, host_platform
from hatch_docker.oci.reference import parse_reference
from hatch_docker.oci.registry import Remote, response_error
from hatch_docker.plan.model import BasePlan, Plan
from hatch_docker.release.sessions import close_sessions, open_session
from hatch_docker.wheels.index import Indexes, SimpleIndex, read_indexes, with_keyring
from hatch_docker.wheels.locks.uv import compile_lock
from hatch_docker.wheels.target import Target


def check_debian(setup: Setup) -> Report:
    """Check that the mirrors have the signed Release files of each suite."""
    bases = {base for plan in setup.plans for base in plan.bases if base.kind == "debian"}
    mirrors = find_mirrors(next(iter(bases), BasePlan("debian", "", "")), setup.ctx.environ)
    for suite in sorted({base.location for base in bases} or {"trixie"}):
        try:
            releases = fetch_releases(mirrors, suite, setup.ctx)
        except RegistryError as error:
            raise RegistryError(f"by {mirrors.origin}: {error}; check that the address is right") from error
        names = ", ".join(release.suite for release in releases)
        yield f"{urls.redact_url(mirrors.main)}, by {mirrors.origin}: {names} signed by Debian"


def check_standalone(setup: Setup) -> Report:
    """Check that the mirror of python-build-standalone has the archive of each base, for each platform."""
    for base, text in sorted({(plan.base, text) for plan in setup.plans if plan.base.standalone
                              for text in plan.platforms}, key=lambda pair: (pair[0].name, pair[1])):  # fmt: skip
        archive = find_archive(base, Platform.parse(text), replace(setup.ctx, image_lock=None))
        yield f"{base.name} for {text} is {archive.path}, by {mirror_origin(base)}"


def check_indexes(setup: Setup) -> Report:
    """Check the package indexes with a request to each for the page of one project; uv requests its default index."""
    found = with_keyring(read_indexes(setup.root, setup.ctx.environ), setup.ctx)
    origin = f"by {found.source}'s configuration" if found.source else "uv's default"
    if found.no_index and not found.find_links:
        raise RegistryError(f"no index is allowed, {origin}, and there are no find-links: set one of them")
    for index in found.indexes:
        yield f"{urls.redact_url(index.url)} answers, {origin}{_ask_index(index, found, setup)}"
    for link in found.find_links:
        line = f"find-links {urls.redact_url(link.url)}, {origin}{_login_source(link, setup.ctx.environ)}"
        absent = link.url in found.missing_links
        yield Finding("unneeded", "index", f"{line}: not there, and left out") if absent else line
    if not found.indexes and not found.no_index:
        environ = {**setup.ctx.environ, "UV_NO_CACHE": "1", "UV_HTTP_RETRIES": "0"}
        target = Target("3.13.0", host_platform(), ("glibc", "2.36"))
        compile_lock(["pip"], target, setup.root, found, replace(setup.ctx, environ=environ), metadata={})
        yield "uv's default answers"


def _ask_index(index: SimpleIndex, found: Indexes, setup: Setup) -> str:
    """Request a page of an index; return the source of the credentials as text. Raises RegistryError on failure."""
    login = _login_source(index, setup.ctx.environ)
    if not index.url.startswith("http"):
        return login
    bare, header = urls.with_credentials(index.url, setup.ctx.environ)
    required = (canonicalize_name(Requirement(line).name) for plan in setup.plans for line in plan.lock.requirements)
    page = f"{bare.rstrip('/')}/{next(required, 'pip')}/"
    try:
        response = found.client(setup.ctx).send("HEAD", page, headers={**header, **found.authorization(page)})
    except RegistryError as error:
        raise RegistryError(f"{urls.redact_url(bare)}: {error}; check that the address is right") from error
    if response.status in (401, 403):
        reason = "the login is refused" if login else "there is no login for it"
        raise RegistryError(
            f"{urls.redact_url(bare)}: {explain(response)}, {reason}; put user and password into "
            "UV_INDEX_<NAME>_USERNAME and _PASSWORD, the index's URL or ~/.netrc"
        )
    if response.status not in (200, 404):
        raise RegistryError(f"{urls.redact_url(bare)}: {explain(response)}")
    return login


def _login_source(index: SimpleIndex, environ: Mapping[str, str]) -> str:
    """Return a text about the source of an index's credentials, without the credentials themselves."""
    host = urls.split(index.url).hostname if index.url.startswith("http") else None
    if index.login is not None:
        return ", with the login of that configuration"
    return ", with the login in netrc" if host and host in urls.netrc_passwords(environ) else ""


def registry_checks(plans: Sequence[Plan]) -> Iterator[Check]:
    """Yield a check for each repository of a push, then a check for each base in a registry."""
    for name in dict.fromkeys(name for plan in plans for name in plan.repositories):
        yield Check("registry", partial(_check_repository, name, True), partial(_is_pushed_to, name), remote=True)
    for name in dict.fromkeys(base.location for plan in plans for base in plan.bases if base.kind == "registry"):
        yield Check("registry", partial(_check_repository, name, False), lambda _: True, remote=True)


def _is_pushed_to(name: str, setup: Setup) -> bool:
    return setup.any_plan(lambda plan: plan.push and name in plan.repositories)


def _check_repository(name: str, push: bool, setup: Setup) -> Report:
    """Check with `push` that a repository accepts an upload, which is cancelled; without, that it has the base.

    Errors name the source of the credentials and give advice; for a base, a base that needs no registry.
    """
    reference = parse_reference(name)
    found = credential_for(reference.registry, setup.ctx.environ, reference.repository)
    login = f", with the login of {found.source}" if found else ", without a login"
    remote = Remote(setup.ctx.client, setup.ctx.environ)
    try:
        if push:
            remote.sessions[reference.name] = open_session(remote, reference)
        else:
            response = remote.request_manifest(reference, "HEAD")
            if response.status != 200:
                raise response_error(reference, response)
    except RegistryError as error:
        transient = "; check that the address is right" if isinstance(error, TransientError) else ""
        advice = transient if push else f"; {NO_REGISTRY_HINT}"
        error.args = (f"{reference.name}{login}: {error}{advice}",)
        raise
    close_sessions(remote)
    yield f"{reference.name} takes uploads{login}" if push else f"{reference.familiar} is there{login}"
