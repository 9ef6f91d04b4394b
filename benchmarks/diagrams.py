"""The diagrams of docs/: boxes and arrows as SVG, for light and dark mode and for small screens.

    python benchmarks/diagrams.py

A diagram is 520 pixels wide, so that its text is legible on a phone, and has its own background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"
WIDTH = 520

STYLE = """\
    text { font: 14px system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; fill: #1f2328; text-anchor: middle; }
    .b { font-weight: 600; } .s { font-size: 12px; fill: #4c5560; } .l { text-anchor: start; }
    .back { fill: #fff; stroke: #d0d7de; } rect { stroke: #59636e; }
    .grey { fill: #eaeef2; } .plain { fill: #fff; } .yellow { fill: #fff8c5; } .blue { fill: #ddf4ff; }
    .green { fill: #dafbe1; } .edge { stroke-dasharray: 6 4; fill: none; }
    path { stroke: #59636e; stroke-width: 1.5; fill: none; marker-end: url(#h); } .head { stroke: none; fill: #59636e; }
    @media (prefers-color-scheme: dark) {
      text { fill: #f0f6fc; } .s { fill: #c3cbd4; } .back { fill: #161b22; stroke: #3d444d; } rect { stroke: #9198a1; }
      .grey { fill: #30363d; } .plain { fill: #161b22; } .yellow { fill: #4a3a05; } .blue { fill: #103a66; }
      .green { fill: #12431f; } path { stroke: #9198a1; } .head { fill: #9198a1; } .edge { fill: none; }
    }"""
HEAD = (
    '<defs><marker id="h" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0 0 8 4 0 8z" class="head" style="marker-end: none"/></marker></defs>'
)


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle with a title and lines below it; `edge` draws a dashed frame with the title at the top."""

    x: int
    y: int
    wide: int
    high: int
    tone: str
    title: str
    lines: tuple[str, ...] = ()
    edge: bool = False

    def svg(self) -> str:
        tone = "edge" if self.edge else self.tone
        rect = f'<rect x="{self.x}" y="{self.y}" width="{self.wide}" height="{self.high}" rx="6" class="{tone}"/>'
        if self.edge:
            return f'{rect}<text x="{self.x + 12}" y="{self.y + 22}" class="b l">{escaped(self.title)}</text>'
        middle, top = self.x + self.wide / 2, self.y + self.high / 2 + 5 - 9 * len(self.lines)
        texts = [f'<text x="{middle:g}" y="{top:g}" class="b">{escaped(self.title)}</text>']
        texts += [f'<text x="{middle:g}" y="{top + 18 * at:g}" class="s">{escaped(line)}</text>'
                  for at, line in enumerate(self.lines, 1)]  # fmt: skip
        return rect + "".join(texts)


@dataclass(frozen=True, slots=True)
class Arrow:
    """A line through points with an arrowhead at its end and a word beside its start."""

    points: tuple[tuple[int, int], ...]
    word: str = ""

    def svg(self) -> str:
        path = f'<path d="M{" L".join(f"{x} {y}" for x, y in self.points)}"/>'
        (x, y), (to, down) = self.points[:2]
        across = down == y
        place = f'x="{(x + to) / 2:g}" y="{y - 6}"' if across else f'x="{x + 8}" y="{y + 17}"'
        kind = "s" if across else "s l"
        return path + (f'<text {place} class="{kind}">{escaped(self.word)}</text>' if self.word else "")


def escaped(text: str) -> str:
    """Return a text with `&` and `<` escaped."""
    return text.replace("&", "&amp;").replace("<", "&lt;")


def diagram(title: str, high: int, shapes: Sequence[Box | Arrow]) -> str:
    """Return a diagram as SVG."""
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {high}" width="{WIDTH}" height="{high}">',
        f"  <title>{escaped(title)}</title>", f"  <style>\n{STYLE}\n  </style>", f"  {HEAD}",
        f'  <rect x=".5" y=".5" width="{WIDTH - 1}" height="{high - 1}" rx="10" class="back"/>',
        *(f"  {shape.svg()}" for shape in shapes), "</svg>",
    ]) + "\n"  # fmt: skip


def down(x: int, top: int, bottom: int, word: str = "") -> Arrow:
    """Return a vertical arrow."""
    return Arrow(((x, top), (x, bottom)), word)


def decisions(title: str, questions: Sequence[tuple[str, Sequence[str]]], last: tuple[str, tuple[str, ...]]) -> str:
    """Return a decision tree: each answer with the lines of its question; "yes" leads right, "no" down."""
    shapes: list[Box | Arrow] = []
    for number, (answer, (first, *lines)) in enumerate(questions):
        y = 20 + 100 * number
        shapes += [Box(20, y, 280, 62, "plain", first, tuple(lines)), Box(358, y + 6, 146, 50, "blue", answer)]
        shapes += [Arrow(((300, y + 31), (356, y + 31)), "yes"), down(160, y + 62, y + 98, "no")]
    y = 20 + 100 * len(questions)
    return diagram(title, y + 82, [*shapes, Box(20, y, 280, 62, "green", last[0], last[1])])


def flow() -> str:
    """Return the diagram of the steps from a project to an image."""
    return diagram("From a project to an image: plan, engine, image, results", 430, [
        Box(30, 20, 215, 56, "yellow", "project", ("metadata, locks, sources",)),
        Box(275, 20, 215, 56, "yellow", "[tool.hatch-docker]", ("and HATCH_DOCKER_* variables",)),
        Arrow(((137, 76), (230, 108))), Arrow(((382, 76), (290, 108))),
        Box(150, 110, 220, 50, "plain", "plan", ("every default, with its reason",)),
        Arrow(((230, 160), (137, 192))), Arrow(((290, 160), (382, 192))),
        Box(30, 194, 215, 56, "grey", "engine: embedded", ("this process",)),
        Box(275, 194, 215, 56, "grey", "engine: buildkit", ("Docker or Podman",)),
        Arrow(((137, 250), (230, 282))), Arrow(((382, 250), (290, 282))),
        Box(150, 284, 220, 50, "blue", "image", ("one digest, with either engine",)),
        Arrow(((190, 334), (95, 362))), down(260, 334, 362), Arrow(((330, 334), (425, 362))),
        Box(20, 364, 150, 48, "green", "archive", ("dist/*.oci.tar",)),
        Box(185, 364, 150, 48, "green", "daemon", ("Docker, Podman",)),
        Box(350, 364, 150, 48, "green", "registries", ("SBOM, signature",)),
    ])  # fmt: skip


def layers() -> str:
    """Return the diagram of the layers of an image, and of the builder stage, which is in none of them."""
    return diagram("The layers of an image", 468, [
        Box(15, 15, 490, 118, "grey", "builder stage, deleted after the build", edge=True),
        Box(30, 52, 145, 64, "grey", "your sources", ("as an sdist",)),
        Box(188, 52, 145, 64, "grey", "compiler", ("headers, build tools",)),
        Box(346, 52, 145, 64, "yellow", "your wheel", ("the only result",)),
        Arrow(((418, 116), (418, 226))),
        Box(15, 150, 490, 302, "grey", "the image", edge=True),
        Box(30, 184, 300, 40, "plain", "your files", ("[[tool.hatch-docker.files]]",)),
        Box(30, 228, 460, 44, "yellow", "your code", ("changes with every edit: kilobytes",)),
        Box(30, 276, 460, 44, "green", "the small wheels, together", ("change with the lock",)),
        Box(30, 324, 460, 44, "green", "a layer for each large wheel", ("the same in all of your images",)),
        Box(30, 372, 460, 64, "blue", "base: Python and the libraries that it needs",
            ("no compiler, no pip; on debian: no shell", "the same in all of your images")),
    ])  # fmt: skip


def engine() -> str:
    """Return the decision tree for the engine."""
    return decisions("Which engine?", [
        ("buildkit", ("apt installs packages", "runtime.packages or build.packages,", "and the base is not debian:")),
        ("buildkit", ("a build farm", "you have a remote builder of Docker")),
        ("buildkit", ("no sandbox", "code is compiled, and the doctor says", "that the kernel refuses the sandbox")),
    ], ("embedded, the default", ("needs neither Docker nor root",)))  # fmt: skip


def base() -> str:
    """Return the decision tree for the base."""
    return decisions("Which base?", [
        ("that image", ("a base is prescribed", "your company has its own image")),
        ("oci:PATH", ("another tool makes the base", "or this machine reaches no registry")),
        ("python:X.Y-slim", ("the container needs a shell", "or apt, or a Python that Debian lacks")),
        ("python:X.Y-slim", ("no mirror of Debian", "can be reached from this machine")),
    ], ("debian:trixie", ("the smallest; without a shell",)))  # fmt: skip


def pipeline() -> str:
    """Return the diagram of the steps of a pipeline."""
    steps = [
        ("yellow", "checkout", "a commit; no cache is needed"),
        ("grey", "ask the registry", "which layers does it have already?"),
        ("grey", "make what is missing", "after an edit: one layer, some kilobytes"),
        ("blue", "check", "libraries, your command, size limit, secrets"),
        ("green", "push", "layers first, then manifests, tags last"),
        ("green", "attach", "SBOM, provenance, signature"),
    ]
    shapes: list[Box | Arrow] = []
    for number, (tone, title, line) in enumerate(steps):
        shapes.append(Box(90, 18 + 76 * number, 340, 54, tone, title, (line,)))
        shapes.append(down(260, 72 + 76 * number, 92 + 76 * number))
    y = 18 + 76 * len(steps)
    return diagram("A pipeline: from a commit to an image in a registry", y + 72, [
        *shapes, Box(90, y, 340, 54, "yellow", "deploy by digest", ("the job's output: name@sha256:...",)),
    ])  # fmt: skip


def sandbox() -> str:
    """Return the diagram of the sandbox's boundary."""
    return diagram("The boundary of the sandbox", 452, [
        Box(15, 15, 490, 422, "grey", "your machine", edge=True),
        Box(30, 52, 460, 56, "grey", "not visible in the sandbox",
            ("your files, variables, processes, keyring, logins",)),
        Box(30, 138, 140, 58, "yellow", "sdist", ("of the project",)),
        Box(190, 138, 140, 58, "yellow", "build.secrets", ("only those named",)),
        Box(350, 138, 140, 58, "yellow", "network, SSH", ("if options allow it",)),
        down(100, 196, 224), down(260, 196, 224), down(420, 196, 224),
        Box(30, 226, 460, 130, "green", "sandbox: namespaces of the kernel", edge=True),
        Box(50, 264, 130, 76, "plain", "root directory", ("read-only:", "Debian, compiler")),
        Box(195, 264, 130, 76, "plain", "build backend", ("your hooks run here", "without privileges")),
        Box(340, 264, 130, 76, "plain", "limits", ("time, memory, disk,", "system calls")),
        down(260, 340, 388),
        Box(140, 390, 240, 34, "blue", "your wheel: the only result"),
    ])  # fmt: skip


def cold() -> str:
    """Return the dependency graph of a first build."""
    return diagram("A first build: an arrow leads from a result to what needs it", 512, [
        Box(15, 18, 150, 52, "grey", "Debian's index", ("signature verified",)),
        Box(185, 18, 150, 52, "yellow", "lock, or uv", ("versions, hashes",)),
        Box(355, 18, 150, 52, "yellow", "your sources", ("sdist",)),
        down(90, 70, 100), down(260, 70, 188), down(430, 70, 276),
        Box(15, 102, 150, 52, "grey", "packages", ("of base and compiler",)),
        down(60, 154, 188), Arrow(((120, 154), (120, 172), (350, 172), (380, 276))),
        Box(15, 190, 150, 52, "blue", "base", ("Python and libraries",)),
        Box(185, 190, 150, 52, "green", "wheels", ("downloaded by hash",)),
        down(90, 242, 366), down(260, 242, 366),
        Box(355, 278, 150, 52, "grey", "builder stage", ("only if needed",)),
        down(430, 330, 366, "your wheel"),
        Box(15, 368, 150, 44, "blue", "base layer"),
        Box(185, 368, 150, 44, "green", "their layers"),
        Box(355, 368, 150, 44, "yellow", "your layer"),
        Arrow(((90, 412), (180, 450))), down(260, 412, 450), Arrow(((430, 412), (340, 450))),
        Box(120, 452, 280, 44, "plain", "image", ("checked, then archive, daemon, registry",)),
    ])  # fmt: skip


DIAGRAMS = {made.__name__: made for made in (flow, layers, engine, base, pipeline, sandbox, cold)}


def main() -> None:
    """Write all diagrams."""
    for name, make in DIAGRAMS.items():
        (DOCS / f"{name}.svg").write_text(make(), "utf-8")


if __name__ == "__main__":
    main()
