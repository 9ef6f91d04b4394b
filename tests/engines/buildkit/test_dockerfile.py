"""The Dockerfile as text: no value becomes an instruction, each arrives as it is, and nothing needs a shell."""

import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hatch_docker.core.errors import ConfigError
from hatch_docker.engines.buildkit.dockerfile import Group, Packages, Stages, pair, quoted, render, render_export, words
from hatch_docker.oci.make_image import Settings
from hatch_docker.plan.model import BuildPlan

# What an option may hold, line breaks apart; the names of variables hold neither = nor spaces.
TEXT = st.text(st.characters(exclude_characters="\n\0", exclude_categories=["Cs"]))
NAME = st.text(st.characters(min_codepoint=33, exclude_characters="=\x7f", exclude_categories=["Cs"]), min_size=1)
ASKED = BuildPlan(
    True, env={"A": "$x", "C": "a\nb"}, secrets=("TOKEN",), args={"LDFLAGS": 'a "b"', "M": "1\n2"}, ssh=True
)
STAGES = Stages(
    base="registry.example/python@sha256:0", python="/usr/local/bin/python3.13",
    tools=Packages(("gcc", "libpq-dev"), given=False), system=Packages(("libpq5",), given=True),
    groups=(Group("numpy", "dependencies", ("numpy 2",)), Group("project", "project", ("p 1",), ASKED, venv=True)),
)  # fmt: skip


def lexed(word: str) -> str:
    """A word as moby/buildkit's shell/lex.go reads it, of which this is the part that quoting can reach."""
    assert len(word) > 1
    assert word[0] == word[-1] == '"'
    text, out, position = word[1:-1], "", 0
    while position < len(text):
        character = text[position]
        assert character not in '"$', "ends the word, or is replaced by a variable"
        if character == "\\" and text[position + 1] in '"$\\':
            position += 1
            character = text[position]
        out += character
        position += 1
    return out


@given(TEXT)
@example('"; RUN evil')
@example("\\")
@example("${HOME:-x} `id` $(id) # %PATH%")
@example("\r\u2028\u0085\t")
def test_a_word_is_read_as_it_was_meant(text: str) -> None:
    assert lexed(quoted(text)) == text
    assert len(quoted(text).split("\n")) == 1


@given(NAME, TEXT)
def test_a_pair_is_cut_at_its_own_equals_sign(name: str, value: str) -> None:
    """BuildKit cuts at the first one, before it takes quotes away."""
    key, _, rest = pair(name, value).partition("=")
    assert (lexed(key) if key.startswith('"') else key) == name
    assert lexed(rest) == value


@given(st.lists(TEXT | st.text(st.characters(exclude_categories=["Cs"]))))
def test_an_exec_form_is_one_line_of_json(texts: list[str]) -> None:
    """Line breaks included: JSON has a way to write them."""
    assert json.loads(words(*texts)) == texts
    assert "\n" not in words(*texts)


@given(st.dictionaries(NAME, TEXT, min_size=1), TEXT, st.lists(TEXT, min_size=1))
def test_no_value_becomes_an_instruction(env: dict[str, str], workdir: str, cmd: list[str]) -> None:
    """Whatever they hold, the instructions are those of harmless values."""

    def instructions(settings: Settings) -> list[str]:
        joined = re.sub(r" \\\n", " ", render(STAGES, settings))
        return [line.partition(" ")[0] for line in joined.split("\n") if line and not line.startswith("#")]

    wild = Settings(("a",), tuple(cmd), env=env, labels=env, user="1", workdir="/" + workdir, volumes=("/" + workdir,))
    tame = Settings(("a",), ("b",), env={"A": "b"}, labels={"A": "b"}, user="1", workdir="/w", volumes=("/v",))
    assert instructions(wild) == instructions(tame)


def test_what_a_dockerfile_cannot_say_is_refused() -> None:
    with pytest.raises(ConfigError, match="line break"):
        quoted("one\ntwo")
    with pytest.raises(ConfigError, match=r"hold org\.example\.x = .one\\ntwo.: it has a line break"):
        pair("org.example.x", "one\ntwo")


def test_the_image_is_copied_together_and_runs_nothing() -> None:
    """The runtime stage has no RUN, takes trees alone, and ends as somebody who is not root."""
    text = render(STAGES, Settings(("serve",), user="65532", ports=("80/tcp",), stop_signal="SIGINT"))
    runtime = text.partition("FROM system AS runtime\n")[2].splitlines()
    assert runtime == [
        "COPY --from=install-numpy /out/tree/ /", "COPY --from=install-project /out/tree/ /", "EXPOSE 80/tcp",
        "STOPSIGNAL SIGINT", "USER 65532", 'ENTRYPOINT ["serve"]', "CMD []",
    ]  # fmt: skip


def test_only_a_build_and_unknown_packages_reach_the_network_and_secrets_are_mounts() -> None:
    """Packages whose .debs are in the context are installed from there."""
    text = re.sub(r" \\\n *", " ", render_export(STAGES))
    runs = [line for line in text.splitlines() if line.startswith("RUN")]
    online = [line for line in runs if "--network=none" not in line]
    assert len(online) == 2
    assert "&& apt-get update && apt-get install --yes --no-install-recommends gcc libpq-dev && rm -rf" in online[0]
    assert "--mount=type=secret,id=TOKEN,required=true" in online[1]
    assert text.count("TOKEN") == 1
    (given,) = [line for line in runs if "install --yes --no-install-recommends /packages/*.deb && rm -rf" in line]
    assert "--mount=type=bind,from=packages-system,source=/in/packages,target=/packages" in given
    assert text.endswith(
        "FROM scratch AS export\nCOPY --from=changes /out/system/ /system/\n"
        "COPY --from=install-numpy /out/tree/ /tree/numpy/\n"
        "COPY --from=install-project /out/tree/ /tree/project/\nCOPY --from=build-project /out/wheel/ /wheel/project/\n"
    )


def test_arguments_can_be_set_anew_and_the_agent_is_a_mount() -> None:
    """No ENV hides an ARG; what a Dockerfile cannot hold is not in it."""
    text = re.sub(r" \\\n *", " ", render_export(STAGES)).partition("AS build-project\n")[2].partition("\n\n")[0]
    argument, env, run = text.splitlines()
    assert argument == r'ARG LDFLAGS="a \"b\""'
    assert 'A="\\$x"' in env
    assert not re.search("LDFLAGS| C=| M=", env)
    assert "--mount=type=ssh,required=true" in run
    assert render_export(STAGES).count("ssh") == 1


def test_a_plain_project_has_no_compiler() -> None:
    stages = Stages("base:1", "/usr/bin/python3.13", groups=(Group("project", "project", ("p 1",), venv=True),))
    text = render(stages, Settings(("p",), user="65532"))
    assert "compiler" not in text
    assert "USER 0" not in text


def test_a_base_with_a_user_is_root_in_the_stages_and_nowhere_else() -> None:
    stages = Stages("base:1", "/usr/bin/python3.13", groups=(Group("project", "project", ("p",)),), user=True)
    assert render(stages, Settings(("p",), user="65532")).count("USER") == 2


def test_a_check_of_health_is_told_in_seconds_where_it_has_whole_ones() -> None:
    """As linters read no other; a part of one is not lost."""
    check = {"Test": ["CMD", "curl", "a b"], "Interval": 90_000_000_000, "Timeout": 1_500_000_000, "Retries": 2}
    text = render(STAGES, Settings(("serve",), user="65532", healthcheck=check))
    assert 'HEALTHCHECK --interval=90s --timeout=1500ms --retries=2 CMD ["curl", "a b"]\n' in text
