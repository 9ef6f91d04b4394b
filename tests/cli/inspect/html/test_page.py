"""The page of `hatch-docker inspect --html` in a browser: keyboard, mouse, colours, accessibility, security policy."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hatchling.builders.wheel import WheelBuilder
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from hatch_docker.build.receipt import receipt_from_image
from hatch_docker.cli.inspect.html.page import MAX_FILES, STEPS, short_size, tree
from hatch_docker.cli.inspect.reader import read_contents
from hatch_docker.cli.main import main
from hatch_docker.oci.model import Image
from tests.conftest import need
from tests.fakes.bases import file
from tests.fakes.images import layer_of
from tests.fakes.inspected_images import (
    EVIL,
    dist,
    foreign_image,
    project_image,
    with_valid_config,
    write_image_archive,
)

pytestmark = pytest.mark.usefixtures("own_cache")

ROOT = Path(__file__).parent.parent.parent.parent.parent
MODULES = {f"core/{name}.py": 3000 * (9 - number) for number, name in enumerate("abcdefgh")}


def example() -> Image:
    """Return an image of hatch-docker: a base, a large wheel with directories, the project."""
    wheels = [
        *dist("big", "2.0", {f"big/{name}": size for name, size in MODULES.items()} | {"big/lib.so": 90_000}),
        *dist("small", "1", {"small.py": 4000}, "Requires-Dist: big"),
    ]
    image = project_image(wheels, dist("my_app", "1", {"app.py": 700}, "Requires-Dist: small"), User="65532")
    return with_valid_config(image, created="2024-01-01T00:00:00Z")


def write_page(image: Image, directory: Path, receipt: dict[str, Any] | None = None) -> Path:
    """Write an image to an archive, optionally with a receipt, and its page; return the path of the page."""
    archive = write_image_archive(image, directory)
    if receipt is not None:
        value = json.loads(receipt_from_image(image, archive.name, "app", ["1"]).to_json())
        for layer, cached in zip(value["platforms"][0]["layers"], (True, False, False), strict=True):
            layer["cached"] = cached
        (directory / "app.image.json").write_text(json.dumps(value | receipt))
    path = directory / "page.html"
    assert main(["inspect", str(archive), "--html", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = need("chromium")
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "disable-background-networking",
                 "disable-component-update", "disable-sync", "no-first-run"):  # fmt: skip
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(need("chromedriver")))
    yield driver
    driver.quit()


class Page:
    """A page in the browser. `leave` checks its log and its requests."""

    def __init__(self, browser: webdriver.Chrome, path: Path, *, width: int = 1280, dark: bool = False) -> None:
        self.browser = browser
        browser.get_log("performance")
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        calm = {"name": "prefers-reduced-motion", "value": "reduce"}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme, calm]})
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
            "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500,
        })  # fmt: skip
        self.url = path.resolve().as_uri()
        browser.get(self.url)

    def js(self, code: str) -> Any:
        return self.browser.execute_script(f"return {code}")

    def press(self, *keys: str) -> str:
        """Press keys; return the label of the focused element."""
        for key in keys:
            ActionChains(self.browser).send_keys(key).perform()
        return str(self.js("document.activeElement.getAttribute('aria-label')"))

    def enter(self) -> str:
        """Press Tab until the map has the focus; return the label of the focused tile."""
        for _ in range(20):
            label = self.press(Keys.TAB)
            if self.js("document.activeElement.getAttribute('role')") == "treeitem":
                return label
        raise AssertionError("the map cannot be reached with Tab")

    def tiles(self) -> list[dict[str, Any]]:
        """Return label, position and size of each tile."""
        found: list[dict[str, Any]] = self.js(
            "[...document.querySelectorAll('#map > .stage > .tile')].map(e => ({label: e.getAttribute('aria-label'),"
            " x: e.offsetLeft, y: e.offsetTop, w: e.offsetWidth, h: e.offsetHeight}))"
        )
        return found

    def leave(self) -> None:
        """Check that the page logged nothing and sent no requests."""
        assert self.browser.get_log("browser") == []
        messages = [json.loads(line["message"])["message"] for line in self.browser.get_log("performance")]
        requests = [message["params"] for message in messages if message["method"] == "Network.requestWillBeSent"]
        urls = [sent["request"]["url"] for sent in requests]
        assert {url for url in urls if not url.startswith("data:")} == {self.url}


@pytest.fixture
def page(browser: webdriver.Chrome, tmp_path: Path) -> Iterator[Page]:
    """Open the page of the example image."""
    page = Page(browser, write_page(example(), tmp_path))
    yield page
    page.leave()


@pytest.mark.engine
def test_map_with_keyboard(page: Page) -> None:
    """Tab enters and leaves the map, arrows move, Enter and Space open a tile, Escape and Backspace close it."""
    first = page.enter()
    assert first.startswith("2: dependencies, web 2, ")
    assert "% of registry.example/hatch-docker-tests/inspect:1.0" in first
    other = page.press(Keys.ARROW_RIGHT)
    assert other != first
    assert page.press(Keys.ARROW_LEFT) == first
    assert page.press(Keys.END) != first
    assert page.press(Keys.HOME) == first
    inner = page.press(Keys.ENTER)
    assert re.fullmatch(r"big 2.0, 2\d\d kB, 11 files, \d\d % of 2: dependencies, web 2", inner)
    assert page.js("document.getElementById('status').textContent").startswith("2: dependencies, web 2, ")
    assert page.js("[...document.querySelectorAll('#crumbs li')].length") == 2
    library = page.press(Keys.SPACE)
    assert library.startswith("/opt/venv/lib/python3.13/site-packages/big/core/, 132 kB, 8 files, ")
    assert page.press(Keys.ENTER).startswith("/opt/venv/lib/python3.13/site-packages/big/core/a.py, 27.0 kB, ")
    assert page.press(Keys.ENTER).startswith("/opt/venv/lib/python3.13/site-packages/big/core/a.py")  # it is a file
    assert page.press(Keys.ESCAPE) == library
    assert page.press(Keys.BACKSPACE) == inner
    assert page.press(Keys.ESCAPE) == first
    assert page.press(Keys.ESCAPE) == first
    assert page.js("document.activeElement.matches(':focus-visible')")
    assert float(page.js("getComputedStyle(document.activeElement).outlineWidth").removesuffix("px")) >= 3
    page.press(Keys.TAB)
    assert page.js("document.activeElement.closest('#map')") is None


@pytest.mark.engine
def test_map_with_mouse(browser: webdriver.Chrome, page: Page) -> None:
    """A click opens a tile, the path above the map closes it. A click on a package in the table opens it in the map."""
    page.js("document.querySelector('#map .tile .tile').click()")
    assert page.js("document.querySelector('[aria-current]').textContent") == "2: dependencies, web 2"
    page.js("document.querySelector('#crumbs button').click()")
    assert page.js("document.querySelector('[aria-current]').textContent").endswith("inspect:1.0")
    tile = browser.find_element("css selector", "#map .tile .tile")
    ActionChains(browser).move_to_element(tile).perform()
    assert page.js("document.getElementById('detail').textContent").startswith("big 2.0, ")
    page.js("[...document.querySelectorAll('#packages button')].find(e => e.textContent === 'small').click()")
    assert page.js("document.querySelector('[aria-current]').textContent") == "small 1"


@pytest.mark.engine
def test_package_table_is_sorted_and_filtered(browser: webdriver.Chrome, page: Page) -> None:
    """At first by size; a click on a column title sorts by that column."""
    rows = "[...document.querySelectorAll('#packages tbody tr')].filter(r => !r.hidden)"
    names = f"{rows}.map(r => r.cells[0].textContent)"
    assert page.js(names)[:2] == ["big", "small"]
    page.js("document.querySelector('#packages th button').click()")
    assert page.js(names) == sorted(page.js(names))
    assert page.js("document.querySelector('#packages th').getAttribute('aria-sort')") == "ascending"
    page.js("document.querySelector('#packages th button').click()")
    assert page.js(names) == sorted(page.js(names), reverse=True)
    browser.find_element("id", "filter").send_keys("python sma")
    assert page.js(names) == ["small"]
    assert page.js("document.getElementById('found').textContent").startswith("1 of ")


@pytest.mark.engine
def test_tiles_fill_the_map_in_proportion_to_sizes(page: Page) -> None:
    """They do not overlap."""
    tiles = page.tiles()
    width, height = page.js("[document.getElementById('map').clientWidth, document.getElementById('map').clientHeight]")
    assert len(tiles) == 3
    assert sum(tile["w"] * tile["h"] for tile in tiles) == pytest.approx(width * height, rel=0.02)
    for number, tile in enumerate(tiles):
        assert 0 <= tile["x"] <= tile["x"] + tile["w"] <= width + 1
        assert 0 <= tile["y"] <= tile["y"] + tile["h"] <= height + 1
        for other in tiles[number + 1 :]:
            across = min(tile["x"] + tile["w"], other["x"] + other["w"]) - max(tile["x"], other["x"])
            down = min(tile["y"] + tile["h"], other["y"] + other["h"]) - max(tile["y"], other["y"])
            assert across <= 1 or down <= 1
    contents = read_contents(example())
    largest = max(layer.unpacked_size for layer in contents.layers)
    assert tiles[0]["w"] * tiles[0]["h"] / (width * height) == pytest.approx(largest / contents.unpacked_size, rel=0.03)


@pytest.mark.engine
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_colours_have_contrast_of_wcag_aa(dark: bool, browser: webdriver.Chrome, tmp_path: Path) -> None:
    """All texts, including labels of tiles, in the light and the dark scheme."""
    page = Page(browser, write_page(example(), tmp_path), dark=dark)
    luminance = """
      const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
      const light = colour => { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
        const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map(
          v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
        return .2126 * r + .7152 * g + .0722 * b; };
      const style = getComputedStyle(document.documentElement);
      const of = name => light(style.getPropertyValue("--" + name).trim());
      const ratio = (a, b) => (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    """
    paper = browser.execute_script(f"{luminance} return of('paper')")
    assert (paper < 0.05) is dark
    kinds = ("base", "system", "dependencies", "project", "files", "other", "removed", "headers")
    ratios: dict[str, float] = browser.execute_script(f"""{luminance}
      return Object.fromEntries([...{json.dumps(kinds)}.map(k => ["ink on " + k, ratio(of("ink"), of(k))]),
        ...["ink", "muted", "accent"].map(k => [k + " on paper", ratio(of(k), of("paper"))]),
        ["focus", ratio(of("focus"), of("paper"))]]);""")
    assert {name: value for name, value in ratios.items() if value < 4.5} == {}
    page.leave()


@pytest.mark.engine
def test_page_fits_a_screen_of_360_pixels(browser: webdriver.Chrome, tmp_path: Path) -> None:
    page = Page(browser, write_page(example(), tmp_path, {"timings": {"build": 1.5, "archive": 0.5}}), width=360)
    assert page.js("document.documentElement.scrollWidth") == 360
    assert page.js("[...document.querySelectorAll('.headline strong')].every(e => e.getClientRects().length === 1)")
    assert page.js("[...document.querySelectorAll('.scroll')].every(e => e.scrollWidth <= e.clientWidth + 1)")
    tiles = page.tiles()
    assert len(tiles) == 3
    assert all(tile["x"] + tile["w"] <= 360 for tile in tiles)
    page.leave()


@pytest.mark.engine
def test_accessibility_tree_has_names_and_roles(browser: webdriver.Chrome, page: Page) -> None:
    """The map is a tree with named items; tables have headings and row headers."""
    nodes = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    found = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]
    assert ("tree", "Treemap: the larger a tile, the more it weighs") in found
    items = [name for role, name in found if role == "treeitem"]
    assert len(items) == 3
    assert all(re.search(r", [\d.]+ (MB|kB|bytes), (\d+ files, )?[\d.]+ % of ", name) for name in items)
    assert [name for role, name in found if role == "heading"][:3] == [
        "registry.example/hatch-docker-tests/inspect:1.0", "What it is made of", "What is in it",
    ]  # fmt: skip
    assert ("rowheader", "big") in found
    assert ("searchbox", "Search") in found
    assert any("a layer is a tar archive" in name for _, name in found)
    assert not [role for role, name in found if role in ("button", "link", "searchbox") and not name]


@pytest.mark.engine
def test_html_and_scripts_in_names_are_escaped(browser: webdriver.Chrome, tmp_path: Path) -> None:
    """Names of files, packages, commands, labels and the image."""
    evil = EVIL.replace("alert(1)", "document.title='owned'")
    package = dist("e'\"><img src=x onerror=document.title='owned'>", "1", {})
    image = foreign_image(
        layer_of([file(f"srv/{evil}", bytes(99999)), *package]),
        commands=[f"RUN {evil}"], Labels={"org.opencontainers.image.title": evil, evil: evil}, User=evil, Cmd=[evil],
    )  # fmt: skip
    path = write_page(image, tmp_path)
    text = path.read_text()
    assert text.count("<script") == 2
    assert text.count("<img") == 0
    assert "\x1b" not in text
    assert "\u202e" not in text
    page = Page(browser, path)
    assert page.js("document.title") != "owned"
    page.enter()
    page.press(Keys.ENTER, Keys.ENTER)
    assert page.js("document.querySelectorAll('img, script').length") == 2
    assert "<script>document.title='owned'</script>" in page.js("document.body.textContent")
    page.leave()


@pytest.mark.engine
def test_page_without_javascript_shows_tables(browser: webdriver.Chrome, tmp_path: Path) -> None:
    """The map and the search field are hidden."""
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page = Page(browser, write_page(example(), tmp_path))
        assert "big" in browser.find_element("id", "packages").text
        assert not browser.find_element("id", "map-section").is_displayed()
        assert not browser.find_element("id", "filter").is_displayed()
        page.leave()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_security_policy_allows_inline_hashes_only(tmp_path: Path) -> None:
    """The page has no links."""
    text = write_page(example(), tmp_path).read_text()
    assert not re.search(r"https?://|src=|@import|url\(", text)
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', text)
    assert re.fullmatch(
        r"default-src 'none'; script-src 'sha256-[\w+/]{43}='; style-src 'sha256-[\w+/]{43}='; img-src data:; "
        r"base-uri 'none'; form-action 'none'", policy,
    )  # fmt: skip


def test_page_is_reproducible_in_any_directory(tmp_path: Path) -> None:
    receipt = {"timings": {"build": 1.5}}
    first, second = (write_page(example(), tmp_path / name, receipt) for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


def test_receipt_adds_times_and_new_layers_to_the_page(tmp_path: Path) -> None:
    steps = [
        {"title": "layer of a", "seconds": 1.1, "within": "unpacking <b>"}, {"title": "unpacking <b>", "seconds": 1.25},
        {"title": "writing app.oci.tar", "seconds": 0.4},
    ]
    path = write_page(example(), tmp_path, {"timings": {"build": 1.5, "archive": 0.5}, "steps": steps})
    text = path.read_text()
    table = text[text.index('id="timeline"'):]
    assert re.findall(r'row"(?: class="(part-\d)")?>([^<]+)<.*?>([0-9.]+ s)<', table, re.DOTALL) == [
        ("", "make the layers", "1.50 s"), ("part-1", "unpacking &lt;b&gt;", "1.25 s"),
        ("part-2", "layer of a", "1.10 s"),
        ("", "write the archive", "0.50 s"), ("part-1", "writing app.oci.tar", "0.40 s"),
    ]
    assert "<p>2.00 s; 2 of 3 layers had to be made.</p>" in text
    assert "make the layers" in text
    assert re.findall("<td>(made|reused)</td>", text) == ["reused", "made", "made"]
    (tmp_path / "app.image.json").unlink()
    text = write_page(example(), tmp_path).read_text()
    assert "had to be made" not in text
    assert "this build" not in text


def test_all_timed_steps_of_the_pipeline_have_titles() -> None:
    timed = set(re.findall(r'_timed\(timings, "(\w+)"\)', (ROOT / "hatch_docker/build/pipeline.py").read_text("utf-8")))
    assert len(timed) > 5
    assert timed == set(STEPS)


def test_tree_of_many_files_joins_small_files() -> None:
    """The sizes of child nodes add up to the size of their parent."""
    image = foreign_image(layer_of([file(f"srv/{n % 7}/{n % 300}/{n}", b"x" * (n % 50 + 1)) for n in range(15_000)]))
    contents = read_contents(image)
    whole = tree("x", contents)

    def check(node: dict[str, Any]) -> int:
        children = node.get("c", [])
        if children:
            assert sum(child["s"] for child in children) == node["s"]
            assert [child["s"] for child in children] == sorted((child["s"] for child in children), reverse=True)
            assert len(children) <= 202
        return sum(check(child) for child in children) + 1

    assert check(whole) < MAX_FILES * 1.5
    assert whole["s"] == contents.unpacked_size
    assert whole["f"] == 15_000
    assert len(json.dumps(whole)) < 1_500_000


def test_tree_of_deep_directories() -> None:
    paths = ["/".join(["d"] * depth + ["f"]) for depth in range(1, 250)]
    contents = read_contents(foreign_image(layer_of([file(path, bytes(100)) for path in paths])))
    assert json.loads(json.dumps(tree("x", contents)))["f"] == 249


@pytest.mark.parametrize(("size", "words"), [
    (0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (1000, "1.00 kB"), (99_328, "99.3 kB"), (78_727_680, "78.7 MB"),
    (999_600, "1.00 MB"), (916_999_999, "917 MB"), (9_994_999, "9.99 MB"), (2_500_000_000, "2.50 GB"),
])  # fmt: skip
def test_short_size_has_three_digits(size: int, words: str) -> None:
    assert short_size(size) == words


def test_wheel_contains_page_files_and_schema() -> None:
    names = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    assert {f"hatch_docker/cli/inspect/html/page.{end}" for end in ("html", "css", "js")} < {*names}
    assert "hatch_docker/config/schema.json" in names
