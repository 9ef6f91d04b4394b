"""`hatch-docker inspect`: layers, packages and files of images of hatch-docker and other programs, as text and JSON."""

import contextlib
import io
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from hatch_docker.cli.inspect.model import File, ImageContents, OwnedFiles, Package
from hatch_docker.cli.inspect.reader import read_contents
from hatch_docker.cli.main import main
from hatch_docker.core.errors import ImageError
from hatch_docker.oci.layer import Entry
from hatch_docker.oci.layout import write_layout
from hatch_docker.oci.make_image import make_index
from tests.conftest import need, need_docker
from tests.fakes.bases import directory, file, link
from tests.fakes.context import context
from tests.fakes.images import image_of, layer_of
from tests.fakes.inspected_images import EVIL, NAME, dist, foreign_image, with_valid_config, write_image_archive
from tests.fakes.registry import FakeRegistry
from tests.fakes.resource_use import measure
from tests.fakes.sbom_images import SITE, metadata, plan_and_image

pytestmark = pytest.mark.usefixtures("own_cache")


def find_package(contents: ImageContents, name: str) -> Package:
    (found,) = (item for item in contents.packages if item.name == name)
    return found


def present_file(contents: ImageContents, path: str) -> File:
    (found,) = (item for item in contents.files if item.path == path and item.present)
    return found


def output_of_inspect(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["inspect", *arguments]) == 0
    return capsys.readouterr().out


def test_sizes_of_layers_and_files_add_up(tmp_path: Path) -> None:
    """In images of hatch-docker, each layer has one kind of files."""
    image = plan_and_image(context(tmp_path / "cache"))[1].image
    history = [
        {"created_by": "hatch-docker: debian:trixie"}, {"created_by": "x"}, {"created_by": "y"},
        {"created_by": "hatch-docker dependencies", "comment": "alpha 1.0"},
        {"created_by": "hatch-docker project", "comment": "my_app 1.2.3"},
    ]  # fmt: skip
    contents = read_contents(with_valid_config(image, history=history))
    assert contents.by_hatch_docker
    assert [layer.kind for layer in contents.layers] == ["base", "other", "other", "dependencies", "project"]
    for layer, expected in zip(contents.layers, image.layers, strict=True):
        assert (layer.unpacked_size, layer.size) == (expected.unpacked_size, expected.descriptor.size)
    assert contents.unpacked_size == sum(layer.unpacked_size or 0 for layer in image.layers)
    assert contents.yours == image.layers[-1].unpacked_size
    assert sum(item.size for item in contents.files) == sum(layer.files_size for layer in contents.layers)
    own = find_package(contents, "my_app")
    assert (own.type, own.version, own.kind, own.layer, own.root) == ("python", "1.2.3", "project", 4, True)
    assert find_package(contents, "libc6").type == "deb"


def test_packages_of_files_are_found_by_record_and_dpkg() -> None:
    """Also for scripts and .pyc files, and for paths through links of the merged /usr."""
    system = layer_of([
        link("lib", "usr/lib"), directory("usr/lib"), file("usr/lib/libssl.so.3", bytes(700)),
        file("usr/lib/python3/m.py", b"1"), file("usr/lib/python3/__pycache__/m.cpython-313.pyc", bytes(50)),
        file("var/lib/dpkg/status.d/libssl3", "Package: libssl3\nVersion: 3\nArchitecture: amd64\nDepends: libc6\n"),
        file("var/lib/dpkg/status.d/libssl3.md5sums", f"{'0' * 32}  lib/libssl.so.3\n{'0' * 32}  usr/lib/python3/m.py"),
        file("etc/passwd", "app:x:7:8::/:/bin/sh\n"),
    ])  # fmt: skip
    wheel = layer_of([
        *dist("alpha", "1", {"alpha/a.py": 10, "../../../bin/tool": 0, '"a,b".py': 0}),
        file("opt/venv/bin/tool", bytes(30)), file(f"{SITE}/alpha/__pycache__/a.cpython-313.opt-2.pyc", bytes(5)),
        file(f"{SITE}/stray.py", b"1234"),
    ])  # fmt: skip
    contents = read_contents(foreign_image(system, wheel, User="app"))
    alpha, ssl = find_package(contents, "alpha"), find_package(contents, "libssl3")
    listed = [file.path for file in contents.files if file.package >= 0 and contents.packages[file.package] == alpha]
    assert {"opt/venv/bin/tool", f"{SITE}/alpha/__pycache__/a.cpython-313.opt-2.pyc"} <= {*listed}
    assert present_file(contents, f"{SITE}/stray.py").package == -1
    assert contents.packages[present_file(contents, "usr/lib/python3/__pycache__/m.cpython-313.pyc").package] == ssl
    assert ssl.size >= 751
    assert contents.permissions.user == 7


