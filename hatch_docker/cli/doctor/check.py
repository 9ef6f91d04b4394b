"""Model of `doctor`: a check reads the setup of a build and returns findings, each of them a line.

If a check fails, it raises the error of a build. This is a problem only if the project needs the checked thing.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hatch_docker.core.context import Context
from hatch_docker.plan.model import Plan

State = Literal["ok", "unneeded", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """A line of the result. `state`: "unneeded" if a missing or unchecked thing is not needed by the project."""

    state: State
    topic: str
    text: str


@dataclass(frozen=True, slots=True)
class Setup:
    """Input of every check: the project and the machine.

    `plans`: the plans of the project's images, () without a valid project. `static`: False if the project's metadata
    need its build backend. `cache`: the directory of the cache. `leftovers`: number and bytes of unfinished files in it
    before `doctor` opened it. `offline`: send no requests. `deep`: read the whole cache.
    """

    root: Path
    ctx: Context
    cache: Path
    plans: tuple[Plan, ...] = ()
    static: bool = True
    offline: bool = False
    deep: bool = False
    leftovers: tuple[int, int] = (0, 0)

    def any_plan(self, predicate: Callable[[Plan], object], *, default: bool = False) -> bool:
        """Return whether a predicate is true for an image of the project; `default` if there is no project."""
        return any(map(predicate, self.plans)) if self.plans else default

    @property
    def isolated(self) -> bool:
        """Return whether the builder stage builds a wheel of the project or of a member."""
        return self.any_plan(lambda plan: plan.build.isolated or any(member.build.isolated for member in plan.members))


Report = Iterable[str | Finding]
"""Result of a check. A string is a finding with the state "ok" and the topic of the check."""


@dataclass(frozen=True, slots=True)
class Check:
    """A check of one topic. A HatchDockerError of `run` is a "problem" if `needed` returns true, otherwise "unneeded".

    `remote`: the check sends requests to other machines, and is skipped offline.
    """

    topic: str
    run: Callable[[Setup], Report]
    needed: Callable[[Setup], object] = lambda _setup: False
    remote: bool = False

    def findings(self, setup: Setup) -> list[str | Finding]:
        """Run the check and return its findings."""
        return list(self.run(setup))
