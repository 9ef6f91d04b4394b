"""Selection of the engine that the plan names."""

from hatch_docker.engines.model import Engine


def select_engine(name: str) -> Engine:
    """Return the engine called `name`: "embedded" or "buildkit"; other names do not pass the schema."""
    if name == "embedded":
        from hatch_docker.engines.embedded import build

        return build
    if name == "buildkit":
        from hatch_docker.engines.buildkit.engine import build as build_stages

        return build_stages
    raise AssertionError(name)
