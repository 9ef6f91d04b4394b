"""Screenshots and checks of the site and of an image's report in Chromium, in two widths, in light and dark mode.

    python benchmarks/screenshots.py DIRECTORY [--pages index,options] [--report page.html]

Builds the site with mkdocs, writes `<page>-<width>-<light|dark>.png` for some pages, and checks all pages. Exits with 1
if a page can be scrolled horizontally, or if a text has a contrast below 4.5 : 1 (3 : 1 for large text; WCAG 2.2,
1.4.3). It needs chromium and chromedriver.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import http.server
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from selenium import webdriver

ROOT = Path(__file__).resolve().parent.parent
WIDTHS = (1280, 390)
SHOWN = ("index", "quickstart", "options", "troubleshooting", "how-it-works", "comparison")

# Returns the texts with a low contrast: [ratio, text, class, colours]. The background is blended from all parent
# elements; hidden texts are left out.
CONTRAST = """
const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
const rgba = color => {
  canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
  const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255];
};
const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
const luminance = ([r, g, b]) => {
  const part = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
};
const back = element => {
  const layers = [];
  for (let e = element; e; e = e.parentElement) layers.push(rgba(getComputedStyle(e).backgroundColor));
  return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
};
const opacity = element => element ? getComputedStyle(element).opacity * opacity(element.parentElement) : 1;
const found = {};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const text = walker.currentNode.data.trim(), element = walker.currentNode.parentElement;
  if (!text || !element.checkVisibility({checkOpacity: true, checkVisibilityCSS: true})) continue;
  const range = document.createRange(); range.selectNode(walker.currentNode);
  const box = range.getBoundingClientRect();
  if (box.width < 1 || box.height < 1 || element.closest('script, style, noscript, [aria-hidden=true]')) continue;
  const style = getComputedStyle(element), ground = back(element), color = rgba(style.color);
  if (style.color === 'rgba(0, 0, 0, 0)') continue;
  color[3] *= opacity(element);
  const lights = [luminance(over(color, ground)), luminance(ground)].sort((a, b) => b - a);
  const ratio = (lights[0] + 0.05) / (lights[1] + 0.05), size = parseFloat(style.fontSize);
  const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
  const least = large ? 3 : 4.5;
  const key = style.color + ' on ' + ground.map(Math.round).slice(0, 3);
  if (ratio < least - 0.005) found[key] = [Math.round(ratio * 100) / 100, text.slice(0, 40), element.className, key];
}
return Object.values(found);
"""
# Returns the elements that are wider than the screen, if the page can be scrolled horizontally.
WIDE = """
const page = document.scrollingElement;
if (page.scrollWidth <= innerWidth) return [];
return [...document.body.querySelectorAll('*')].filter(e => e.getBoundingClientRect().right > innerWidth + 1)
  .slice(0, 3).map(e => e.tagName + ' ' + e.className + ' ' + e.textContent.trim().slice(0, 30)).concat('page');
"""


@contextlib.contextmanager
def browser() -> Iterator[webdriver.Chrome]:
    """Run Chromium without a window."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "hide-scrollbars", "disable-dev-shm-usage"):
        options.add_argument(f"--{flag}")
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


class FileServer(http.server.SimpleHTTPRequestHandler):
    """A file server without a log."""

    def log_message(self, format: str, *_arguments: Any) -> None:  # noqa: A002 - the library's name
        del format


@contextlib.contextmanager
def serve(directory: Path) -> Iterator[str]:
    """Serve a directory on a local port; yield the URL."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(FileServer, directory=str(directory)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def open_page(driver: webdriver.Chrome, address: str, width: int, mode: str) -> None:
    """Open a page with a width, in light or dark mode."""
    features = [{"name": "prefers-color-scheme", "value": mode}, {"name": "prefers-reduced-motion", "value": "reduce"}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.get(address)
    driver.execute_script("localStorage.clear()")  # it has the mode of the page before
    driver.refresh()


def problems(driver: webdriver.Chrome) -> list[str]:
    """Return the problems of the open page."""
    found = [f"contrast {ratio} : 1: {text!r} ({kind}; {colours})"
             for ratio, text, kind, colours in driver.execute_script(CONTRAST)]  # fmt: skip
    wide = driver.execute_script(WIDE)
    return found + ([f"wider than the screen: {json.dumps(wide)}"] if wide else [])


def main() -> None:
    """Write the screenshots and print the problems."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--pages", help="pages for screenshots, separated by commas", default=",".join(SHOWN))
    parser.add_argument("--report", type=Path, help="a page of `hatch-docker inspect --html` to check too")
    options = parser.parse_args()
    options.directory.mkdir(parents=True, exist_ok=True)
    bad = 0
    with tempfile.TemporaryDirectory(prefix="site-") as directory, browser() as driver:
        site = Path(directory)
        command = [sys.executable, "-m", "mkdocs", "build", "-q", "--strict", "-d", directory]
        subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})
        if options.report:
            shutil.copy(options.report, site / "report.html")
        pages = {path.parent.name: path for path in sorted(site.glob("*/index.html"))} | {"index": site / "index.html"}
        pages |= {"report": site / "report.html"} if options.report else {}
        with serve(site) as address:
            for name, path in pages.items():
                for width in WIDTHS:
                    for mode in ("light", "dark"):
                        open_page(driver, f"{address}/{path.relative_to(site)}", width, mode)
                        for problem in problems(driver):
                            bad += 1
                            print(f"{name}, {width}, {mode}: {problem}", flush=True)
                        if name in {*options.pages.split(","), "report"}:
                            driver.save_screenshot(str(options.directory / f"{name}-{width}-{mode}.png"))
    print(f"{len(pages)} pages, {bad} problems")
    raise SystemExit(bool(bad))


if __name__ == "__main__":
    main()
