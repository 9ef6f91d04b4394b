"""A table with all options, and values of all types."""

import tomllib
from typing import Any

import pytest
from hypothesis import strategies as st

from hatch_docker.config.load import load_config
from hatch_docker.config.options import Config
from hatch_docker.core.errors import ConfigError

EVERYTHING = """
[tool.hatch-docker]
image = "registry.example:5000/team/app"
tags = ["{version}", "{major}.{minor}", "{branch}-{revision}", "{date}"]
prereleases-move-tags = true
push = true
registries = ["registry.example", "localhost:5000/team/app"]
allow-dirty = true
engine = "buildkit"
builder = "far"
cache.from = ["type=gha"]
cache.to = ["type=gha,mode=max"]
base = "debian:trixie"
python = "3.13"
platforms = ["linux/amd64", "linux/arm64"]
extras = ["postgres"]
dependency-groups = ["prod"]
lock = "../uv.lock"
pins = "locks/image.lock"
max-size = "50MB"
max-growth = "5%"
entrypoint = ["serve", "--port", "8000"]
cmd = ["--verbose", ""]
init = true
ca-certificates = ["company.crt"]
env = { PORT = "8000", EMPTY = "", MOTTO = "two\\nlines" }
user = "1000:1000"
workdir = "/data"
ports = [8000, "53/udp", "443"]
volumes = ["/data"]
stop-signal = "SIGINT"
compression = "zstd"
debug = true
debug-shell = true
load = "never"
wheel-records = "refuse"
native-libraries = "warn"
archive = false
dotenv = "image.env"
sbom = ["spdx"]
provenance = false
sign.keyless = true
labels."org.example.team" = "maps"
annotations."org.example.team" = "maps"

[tool.hatch-docker.healthcheck]
command = ["probe"]
interval = "1m30s"
timeout = "500ms"
start-period = "1h"
retries = 3
start-interval = "2s"

[[tool.hatch-docker.files]]
source = "static"
target = "/srv/static"
[[tool.hatch-docker.files]]
source = "run.sh"
target = "/usr/local/bin/run"
mode = "0755"

[[tool.hatch-docker.steps]]
command = ["collect", "static"]
outputs = ["/srv/static/", "/var/lib/fonts"]
inputs = ["manage.py", "assets/**/*.svg"]
env = { MODE = "fast" }
secrets = ["LICENCE"]
network = true
timeout = "5m"

[tool.hatch-docker.build]
packages = ["libpq-dev", "g++"]
env = { CFLAGS = "-O2" }
args = { EDITION = "full" }
secrets = ["TOKEN"]
ssh = true
network = false
isolated = "always"

[tool.hatch-docker.runtime]
packages = ["libpq5"]

[tool.hatch-docker.slim]
leave-out = ["tests", "locales"]
locales = ["de"]
keep = ["pandas/tests"]

[tool.hatch-docker.check]
command = ["app", "--self-test"]
timeout = "2m"

[tool.hatch-docker.debian]
mirror = "http://mirror.example/debian"
security-mirror = "file:///srv/debian-security"
slim = false
check-valid-until = false

[tool.hatch-docker.standalone]
mirror = "file:///srv/pythons"
release = "20261003"
suite = "trixie"
"""

JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def table(text: str) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads(text)["tool"]["hatch-docker"]
    return found


def load(found: Any, **environ: str) -> Config:
    return load_config(found, environ, None)


def config_errors(found: Any, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(found, **environ)
    return str(caught.value).splitlines()
