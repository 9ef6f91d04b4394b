"""Doctor: whether the way that a project goes can be gone on this machine, in a line a thing, with what to do.

A check looks at one thing: it says what it found, or raises the error that a build would end with. What a project does
not need is no problem where it is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from hatch_docker.context import Context
    from hatch_docker.plan import Plan

State = Literal["ok", "unneeded", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: "ok", "unneeded" for what is missing or was not asked and does not matter, or a "problem"."""

    state: State
    topic: str
    text: str


@dataclass(frozen=True, slots=True)
class Look:
    """What is looked at. `plans` are those of the project's images, none where there is no project or it is not valid;
    `whole` is False where only the project's backend knows what it needs. `cache` is the directory of the cache.

    With `offline` nobody is asked. `deep` reads all of the cache, not some of it; `leftovers` are the unfinished files
    that were there before we came.
    """

    root: Path
    ctx: Context
    cache: Path
    plans: tuple[Plan, ...] = ()
    whole: bool = True
    offline: bool = False
    deep: bool = False
    leftovers: tuple[int, int] = (0, 0)

    def some(self, needs: Callable[[Plan], object], *, else_: bool) -> bool:
        """Whether an image of the project needs something; `else_` where there is no project to ask."""
        return any(map(needs, self.plans)) if self.plans else else_

    @property
    def isolated(self) -> bool:
        """Whether a wheel is made in the builder stage."""
        return any(
            plan.build.isolated or any(member.build.isolated for member in plan.members) for plan in self.plans
        )

    @property
    def suites(self) -> tuple[str, ...]:
        """The suites of Debian that bases are made of."""
        names = {plan.base.location for plan in self.plans if plan.base.kind == "debian"}
        return tuple(sorted(names)) or ("trixie",)


Said = Iterable[str | Finding]


@dataclass(frozen=True, slots=True)
class Check:
    """A look at one thing. What `work` gives is fine; a HatchDockerError that it raises is a problem where `needed`.

    One that `asks` others is left out offline.
    """

    topic: str
    work: Callable[[Look], Said]
    needed: Callable[[Look], bool] = lambda _look: False
    asks: bool = False