def test_record_is_read_up_to_an_invalid_row() -> None:
    wheel = dist("alpha", "1", {"alpha.py": 10})
    record = f'alpha.py,,\n"{"x" * 200_000}",,\nbeta.py,,\n'
    strange = [file(entry.path, record) if entry.path.endswith("RECORD") else entry for entry in wheel]
    contents = read_contents(foreign_image(layer_of([*strange, file(f"{SITE}/beta.py", b"1")])))
    metadata_size = present_file(contents, metadata("alpha", "1").path).size
    assert find_package(contents, "alpha").size == 10 + metadata_size + len(record)


def test_removed_and_replaced_files_are_counted() -> None:
    """They are in layers, but not in the final file system."""
    lower = layer_of([file("a", bytes(1000)), file("b", bytes(2000)), file("d/x", bytes(3000)), file("kept", b"1")])
    upper = layer_of([file(".wh.a"), file("b", bytes(10)), file("d/.wh..wh..opq"), file("d/y", bytes(20))])
    contents = read_contents(foreign_image(lower, upper))
    assert {item.path: item.size for item in contents.files if not item.present} == {"a": 1000, "b": 2000, "d/x": 3000}
    assert contents.layers[0].removed_size == 6000
    assert [kind.unpacked_size for kind in contents.kinds if kind.kind == "removed"] == [6000]
    assert sum(kind.unpacked_size for kind in contents.kinds) == contents.unpacked_size


def test_hard_links_have_no_size() -> None:
    lower = layer_of([file("a", bytes(1000)), Entry("b", "hardlink", 0o644, 0, target="a")])
    upper = layer_of([link("s", "a")])
    contents = read_contents(foreign_image(lower, upper))
    assert {(item.path, item.size, item.link) for item in contents.files} == {
        ("a", 1000, False), ("b", 0, True), ("s", 0, True),
    }  # fmt: skip


def test_contents_of_an_image_of_a_dockerfile() -> None:
    """A Python that is in no package, packages of pip, a local package, and copied files."""
    site = "usr/local/lib/python3.12/site-packages"
    base = layer_of([
        file("usr/local/lib/python3.12/os.py", bytes(4000)), file("usr/local/bin/python3.12", bytes(9000), 0o755),
        file("usr/local/lib/libpython3.12.so.1.0", bytes(500)), *dist("pip", "25", {"pip/x.py": 100}, site=site),
        file("etc/os-release", 'PRETTY_NAME="Debian 13"\n'),
    ])  # fmt: skip
    direct = file(f"{site}/mine-1.dist-info/direct_url.json", '{"url": "file:///src", "dir_info": {}}')
    wheels = layer_of([
        *dist("dep", "2", {"dep.py": 60}, site=site), direct,
        *dist("mine", "1", {"mine.py": 70}, "Requires-Dist: dep", site=site),
    ])  # fmt: skip
    copied = layer_of([file("srv/web/app.py", bytes(80)), file("etc/motd", bytes(9))])
    commands = [
        "/bin/sh -c #(nop) ADD file:1 in / ", "RUN |1 A=b /bin/sh -c pip install . # buildkit",
        "COPY . /srv # buildkit",
    ]  # fmt: skip
    contents = read_contents(foreign_image(base, wheels, copied, commands=commands, Env=["PYTHON_VERSION=3.12.9"]))
    assert not contents.by_hatch_docker
    assert (contents.python, contents.system) == ("3.12.9", "Debian 13")
    assert [layer.title for layer in contents.layers] == ["ADD file:1 in /", "RUN pip install .", "COPY . /srv"]
    python = find_package(contents, "python")
    assert (python.type, python.size, python.files) == ("interpreter", 13500, 3)
    kinds = {item.name: item.kind for item in contents.packages}
    assert kinds == {"python": "system", "pip": "dependencies", "dep": "dependencies", "mine": "project"}
    assert present_file(contents, "srv/web/app.py").kind == "project"
    assert present_file(contents, "etc/motd").kind == "other"
    own = [item for item in contents.files if item.kind == "project"]
    assert contents.yours == sum(item.size for item in own) >= 150


