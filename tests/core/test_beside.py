"""Background work: its warnings and errors come after those of the steps, and it ends with the block."""

import sys
import threading
import time

import pytest

from hatch_docker.core.beside import in_background
from hatch_docker.core.context import Context
from hatch_docker.core.errors import BuildError
from hatch_docker.core.process import run
from hatch_docker.core.progress import CancelledWorkError


def test_warnings_are_delayed_until_the_result_is_taken(ctx: Context) -> None:
    warned = threading.Event()

    def work(ctx: Context) -> int:
        ctx.progress.warn("beside")
        warned.set()
        return 5

    with in_background(ctx, work) as result:
        warned.wait(10)
        ctx.progress.warn("step")
        assert ctx.progress.warnings == ["step"]
        assert result() == 5
    assert ctx.progress.warnings == ["step", "beside"]


def test_error_of_a_step_comes_before_error_of_the_work(ctx: Context) -> None:
    def work(ctx: Context) -> None:
        ctx.progress.warn("beside")
        raise BuildError("beside")

    with pytest.raises(BuildError, match="step"), in_background(ctx, work):
        raise BuildError("step")
    assert ctx.progress.warnings == []
    with pytest.raises(BuildError, match="beside"), in_background(ctx, work) as result:
        result()
    assert ctx.progress.warnings == ["beside"]


@pytest.mark.parametrize("fails", [True, False])
def test_work_without_a_taken_result_is_cancelled(ctx: Context, *, fails: bool) -> None:
    """Its task fails at the next `advance`. If the block fails, its program is killed."""
    begun, ended = threading.Event(), list[BaseException]()

    def work(ctx: Context) -> None:
        try:
            with ctx.progress.task("work") as task:
                if fails:
                    program = "import sys, time; print('begun', file=sys.stderr, flush=True); time.sleep(60)"
                    run([sys.executable, "-c", program], log=lambda _line: begun.set())
                begun.set()
                while True:
                    time.sleep(0.01)
                    task.advance(1)
        except BaseException as error:
            ended.append(error)
            raise

    def block() -> None:
        with in_background(ctx, work):
            begun.wait(10)
            time.sleep(0.2)
            if fails:
                raise BuildError("step")

    if fails:
        with pytest.raises(BuildError, match="step"):
            block()
        assert "status -9" in str(ended)
    else:
        block()
        assert [type(error) for error in ended] == [CancelledWorkError]
