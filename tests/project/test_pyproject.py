"""The text of a pyproject.toml without our table, which decides nothing of a wheel."""

import pytest

from hatch_docker.project.pyproject import without_our_table

REST = '[project]\nname = "a"\n\n[tool.other]\nx = 1\n'


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        (REST, REST),
        (f'{REST}[tool.hatch-docker]\nbase = "debian:trixie"\n', f"{REST}"),
        (f'[tool.hatch-docker]\ncmd = [\n  "[a]",\n]\n\n[tool.hatch-docker.build]\nnetwork = true\n{REST}', REST),
        (f'[ tool . "hatch-docker" ] # ours\r\nport = 1\r\n[[tool.hatch-docker.files]]\na = 1\n{REST}', REST),
        (f"[tool.hatch-docker]\n# ours\nport = 1\n# of the project\n{REST}", f"# of the project\n{REST}"),
        ("[tool.hatch-docker]\nport = 1\n", ""),
        # Tables that hold others' lines, or are in others' tables, are left in: nothing is lost by that.
        (f'[tool]\nhatch-docker.port = 1\n{REST}', None),
        (f'[tool.hatch-docker]\nx = """\n[a]\n"""\n{REST}', None),
        (f'{REST}y = """\n[tool.hatch-docker]\n"""\n', None),
        ("[tool.hatch-docker-extra]\nport = 1\n", None),
        ("[tool.hatch-docker\n", None),
    ],
)  # fmt: skip
def test_our_table_is_left_out_of_a_text(text: str, rest: str | None) -> None:
    """Only whole lines go, and only if all other tables are the same without them."""
    assert without_our_table(text) == (text if rest is None else rest)