def test_contents_of_alpine_and_empty_images() -> None:
    musl = "P:musl\nV:1.2\nA:x86_64\nF:lib\nR:ld-musl.so\nZ:Q1\n"
    database = f"{musl}\nP:zlib\nV:1\nA:x86_64\nD:musl\nF:usr/lib\nR:libz.so\n"
    contents = read_contents(foreign_image(layer_of([
        file("lib/apk/db/installed", database), file("lib/ld-musl.so", bytes(11)), file("usr/lib/libz.so", bytes(12)),
    ])))  # fmt: skip
    found = [(item.name, item.type, item.size) for item in contents.packages]
    assert found == [("musl", "apk", 11), ("zlib", "apk", 12)]
    empty = read_contents(foreign_image())
    assert (empty.packages, empty.unpacked_size, empty.yours) == ((), 0, 0)


def test_setuid_programs_and_writable_paths() -> None:
    layer = layer_of([
        directory("tmp", 0o1777), directory("open", 0o777), file("bin/su", b"", 0o4755), file("bin/wall", b"", 0o2755),
        replace(directory("data"), uid=7), replace(file("log", b"12", 0o664), gid=8),
        replace(file("own", b"", 0o400), uid=7),
    ])  # fmt: skip
    facts = read_contents(foreign_image(layer, User="7:8")).permissions
    assert facts.setuid == ("/bin/su", "/bin/wall")
    assert facts.writable_by_everybody == ("/open (not sticky)", "/tmp")
    assert facts.writable == ("/data", "/log")
    assert facts.owners == {"0:0": OwnedFiles(2, 0), "0:8": OwnedFiles(1, 2), "7:0": OwnedFiles(1, 0)}
    assert read_contents(foreign_image(layer)).permissions.user == 0
    assert read_contents(foreign_image(layer, User="nobody-knows")).permissions.user is None


