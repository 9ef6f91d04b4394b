"""Targets, and the texts of lock files of uv, Poetry and PDM."""

from hatch_docker.core.context import Context
from hatch_docker.oci.model import Platform
from hatch_docker.plan.model import LockPlan
from hatch_docker.wheels.target import Pin, Target
from tests.fakes.context import with_environ
from tests.fakes.package_index import FakeIndex

AMD64 = Target("3.13.5", Platform("linux", "amd64"), ("glibc", "2.41"))
ARM64 = Target("3.13.5", Platform("linux", "arm64"), ("glibc", "2.41"))
OLD = Target("3.11.2", Platform("linux", "amd64"), ("glibc", "2.36"))
HOST = AMD64 if AMD64.builds_here else ARM64
FOREIGN = ARM64 if HOST is AMD64 else AMD64


def with_index(ctx: Context, index: FakeIndex, **variables: str) -> Context:
    return with_environ(ctx, {**ctx.environ, "UV_DEFAULT_INDEX": index.url, **variables})


def resolve_plan(*requirements: str) -> LockPlan:
    return LockPlan("resolve", requirements=requirements)


def names(pins: tuple[Pin, ...]) -> list[str]:
    return [pin.filename for pin in pins]


UV_LOCK = """
version = 1
revision = 3
requires-python = ">=3.11"
[[package]]
name = "app"
version = "1.0"
source = { registry = "https://i.example/simple" }
dependencies = [{ name = "dep", version = "1.0", source = { registry = "https://i.example/simple" }, \
marker = "python_full_version < '3.12'" }, { name = "dep", version = "2.0", source = { registry = \
"https://i.example/simple" }, marker = "python_full_version >= '3.12'" }]
wheels = [{ url = "https://f.example/app-1.0-py3-none-any.whl", hash = "sha256:HASH", size = 5, \
upload-time = "2024-01-02T03:04:05.5Z" }]
[package.optional-dependencies]
fast = [{ name = "quick", marker = "sys_platform == 'linux'" }]
[[package]]
name = "dep"
version = "1.0"
source = { registry = "https://i.example/simple" }
wheels = [{ url = "https://f.example/dep-1.0-py3-none-any.whl", hash = "sha256:HASH" }]
[[package]]
name = "dep"
version = "2.0"
source = { registry = "https://i.example/simple" }
wheels = [{ url = "https://f.example/dep-2.0-py3-none-any.whl", hash = "sha256:HASH" }]
[[package]]
name = "quick"
version = "1.0"
source = { registry = "https://i.example/simple" }
dependencies = [{ name = "app" }]
sdist = { url = "https://f.example/quick-1.0.tar.gz", hash = "sha256:HASH" }
wheels = [{ url = "https://f.example/quick-1.0-cp311-cp311-manylinux_2_17_x86_64.whl", hash = "sha256:HASH" }]
[[package]]
name = "tool"
version = "1.0"
source = { url = "https://f.example/tool-1.0-py3-none-any.whl" }
wheels = [{ url = "https://f.example/tool-1.0-py3-none-any.whl", hash = "sha256:HASH" }]
[[package]]
name = "member"
version = "1"
source = { editable = "packages/member" }
[[package]]
name = "project"
version = "1.0"
source = { editable = "." }
dependencies = [{ name = "app", marker = "extra != 'extra-7-project-no'" }]
[package.optional-dependencies]
web = [{ name = "app", extra = ["fast"] }]
inner = [{ name = "member" }]
no = []
[package.dev-dependencies]
dev = [{ name = "tool" }]
""".replace("HASH", "a" * 64)


POETRY = """
[[package]]
name = "app"
version = "1.0"
optional = false
groups = ["main"]
files = [{file = "app-1.0-py3-none-any.whl", hash = "sha256:@app-1.0@"}]

[package.dependencies]
Deep_Dep = ">=2,<4"
fast-path = {version = "^1.5", optional = true, markers = "extra == \\"fast\\""}
colorama = {version = "*", markers = "platform_system == \\"Windows\\""}
wide = [
  {version = ">=0.1", markers = "python_version >= \\"3.9\\""},
  {version = "<0.1", markers = "python_version < \\"3.9\\""},
]

[package.extras]
fast = ["fast-path (>=1.5)"]

[[package]]
name = "deep-dep"
version = "3.0"
files = [{file = "deep_dep-3.0-py3-none-any.whl", hash = "sha256:@deep_dep-3.0@"}]

[[package]]
name = "fast-path"
version = "1.5"
optional = true
files = [{file = "fast_path-1.5-py3-none-any.whl", hash = "sha256:@fast_path-1.5@"}]

[[package]]
name = "tool"
version = "1.0"
markers = "python_version < \\"3.12\\""
files = [{file = "tool-1.0-py3-none-any.whl", hash = "sha256:@tool-1.0@"}]

[[package]]
name = "tool"
version = "2.0"
markers = {main = "python_version >= \\"3.12\\"", dev = "python_version >= \\"3.12\\""}
files = [{file = "tool-2.0-py3-none-any.whl", hash = "sha256:@tool-2.0@"}]

[[package]]
name = "wide"
version = "0.1"
files = [{file = "wide-0.1-py3-none-any.whl", hash = "sha256:@wide-0.1@"}]

[metadata]
lock-version = "2.1"
"""
PDM = """
[metadata]
lock_version = "4.5.0"

[[package]]
name = "app"
version = "1.0"
dependencies = ["Deep.Dep<4,>=2", "colorama; platform_system == 'Windows'", "wide>=0.1; python_version >= '3.9'"]
files = [{file = "app-1.0-py3-none-any.whl", hash = "sha256:@app-1.0@"}]

[[package]]
name = "app"
version = "1.0"
extras = ["fast"]
dependencies = ["app==1.0", "fast-path>=1.5"]
files = [{file = "app-1.0-py3-none-any.whl", hash = "sha256:@app-1.0@"}]

[[package]]
name = "deep-dep"
version = "3.0"
files = [{file = "deep_dep-3.0-py3-none-any.whl", hash = "sha256:@deep_dep-3.0@"}]

[[package]]
name = "fast-path"
version = "1.5"
files = [{url = "http://127.0.0.1/fast_path-1.5-py3-none-any.whl", hash = "sha256:@fast_path-1.5@"}]

[[package]]
name = "tool"
version = "1.0"
marker = "python_version < '3.12'"
files = [{file = "tool-1.0-py3-none-any.whl", hash = "sha256:@tool-1.0@"}]

[[package]]
name = "tool"
version = "2.0"
marker = "python_version >= '3.12'"
files = [{file = "tool-2.0-py3-none-any.whl", hash = "sha256:@tool-2.0@"}]

[[package]]
name = "wide"
version = "0.1"
files = [{file = "wide-0.1-py3-none-any.whl", hash = "sha256:@wide-0.1@"}]
"""
