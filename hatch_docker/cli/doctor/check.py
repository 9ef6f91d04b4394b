"""Model of `doctor`: a check reads the setup of a build and returns findings, each a line.

A check raises the error that a build would end with. That is a problem only if the project needs what was checked.
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
    """A line of the answer. `state` is "unneeded" if something is missing, or was not asked, and the project can do
    without.
    """

    state: State
    topic: str
    text: str


@dataclass(frozen=True, slots=True)
class Setup:
    """Input of every check: the project and the machine.

    `plans` are those of the project's images, none if there is no valid project. `static` is False if only its build
    backend knows what it needs. `cache` is the directory of the cache, `leftovers` the number and bytes of its
    unfinished files before `doctor` opened it. With `offline` no other machine is asked; `deep` reads the whole cache.
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
        """Return whether a predicate holds for an image of the project, `default` if there is no project."""
        return any(map(predicate, self.plans)) if self.plans else default

    @property
    def isolated(self) -> bool:
        """Return whether a wheel is built in the builder stage."""
        return self.any_plan(lambda plan: plan.build.isolated or any(member.build.isolated for member in plan.members))


Report = Iterable[str | Finding]
"""Result of a check: a text is a finding that is ok, with the topic of the check."""


@dataclass(frozen=True, slots=True)
class Check:
    """A check of one topic. A HatchDockerError of `run` is a problem if `needed` holds, and else "unneeded".

    With `remote` it asks other machines, and is left out offline.
    """

    topic: str
    run: Callable[[Setup], Report]
    needed: Callable[[Setup], object] = lambda _setup: False
    remote: bool = False

    def findings(self, setup: Setup) -> list[str | Finding]:
        """Return all that the check finds."""
        return list(self.run(setup))