def test_text_output_of_inspect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Sizes first, then the largest packages and files. Shortened lists name the option --all."""
    names = [f"p{number:02}" for number in range(25)]
    layer = layer_of([entry for number, name in enumerate(names)
                      for entry in dist(name, "1", {f"{name}.py": 1000 * (number + 1)})])  # fmt: skip
    image = foreign_image(layer, User="65532", Cmd=["serve", "a b"], ExposedPorts={"80/tcp": {}}, Env=["A=b c"],
                          Labels={"x": "y" * 99})  # fmt: skip
    image = with_valid_config(image, created="2024-01-01T00:00:00Z")
    path = write_image_archive(image, tmp_path / "dist")
    lines = output_of_inspect(capsys, str(path)).splitlines()
    assert lines[0] == f"{NAME}:1.0  linux/amd64  2024-01-01T00:00:00Z"
    assert lines[1] == image.digest
    assert lines[3].endswith("compressed), 0 bytes of it yours")
    assert "runs      serve 'a b'" in lines
    assert "env       'A=b c'" in lines
    assert "ports     80/tcp" in lines
    assert "25 packages" in lines
    assert [line.split()[2] for line in lines if line.endswith("layer 1")][:2] == ["p24", "p23"]
    assert any("in 5 more (--all)" in line for line in lines)
    complete = output_of_inspect(capsys, str(path), "--all", "--files").splitlines()
    assert not any("--all" in line for line in complete)
    assert next(line for line in complete if "/opt/" in line).split()[-2:] == ["p24", f"/{SITE}/p24.py"]


def test_keys_of_json_output_are_stable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Programs rely on them."""
    layer = layer_of([*dist("a", "1", {"a.py": 5}, "Requires-Dist: b"), *dist("b", "2", {"b.py": 7})])
    image = with_valid_config(foreign_image(layer, Entrypoint=["a"]), created="2024-01-01T00:00:00Z")
    path = write_image_archive(image, tmp_path / "dist")
    value = json.loads(output_of_inspect(capsys, str(path), "--json", "--files"))
    assert [*value] == [
        "schema", "name", "digest", "platforms", "image", "made_by_hatch_docker", "size", "unpacked_size", "yours",
        "kinds", "system", "python", "layers", "left_out", "packages", "permissions", "files",
    ]  # fmt: skip
    assert value["digest"] == value["image"]["digest"] == image.digest
    assert value["image"]["entrypoint"] == ["a"]
    assert value["platforms"] == [{"platform": "linux/amd64", "digest": image.digest, "size": image.size}]
    assert [*value["layers"][0]] == [
        "layer", "digest", "diff_id", "kind", "title", "size", "unpacked_size", "files", "files_size", "removed_size",
    ]  # fmt: skip
    a, b = sorted(value["packages"], key=lambda item: str(item["name"]))
    assert (a["requires"], a["required"], b["requires"], b["required"]) == (["b"], False, [], True)
    assert (a["layer"], a["kind"], a["files"]) == (1, "dependencies", 3)
    assert {"path": f"/{SITE}/b.py", "size": 7, "layer": 1, "kind": "dependencies", "package": "b"} in value["files"]
    assert "files" not in json.loads(output_of_inspect(capsys, str(path), "--json"))
    assert output_of_inspect(capsys, str(path), "--json") == output_of_inspect(capsys, str(path), "--json")


