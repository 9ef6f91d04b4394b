"""The user's index configuration: all files and variables, in the order of uv and pip; passwords are hidden."""

import contextlib
import os
from pathlib import Path

import pytest
from packaging.version import Version

from hatch_docker.core.errors import ConfigError, RegistryError
from hatch_docker.core.http.urls import CA_FILES
from hatch_docker.wheels.index import SimpleIndex as Index
from hatch_docker.wheels.index import read_indexes
from hatch_docker.wheels.index_page import IndexFile, parse_page

A, B, C = "https://a.example/simple", "https://b.example/simple", "https://c.example/simple"


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """Variables with all configuration files below a directory of the test."""
    (tmp_path / "project").mkdir()
    return {
        "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / ".config"), "XDG_CONFIG_DIRS": str(tmp_path / "xdg"),
        "PIP_CONFIG_FILE": "/dev/null",
    }


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_no_configuration_uses_uvs_default(home: dict[str, str], tmp_path: Path) -> None:
    found = read_indexes(tmp_path / "project", home)
    assert (found.indexes, found.source) == ((), "")
    assert not {"UV_DEFAULT_INDEX", "UV_INDEX"} & found.uv_environment(home).keys()


@pytest.mark.parametrize(("variables", "expected"), [
    ({"UV_INDEX_URL": A}, [Index(A, default=True)]),
    ({"UV_DEFAULT_INDEX": A, "UV_INDEX_URL": B}, [Index(A, default=True)]),
    ({"UV_DEFAULT_INDEX": f"main={A}"}, [Index(A, "main", default=True)]),
    ({"UV_INDEX": f"corp={B} {C}", "UV_EXTRA_INDEX_URL": A}, [Index(B, "corp"), Index(C), Index(A)]),
    ({"UV_INDEX_URL": A, "PIP_INDEX_URL": B}, [Index(A, default=True)]),
    ({"PIP_INDEX_URL": B, "PIP_EXTRA_INDEX_URL": f"{C} {A}"}, [Index(C), Index(A), Index(B, default=True)]),
    ({"UV_DEFAULT_INDEX": "https://u:p%40ss@a.example/simple"}, [Index(A, login=("u", "p@ss"), default=True)]),
    (
        {"UV_INDEX": f"my-corp={B}", "UV_INDEX_MY_CORP_USERNAME": "u", "UV_INDEX_MY_CORP_PASSWORD": "p"},
        [Index(B, "my-corp", ("u", "p"))],
    ),
])  # fmt: skip
def test_variables(home: dict[str, str], tmp_path: Path, variables: dict[str, str], expected: list[Index]) -> None:
    """uv's variables, otherwise pip's. The login of a named index comes from variables."""
    assert list(read_indexes(tmp_path / "project", home | variables).indexes) == expected


def test_configuration_files_of_uv(home: dict[str, str], tmp_path: Path) -> None:
    """The project's [tool.uv] comes before the user's uv.toml; the first default index is used."""
    write(tmp_path / "project/pyproject.toml", f'[[tool.uv.index]]\nname = "x"\nurl = "{A}"\ndefault = true\n')
    write(tmp_path / ".config/uv/uv.toml", f'index-url = "{B}"\nextra-index-url = ["{C}"]\nfind-links = ["/w"]\n')
    found = read_indexes(tmp_path / "project", home)
    assert found.indexes == (Index(A, "x", default=True), Index(C))
    assert found.find_links == (Index("/w"),)
    assert "UV_DEFAULT_INDEX" not in found.uv_environment(home), "uv reads its own files"


@pytest.mark.parametrize("place", ["xdg/pip/pip.conf", ".pip/pip.conf", ".config/pip/pip.conf", "venv/pip.conf", "own"])
def test_configuration_files_of_pip(home: dict[str, str], tmp_path: Path, place: str) -> None:
    """[install] has priority over [global]; `index` of `pip search` is ignored; uv gets the indexes as variables."""
    text = f"[global]\nindex = {C}\nindex-url = {B}\nextra-index-url =\n    {C}\n    {A}\n[install]\nindex-url={A}\n"
    write(tmp_path / place, text)
    home |= {"VIRTUAL_ENV": str(tmp_path / "venv"), "PIP_CONFIG_FILE": str(tmp_path / "own")}
    found = read_indexes(tmp_path / "project", home)
    assert found.indexes == (Index(C), Index(A), Index(A, default=True))
    env = found.uv_environment(home)
    assert (env["UV_DEFAULT_INDEX"], env["UV_INDEX"]) == (A, f"{C} {A}")


