"""report.html: complete, self-contained, and shown by a real browser where there is one."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .conftest import RUN_METHODS
from .runs import read_metrics

_VOID = {"meta", "img", "br", "rect", "line", "circle", "polyline"}

#: Best, median and worst of both classes, on two data sets; two methods have no heatmap beside the image.
PICTURES = 2 * 6 * (8 * 2 + 2)

#: Reports what a person would miss, in the page's title.
_PROBE = """<script>
window.onerror = message => { document.title = "error " + message; };
window.addEventListener("load", () => {
  const broken = [...document.images].filter(image => !image.complete || image.naturalWidth === 0).length;
  const flat = [...document.querySelectorAll("svg")].filter(svg => svg.closest("details:not([open])") === null
    && svg.getBoundingClientRect().width < 20).length;
  const wide = document.documentElement.scrollWidth > window.innerWidth ? 1 : 0;
  document.title = JSON.stringify({images: document.images.length, broken, flat, wide,
    charts: document.querySelectorAll("figure svg").length, rows: document.querySelectorAll("table tr").length});
});
</script>"""


@pytest.fixture
def page(whole_run: Path) -> Path:
    return whole_run / "report.html"


class Structure(HTMLParser):
    """Tags that do not close, addresses outside the page, pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []
        self.pictures: list[str] = []
        self.outside: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name in ("src", "href", "data") and value:
                if value.startswith("data:image/jpeg;base64,"):
                    self.pictures.append(value.partition(",")[2])
                elif not value.startswith("#"):
                    self.outside.append(value)
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID and (not self.open or self.open.pop() != tag):
            self.faults.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_is_sound_and_self_contained(page: Path) -> None:
    content = page.read_text(encoding="utf-8")
    found = Structure()
    found.feed(content)
    assert (found.faults, found.open, found.outside) == ([], [], [])
    assert "http" not in content.replace("https://", "http") or "://" not in content
    for picture in found.pictures:
        with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
            assert image.format == "JPEG"
            assert max(image.size) == 256
    assert len(found.pictures) == PICTURES
    text = " ".join(" ".join(found.text).split())
    for expected in (
        "a & b <i>",
        "1 files are not images and are left out, such as notes.txt",
        "Image AUROC by kind of defect",
        "course, course-fewshot, training",
        "Latency",
        "best hole",
        "worst normal",
    ):
        assert expected in text
    assert "nan" not in re.sub(r"data:image[^\"]*", "", content).lower()


def test_the_page_is_what_the_figures_say(page: Path) -> None:
    content = page.read_text(encoding="utf-8")
    for row in read_metrics(page.parent)["summary"]:
        assert f">{row['image_auroc']['mean']:.3f}" in content
        assert f"{row['image_auroc']['low']:.3f} to {row['image_auroc']['high']:.3f}" in content


def test_a_browser_shows_it(page: Path, tmp_path: Path) -> None:
    """Headless Chromium where there is one: every picture and chart is drawn, nothing sticks out, no error."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:  # what a browser would choke on, as far as it can be told without one
        content = page.read_text(encoding="utf-8")
        assert content.startswith("<!DOCTYPE html>")
        assert content.count("<svg ") == content.count("</svg>") > 10
        assert all(float(x) >= 0 for x in re.findall(r'(?:width|height)="(-?[\d.]+)"', content))
        return
    probed = tmp_path / "probed.html"
    probed.write_text(page.read_text(encoding="utf-8").replace("</head>", _PROBE + "</head>"), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    options += ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"]
    options += [f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1300,2000"]
    shot = tmp_path / "shot.png"
    done = subprocess.run(
        [browser, *options, "--dump-dom", probed.as_uri()], capture_output=True, text=True, timeout=120
    )
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.S)
    assert title is not None, done.stderr[-2000:]
    found = json.loads(title[1])
    assert (found["broken"], found["flat"], found["wide"]) == (0, 0, 0)
    assert found["images"] == PICTURES
    assert found["charts"] == (2 + len(RUN_METHODS)) + (1 + len(RUN_METHODS))  # curves, and a histogram of each method
    subprocess.run(
        [browser, *options, f"--screenshot={shot}", page.as_uri()], capture_output=True, timeout=120, check=True
    )
    with Image.open(shot) as picture:
        colours = np.asarray(picture.convert("RGB"))
    assert colours.shape == (2000, 1300, 3)
    assert len(np.unique(colours.reshape(-1, 3), axis=0)) > 500  # pictures and charts, not a blank page
