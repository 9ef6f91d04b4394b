"""The commands of `hatch-docker`, a module each: `add` declares it, `run` does it. What is heavy is imported then."""

from __future__ import annotations

import argparse
from typing import TypeAlias

Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001, it has no public name