def test_image_may_be_archive_layout_or_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The default is the only archive in dist/. A layout may have the prefix "oci:"."""
    image = foreign_image(layer_of([file("x", b"1")]))
    write_image_archive(image, tmp_path / "dist")
    write_layout(image, tmp_path / "layout")
    monkeypatch.chdir(tmp_path)
    with FakeRegistry() as registry:
        from hatch_docker.oci.reference import parse_reference
        from hatch_docker.oci.registry import Remote
        from tests.fakes.registry import push

        ctx = context(tmp_path / "other")
        name = f"{registry.host}/team/app:1"
        push(Remote(ctx.client, {}), image, [parse_reference(name)])
        for arguments in ([], ["dist/app.oci.tar"], ["oci:layout"], ["layout"], [name]):
            text = output_of_inspect(capsys, *arguments)
            assert image.digest in text
            assert "system    not named in the image" in text.splitlines()


def test_platform_option_selects_an_image_of_the_index(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The output names all platforms."""
    images = [image_of(layer_of([file("x", b"1")]), architecture=name) for name in ("s390x", "riscv64")]
    index = make_index(images, {})
    path = str(write_image_archive(index, tmp_path / "dist"))
    text = output_of_inspect(capsys, path, "--platform", "linux/riscv64")
    assert f"one of linux/riscv64, linux/s390x; together {index.digest}" in text
    assert images[1].digest in text
    assert main(["inspect", path, "--platform", "linux/arm64"]) == 1
    assert "has no image for linux/arm64; it has: linux/riscv64, linux/s390x" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "message"), [
    ("missing.oci.tar", "there is no archive missing.oci.tar: build it, or give another path"),
    ("saved.tar", "there is no archive saved.tar: build it, or give another path"),
    ("dist", "dist contains no .oci.tar: build it first (`hatch-docker build`), or name an archive"),
    ("oci:missing", "missing is not an OCI layout: cannot read missing/index.json: No such file or directory"),
    ("docker:x", "no Docker answers: start it, or set its address"),
    ("docker:", "'' is not an image reference: "),
    ("podman:A b", "'A b' is not an image reference: "),
    ("Not A Name", "Not A Name is neither an archive nor an image in a registry"),
])  # fmt: skip
def test_missing_image_is_an_error_of_one_line(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOCKER_HOST", "unix:///missing")
    assert main(["inspect", name]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_control_characters_in_names_are_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In text and in JSON."""
    layer = layer_of([file(f"srv/{EVIL}", bytes(999)), *dist(f"evil{EVIL[-6:]}", f"1{EVIL}".replace("/", ""), {})])
    settings = {"Labels": {EVIL: EVIL}, "User": EVIL, "Entrypoint": [EVIL], "Env": [f"A={EVIL}"]}
    image = foreign_image(layer, commands=[f"RUN {EVIL}"], **settings)
    path = str(write_image_archive(image, tmp_path / "dist"))
    for arguments in (["--files", "--all"], ["--json", "--files"]):
        text = output_of_inspect(capsys, path, *arguments)
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert "<script>" in text
    assert json.loads(text)["files"][0]["path"] == f"/srv/{EVIL}"


def test_damaged_layer_is_an_error() -> None:
    layer = layer_of([file("x", b"1")])
    image = image_of(replace(layer, diff_id=f"sha256:{'0' * 64}"))
    with pytest.raises(ImageError, match="unpacks to sha256:"):
        read_contents(image)


def inspect(path: str) -> None:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        main(["inspect", path])
    assert "20001 files" in out.getvalue()


def test_memory_and_time_for_many_files_and_a_large_one(tmp_path: Path) -> None:
    """The contents of files are not kept in memory."""
    names = (f"srv/data/{number % 200:03}/a-file-with-some-name-{number:06}.txt" for number in range(20_000))
    large = os.urandom(2 << 20) + bytes(198 << 20)  # only zeros would be rejected as a decompression bomb
    layer = layer_of([*map(file, names), file("srv/large", large)])
    found = measure(inspect, str(write_image_archive(image_of(layer), tmp_path / "dist")))
    assert (found.error, found.peak < 150 << 20, found.seconds < 10) == ("", True, True), found


@pytest.mark.engine
def test_image_of_docker_build_is_read_from_daemon_and_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file is the output of `docker save`."""
    docker = need_docker()
    (tmp_path / "app.py").write_text("print('hello')\n" * 10)
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY app.py /app/\nUSER 1000\nCMD [\"/app/app.py\"]\n")
    name = f"{NAME}:{os.getpid()}"
    subprocess.run([docker, "build", "-q", "-t", name, tmp_path], check=True, capture_output=True)
    try:
        text = output_of_inspect(capsys, f"docker:{name}")
        assert "runs      /app/app.py" in text
        assert "150.00 kB" not in text
        assert "150 bytes of it yours" in text
        assert "COPY app.py /app/" in text
        assert output_of_inspect(capsys, f"docker-daemon:{name}") == text
        saved = tmp_path / "saved.tar"
        subprocess.run([docker, "save", "-o", saved, name], check=True)
        assert text.splitlines()[1] in output_of_inspect(capsys, str(saved))
        assert main(["inspect", f"docker:{NAME}:missing"]) == 1
        assert f"has no image {NAME}:missing" in capsys.readouterr().err
    finally:
        subprocess.run([docker, "rmi", "-f", name], check=False, capture_output=True)


@pytest.mark.engine
def test_image_is_read_with_podman_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    need("podman")
    storage = tmp_path / "storage.conf"
    storage.write_text(f'[storage]\ndriver = "vfs"\ngraphroot = "{tmp_path}/graph"\nrunroot = "{tmp_path}/run"\n')
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(storage))
    image = foreign_image(layer_of([file("app/x", bytes(5000))]), Cmd=["/app/x"])
    assert main(["load", str(write_image_archive(image, tmp_path / "dist")), "--into", "podman"]) == 0
    assert "5.00 kB of it yours" in output_of_inspect(capsys, f"podman:{NAME}:1.0")
    assert main(["inspect", "podman:missing"]) == 1
    assert "podman cannot save missing: " in capsys.readouterr().err
