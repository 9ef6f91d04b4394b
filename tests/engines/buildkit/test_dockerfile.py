"""The text of the Dockerfile: quoting of values, and the stages."""

import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hatch_docker.core.errors import ConfigError
from hatch_docker.engines.buildkit.dockerfile import (
    Group,
    Packages,
    Stages,
    exec_form,
    key_value,
    quoted,
    render,
    render_export,
)
from hatch_docker.oci.make_image import Settings
from hatch_docker.plan.model import BuildPlan

# Possible values of options, without line breaks; the names of variables contain neither = nor spaces.
TEXT = st.text(st.characters(exclude_characters="\n\0", exclude_categories=["Cs"]))
NAME = st.text(st.characters(min_codepoint=33, exclude_characters="=\x7f", exclude_categories=["Cs"]), min_size=1)
ASKED = BuildPlan(
    True, env={"A": "$x", "C": "a\nb"}, secrets=("TOKEN",), args={"LDFLAGS": 'a "b"', "M": "1\n2"}, ssh=True
)
STAGES = Stages(
    base="registry.example/python@sha256:0", python="/usr/local/bin/python3.13",
    tools=Packages(("gcc", "libpq-dev"), in_context=False), system=Packages(("libpq5",), in_context=True),
    groups=(Group("numpy", "dependencies", ("numpy 2",)), Group("project", "project", ("p 1",), ASKED, venv=True)),
)  # fmt: skip


def unquote(word: str) -> str:
    """Return the value of a quoted word, as in shell/lex.go of moby/buildkit."""
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
def test_quoted_word_is_read_unchanged(text: str) -> None:
    assert unquote(quoted(text)) == text
    assert len(quoted(text).split("\n")) == 1


@given(NAME, TEXT)
def test_first_equals_sign_separates_key_and_value(name: str, value: str) -> None:
    """BuildKit splits at the first equals sign, before it removes quotes."""
    key, _, rest = key_value(name, value).partition("=")
    assert (unquote(key) if key.startswith('"') else key) == name
    assert unquote(rest) == value


@given(st.lists(TEXT | st.text(st.characters(exclude_categories=["Cs"]))))
def test_exec_form_is_one_line_of_json(texts: list[str]) -> None:
    """Line breaks in values are escaped."""
    assert json.loads(exec_form(*texts)) == texts
    assert "\n" not in exec_form(*texts)


@given(st.dictionaries(NAME, TEXT, min_size=1), TEXT, st.lists(TEXT, min_size=1))
def test_values_do_not_change_the_instructions(env: dict[str, str], workdir: str, cmd: list[str]) -> None:

    def instructions(settings: Settings) -> list[str]:
        joined = re.sub(r" \\\n", " ", render(STAGES, settings))
        return [line.partition(" ")[0] for line in joined.split("\n") if line and not line.startswith("#")]

    wild = Settings(("a",), tuple(cmd), env=env, labels=env, user="1", workdir="/" + workdir, volumes=("/" + workdir,))
    tame = Settings(("a",), ("b",), env={"A": "b"}, labels={"A": "b"}, user="1", workdir="/w", volumes=("/v",))
    assert instructions(wild) == instructions(tame)


def test_line_break_in_a_value_is_rejected() -> None:
    with pytest.raises(ConfigError, match="line break"):
        quoted("one\ntwo")
    with pytest.raises(ConfigError, match=r"contain org\.example\.x = .one\\ntwo.: it has a line break"):
        key_value("org.example.x", "one\ntwo")


def test_runtime_stage_copies_trees_and_has_no_run() -> None:
    """Its user is not root."""
    text = render(STAGES, Settings(("serve",), user="65532", ports=("80/tcp",), stop_signal="SIGINT"))
    runtime = text.partition("FROM system AS runtime\n")[2].splitlines()
    assert runtime == [
        "COPY --from=install-numpy /out/tree/ /", "COPY --from=install-project /out/tree/ /", "EXPOSE 80/tcp",
        "STOPSIGNAL SIGINT", "USER 65532", 'ENTRYPOINT ["serve"]', "CMD []",
    ]  # fmt: skip


def test_network_and_secrets_of_stages() -> None:
    """Only builds, and apt without .deb files in the context, have network; secrets are mounts."""
    text = re.sub(r" \\\n *", " ", render_export(STAGES))
    runs = [line for line in text.splitlines() if line.startswith("RUN")]
    online = [line for line in runs if "--network=none" not in line]
    assert len(online) == 2
    assert "&& apt-get update && apt-get install --yes --no-install-recommends gcc libpq-dev && rm -rf" in online[0]
    assert "--mount=type=secret,id=TOKEN,required=true" in online[1]
    assert text.count("TOKEN") == 1
    (offline,) = [line for line in runs if "install --yes --no-install-recommends /packages/*.deb && rm -rf" in line]
    assert "--mount=type=bind,from=packages-system,source=/in/packages,target=/packages" in offline
    assert text.endswith(
        "FROM scratch AS export\nCOPY --from=changes /out/system/ /system/\n"
        "COPY --from=install-numpy /out/tree/ /tree/numpy/\n"
        "COPY --from=install-project /out/tree/ /tree/project/\nCOPY --from=build-project /out/wheel/ /wheel/project/\n"
    )


def test_build_arguments_and_ssh_of_a_build_stage() -> None:
    """No ENV overrides an ARG; variables with line breaks are not in the Dockerfile."""
    text = re.sub(r" \\\n *", " ", render_export(STAGES)).partition("AS build-project\n")[2].partition("\n\n")[0]
    argument, env, run = text.splitlines()
    assert argument == r'ARG LDFLAGS="a \"b\""'
    assert 'A="\\$x"' in env
    assert not re.search("LDFLAGS| C=| M=", env)
    assert "--mount=type=ssh,required=true" in run
    assert render_export(STAGES).count("ssh") == 1


def test_pure_project_has_no_compiler_stage() -> None:
    stages = Stages("base:1", "/usr/bin/python3.13", groups=(Group("project", "project", ("p 1",), venv=True),))
    text = render(stages, Settings(("p",), user="65532"))
    assert "compiler" not in text
    assert "USER 0" not in text


def test_stages_from_a_base_with_a_user_run_as_root() -> None:
    stages = Stages("base:1", "/usr/bin/python3.13", groups=(Group("project", "project", ("p",)),), user=True)
    assert render(stages, Settings(("p",), user="65532")).count("USER") == 2


def test_health_check_times_are_in_seconds_if_possible() -> None:
    """Linters do not accept milliseconds, which are used for fractions of a second."""
    check = {"Test": ["CMD", "curl", "a b"], "Interval": 90_000_000_000, "Timeout": 1_500_000_000, "Retries": 2}
    text = render(STAGES, Settings(("serve",), user="65532", healthcheck=check))
    assert 'HEALTHCHECK --interval=90s --timeout=1500ms --retries=2 CMD ["curl", "a b"]\n' in text