def test_login_is_sent_to_its_origin_only(home: dict[str, str], tmp_path: Path) -> None:
    """The origin is scheme, host and port."""
    home["PIP_INDEX_URL"] = "https://u:secret@a.example/simple"
    found = read_indexes(tmp_path / "project", home)
    assert found.authorization("https://a.example/files/x.whl")
    for other in ("http://a.example/x", "https://a.example:444/x", "https://b.example/x", "file:///x"):
        assert found.authorization(other) == {}


def test_password_is_not_in_repr_and_key(home: dict[str, str], tmp_path: Path) -> None:
    """The secrets to hide include the URL-encoded password."""
    home["PIP_INDEX_URL"] = "https://u:s%2Fcret@a.example/simple"
    found = read_indexes(tmp_path / "project", home)
    assert "cret" not in repr(found) + repr(found.identity())
    assert set(found.secrets) == {"s/cret", "s%2Fcret"}
    assert found.uv_environment(home)["UV_DEFAULT_INDEX"] == "https://u:s%2Fcret@a.example/simple"


def test_ca_bundle_is_passed_to_uv(home: dict[str, str], tmp_path: Path) -> None:
    """HATCH_DOCKER_CA_BUNDLE has priority over uv's variable, uv's over other programs' variables."""
    write(tmp_path / "ca.pem", "")
    found = read_indexes(tmp_path / "project", home)
    ours = {"HATCH_DOCKER_CA_BUNDLE": str(tmp_path / "ca.pem")}
    assert found.uv_environment(home | ours)["SSL_CERT_FILE"] == ours["HATCH_DOCKER_CA_BUNDLE"]
    write(tmp_path / "own.pem", "")
    for own in ("", str(tmp_path / "own.pem")):
        assert found.uv_environment(home | ours | {"SSL_CERT_FILE": own})["SSL_CERT_FILE"] == str(tmp_path / "ca.pem")
    both = home | {"REQUESTS_CA_BUNDLE": str(tmp_path / "ca.pem"), "SSL_CERT_FILE": "/own"}
    assert found.uv_environment(both)["SSL_CERT_FILE"] == "/own"


def test_uv_trusts_the_systems_certificates(home: dict[str, str], tmp_path: Path) -> None:
    """The default of Python and pip, unless the user configures something else or the system has no CA bundle."""
    found = read_indexes(tmp_path / "project", home)
    there = any(Path(path).is_file() for path in CA_FILES)
    assert (found.uv_environment(home).get("UV_SYSTEM_CERTS") == "1") is there
    assert "UV_NATIVE_TLS" not in found.uv_environment(home | {"SSL_CERT_FILE": "/own"})
    assert "UV_NATIVE_TLS" not in found.uv_environment(home | {"UV_SYSTEM_CERTS": "0"})


@pytest.mark.parametrize("place", [".config/uv/uv.toml", ".config/pip/pip.conf"])
def test_invalid_configuration_file_is_named(home: dict[str, str], tmp_path: Path, place: str) -> None:
    write(tmp_path / place, "[[[")
    del home["PIP_CONFIG_FILE"]
    with pytest.raises(ConfigError, match=place.rpartition("/")[2]):
        read_indexes(tmp_path / "project", home)


@pytest.mark.parametrize(("name", "text"), [
    ("uv.toml", f'index-url = "{A}"'), ("pyproject.toml", f'[tool.uv]\nindex-url = "{A}"'),
])  # fmt: skip
def test_configuration_of_another_user(name: str, text: str, home: dict[str, str], tmp_path: Path) -> None:
    """All users can write to /tmp; their files must not configure projects below it."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    write(tmp_path / name, text)
    assert read_indexes(tmp_path / "project", home).indexes == (Index(A, default=True),)
    os.chown(tmp_path / name, 12345, 12345)
    with pytest.raises(ConfigError, match=f"{name} belongs to the user 12345, who could choose your packages"):
        read_indexes(tmp_path / "project", home)
    os.chown(tmp_path / "project", 12345, 12345)  # root builds the project of this user
    assert read_indexes(tmp_path / "project", home).indexes


def test_damaged_html_page() -> None:
    """`html.parser` of older Pythons raises AssertionError for it."""
    with contextlib.suppress(RegistryError):
        assert parse_page(b"<![[[", "text/html", "https://pypi.example/simple/gadget/") == ()


@pytest.mark.parametrize("condition", ["a word", f">=3.{'9' * 5000}"])
def test_invalid_requires_python_fits_all_versions(condition: str) -> None:
    """As in uv. Python cannot parse a number with 5000 digits."""
    assert IndexFile("gadget-1.0.tar.gz", Version("1.0"), condition, None).fits("3.13.5")
