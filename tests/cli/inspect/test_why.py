"""`hatch-docker why` and `diff`: the reasons for a package, and the differences between images."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hatch_docker.cli.inspect.model import ImageContents
from hatch_docker.cli.inspect.reader import read_contents
from hatch_docker.cli.inspect.why import find_reasons, why_lines
from hatch_docker.cli.main import main
from hatch_docker.core.text import megabytes
from tests.fakes.bases import file, link
from tests.fakes.images import layer_of
from tests.fakes.inspected_images import EVIL, PROJECT, WHEELS, dist, foreign_image, project_image, write_image_archive
from tests.fakes.sbom_images import SITE, metadata, system_layer


@pytest.fixture(scope="module")
def contents() -> ImageContents:
    return read_contents(project_image())


def lines_of_why(contents: ImageContents, name: str) -> list[str]:
    return [line for line in why_lines(contents, find_reasons(contents, name), show_all=True) if line]


def test_chains_lead_from_project_to_package(contents: ImageContents) -> None:
    """One for each package that requires it, shortest first, with requirement and extra. Markers are evaluated."""
    lines = lines_of_why(contents, "leaf")
    assert lines[1:3] == [
        "  my_app 1 [jobs] -> queue 1  requires  leaf",
        "  my_app 1 -> web 2 -> core 1  requires  leaf; python_version >= '3.8'",
    ]  # fmt: skip
    sizes = {item.name: item.size for item in contents.packages}
    total = sizes["leaf"] + sizes["deep-one"]
    assert lines[3] == (
        f"it takes {megabytes(sizes['leaf'])}; with the packages that only it requires, {megabytes(total)}:"
    )
    assert lines[4].endswith("  deep-one 1")
    assert lines_of_why(contents, "fast")[1] == "  my_app 1 -> web 2 [speed]  requires  fast; extra == 'speed'"


def test_installed_extras_of_project_are_detected(contents: ImageContents) -> None:
    """By their installed requirements, because no file in the image lists the extras."""
    assert lines_of_why(contents, "queue")[1] == "  my_app 1 [jobs]  requires  queue; extra == 'jobs'"


def test_exclusive_packages_are_found_at_any_depth(contents: ImageContents) -> None:
    """Packages that others also require are not exclusive."""
    (web,) = find_reasons(contents, "web")
    assert {contents.packages[number].name for number in web.exclusive} == {"core", "fast"}
    (core,) = find_reasons(contents, "core")
    assert core.exclusive == ()
    (project,) = find_reasons(contents, "My.App")
    assert {contents.packages[number].name for number in project.exclusive} == {
        "web", "core", "leaf", "deep-one", "fast", "queue",
    }  # fmt: skip
    assert "it is the project itself" in lines_of_why(contents, "my_app")


def test_chains_of_debian_packages_follow_depends(contents: ImageContents) -> None:
    """Also alternatives, Provides and cycles. Packages that no other requires are roots."""
    assert lines_of_why(contents, "libx")[1] == "  python-min 3 -> zlib 1 requires it"
    assert lines_of_why(contents, "gcc-base")[1] == "  python-min 3 -> libc6 2 -> libgcc-s1 14 requires it"
    for name in ("python-min", "loose"):
        (line,) = lines_of_why(contents, name)[1:2]
        assert line == "no package of the image requires it: the build itself requested it"
    (zlib,) = find_reasons(contents, "zlib")
    assert [contents.packages[number].name for number in zlib.exclusive] == ["libx"]


def test_one_package_of_a_cycle_is_the_root() -> None:
    wheels = dist("a", "1", {}, "Requires-Dist: b") + dist("b", "1", {}, "Requires-Dist: a")
    contents = read_contents(foreign_image(layer_of(wheels)))
    assert lines_of_why(contents, "b")[1] == "  a 1  requires  b"
    assert lines_of_why(contents, "a")[-1].endswith("  b 1")


def test_reasons_for_python_and_system_package_of_a_name() -> None:
    contents = read_contents(foreign_image(layer_of([
        file("var/lib/dpkg/status", "Package: tzdata\nVersion: 1\nArchitecture: all\n"), *dist("tzdata", "2", {}),
    ])))  # fmt: skip
    numbers = [reasons.package for reasons in find_reasons(contents, "tzdata")]
    assert [contents.packages[number].type for number in numbers] == ["deb", "python"]


@pytest.mark.parametrize(("name", "message"), [
    ("lea", "the image has no package lea: did you mean leaf?"),
    ("xyzzy", "the image has no package xyzzy; `hatch-docker inspect --all` lists all"),
    (EVIL, "; `hatch-docker inspect --all` lists all"),
])  # fmt: skip
def test_unknown_package_fails_with_similar_names(
    name: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(write_image_archive(project_image(), tmp_path / "dist"))
    assert main(["why", name, path]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "\x1b" not in error


def test_json_output_of_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(write_image_archive(project_image(), tmp_path / "dist"))
    assert main(["why", "fast", path, "--json"]) == 0
    (fast,) = json.loads(capsys.readouterr().out)["packages"]
    assert fast["chains"] == [[
        {"name": "my_app", "version": "1", "requires": "web[speed]", "extra": ""},
        {"name": "web", "version": "2", "requires": "fast; extra == 'speed'", "extra": "speed"},
    ]]  # fmt: skip
    assert fast["exclusive"] == []


def output_of_diff(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    assert main(["diff", *arguments]) == status
    return capsys.readouterr().out


@pytest.fixture
def two_archives(tmp_path: Path) -> tuple[str, str]:
    """Return two archives: the second has changed wheels, modules, modes, owners and links."""
    edited = [replace(item, content=b"x" * 60, size=60) if item.path.endswith("/app.py") else item for item in PROJECT]
    shared = [file("srv/mode", b"1"), file("srv/owner", b"1"), link("srv/link", "a"), file("srv/same", b"1")]
    changed = [file("srv/mode", b"1", 0o755), replace(file("srv/owner", b"1"), uid=5), link("srv/link", "b"),
               file("srv/same", b"1")]  # fmt: skip
    wheels = [entry for entry in WHEELS if "loose" not in entry.path and "/web" not in entry.path]
    wheels += dist("web", "3", {"web.py": 1000, "more.py": 5000}, "Requires-Dist: core>=1")
    old = project_image(project=[*PROJECT, *shared], User="1", Env=["A=1", "B=2"], Labels={"x": "1"})
    new = project_image(wheels, [*edited, *changed], User="2", Env=["A=1", "B=3"], Labels={"y": "1"}, Cmd=["a", "b"])
    directory = tmp_path / "dist"
    return str(write_image_archive(old, directory, "old")), str(write_image_archive(new, directory, "new"))


def test_text_output_and_exit_code_of_diff(two_archives: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """Packages, settings, and files of other packages. The exit status is 1 only with --exit-code."""
    lines = [line.strip() for line in output_of_diff(capsys, *two_archives).splitlines()]
    assert "~ web 2 -> 3" in "\n".join(lines)
    assert any(line.endswith("- loose 1") for line in lines)
    assert {"~ user 1 -> 2", "~ env B 2 -> 3", "- label x 1", "+ label y 1", "~ cmd '' -> a b"} <= {*lines}
    assert "~ /srv/mode  mode 0644 -> mode 0755" in "\n".join(lines)
    assert "~ /srv/owner  owner 0:0 -> owner 5:0" in "\n".join(lines)
    assert any(line.endswith(f"+10 bytes  ~ /{SITE}/app.py") for line in lines)
    assert any(line.endswith("~ /srv/link") for line in lines)
    assert not any("/srv/same" in line or "more.py" in line for line in lines)
    assert any(line.endswith("of the packages above (--files)") for line in lines)
    assert f"+5.00 kB  + /{SITE}/more.py" in output_of_diff(capsys, *two_archives, "--files")
    assert output_of_diff(capsys, *two_archives, "--exit-code", status=1)
    same = output_of_diff(capsys, two_archives[0], two_archives[0], "--exit-code")
    assert "the same packages, files and settings" in same


def test_json_output_of_diff(two_archives: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    value = json.loads(output_of_diff(capsys, *two_archives, "--json"))
    assert [*value] == ["schema", "images", "kinds", "packages", "settings", "files"]
    assert {"change": "changed", "name": "web", "old": "2", "new": "3"}.items() <= next(
        item for item in value["packages"] if item["name"] == "web"
    ).items()
    files = {item["name"]: item for item in value["files"]}
    assert (files[f"/{SITE}/more.py"]["change"], files[f"/{SITE}/more.py"]["package"]) == ("added", "web")
    assert {"change": "removed", "name": "label x", "old": "1", "new": None} in value["settings"]
    kinds = {item["kind"]: item for item in value["kinds"]}
    assert kinds["base"]["old_size"] == kinds["base"]["new_size"]


def test_diff_lists_different_times_of_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They change the digest, although the contents are the same."""
    old, new = (foreign_image(layer_of([replace(file("a", b"1"), mtime=mtime)])) for mtime in (1, 2))
    paths = [str(write_image_archive(image, tmp_path / "dist", f"{number}")) for number, image in enumerate((old, new))]
    text = output_of_diff(capsys, *paths, "--exit-code", status=1)
    assert "the same packages, files and settings" in text
    assert "a: mtime 1 -> 2" in text


def test_invalid_requirements_and_markers_are_ignored() -> None:
    strange = ("???", f"b; {'(' * 3000}", "b; a b", "b[x,,]; extra == 'y' or extra")
    wheels = [metadata("a", "1", *(f"Requires-Dist: {line}" for line in strange)),
              metadata("b", "", "Requires-Dist: b")]  # fmt: skip
    contents = read_contents(foreign_image(system_layer(), layer_of(wheels)))
    assert "no package of the image requires it" in lines_of_why(contents, "b")[1]
