"""The text of a pyproject.toml without [tool.hatch-docker], which has no effect on the wheel."""

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
        # The text stays unchanged if our lines cannot be removed alone.
        (f'[tool]\nhatch-docker.port = 1\n{REST}', None),
        (f'[tool.hatch-docker]\nx = """\n[a]\n"""\n{REST}', None),
        (f'{REST}y = """\n[tool.hatch-docker]\n"""\n', None),
        ("[tool.hatch-docker-extra]\nport = 1\n", None),
        ("[tool.hatch-docker\n", None),
    ],
)  # fmt: skip
def test_without_our_table(text: str, rest: str | None) -> None:
    assert without_our_table(text) == (text if rest is None else rest)
