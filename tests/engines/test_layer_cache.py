"""Keys of layers: they must not change, so that a newer version finds the layers in the users' caches."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from hatch_docker.bases.model import Interpreter
from hatch_docker.engines import layer_cache
from hatch_docker.oci.layer import Entry
from hatch_docker.wheels.install.layout import VenvTarget
from hatch_docker.wheels.install.slim import NONE, Rules

PYTHON = Interpreter("/usr/bin/python3.13", "3.13.5")
VENV = VenvTarget(PYTHON)
LAYERS = [SimpleNamespace(diff_id="sha256:1"), SimpleNamespace(diff_id="sha256:2")]
BASE: Any = SimpleNamespace(interpreter=PYTHON, interpreter_trust_key="", image=SimpleNamespace(layers=LAYERS))
ENTRIES = [Entry("srv", "directory", 0o755, 0, uid=7, gid=8), Entry("srv/a", "symlink", 0o777, 0, target="b")]
KEYS = {
    "wheels": "7888d4e75e5272cc",
    "stage": "70ef70394ed80eee",
    "debs": "0960352b77481ba1",
    "packages": "57986e93918cf53c",
    "compiler": "a9b525e2585ef876",
    "files": "ccea332b07a2e86d",
    "volumes": "c855cbc87de4f35d",
    "facts": "b6a57f512203154b",
    "slim facts": "9b1dff929854a490",
    "programs": "83daf0f2ba8bd8c4",
}


@pytest.mark.parametrize("key", KEYS)
def test_layer_keys_are_stable(key: str) -> None:
    keys = {
        "wheels": layer_cache.wheels_layer_key(BASE, VENV, ["sha256:3"], own_files=True),
        "stage": layer_cache.stage_tree_key(BASE, VENV, ["sha256:3"], own_files=False),
        "debs": layer_cache.with_packages_key(BASE, ["curl"], digests=False),
        "packages": layer_cache.packages_layer_key("key"),
        "compiler": layer_cache.compiler_layer_key("tree"),
        "files": layer_cache.files_layer_key(ENTRIES, {"srv/a": "sha256:4"}),
        "volumes": layer_cache.volumes_layer_key(ENTRIES),
        "facts": layer_cache.wheel_facts_key(VENV, "sha256:3", NONE),
        "slim facts": layer_cache.wheel_facts_key(VENV, "sha256:3", Rules(("tests",))),
        "programs": layer_cache.programs_key(VENV, ["sha256:3"]),
    }
    assert keys[key].startswith(KEYS[key])


def test_interpreter_path_is_in_the_key_with_venv_files_only() -> None:
    """The environment's own files contain the path; other layers fit bases with another path too."""
    moved = SimpleNamespace(**{**vars(BASE), "interpreter": replace(PYTHON, path="/usr/local/bin/python3.13")})
    for own_files in (True, False):
        keys = {layer_cache.wheels_layer_key(base, VENV, ["a"], own_files=own_files) for base in (BASE, moved)}
        assert len(keys) == 1 + own_files
