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

from benchmarks.charts import curve_chart, histogram_chart, interval_mark
from benchmarks.record import Run, section
from benchmarks.run import main
from benchmarks.tables import cell, markdown
from patchclip.synthetic import Surface, sample_defective

_VOID = {"meta", "img", "br", "rect", "line", "circle", "polyline"}

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


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, local_model: str, surface: Surface) -> Path:
    """The report of a small run: names that need escaping, a course layout beside, latency and remarks."""
    folder = tmp_path_factory.mktemp("report")
    rng, size_hw = np.random.default_rng(0), (72, 96)
    for root, parts in (
        (folder / "a & b <i>", ("train/good", "test/good")),
        (folder / "course", ("train/one", "test/normal")),
    ):
        for index in range(8):
            path = root / parts[index >= 4] / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(surface.photograph(surface.render(index, size_hw), index)).save(path)
    for index, kind in enumerate(("hole", "stain") * 3):
        image, mask, _ = sample_defective(surface, 50 + index, rng, kind=kind, size_hw=size_hw)
        root = folder / "a & b <i>"
        for path, values in (
            (root / "test" / kind / f"{index}.png", image),
            (root / "ground_truth" / kind / f"{index}_mask.png", mask),
            (folder / "course" / "test" / "anomaly" / f"{index}.png", image),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(path)
    (folder / "a & b <i>" / "test" / "good" / "notes.txt").write_text("x")
    arguments = ["--data", str(folder / "a & b <i>"), "--data", str(folder / "course"), "--model", local_model]
    main([*arguments, "--precision", "fp32", "--shots", "0", "2", "--seeds", "2", "--latency", "0.001",
          "--out", str(folder / "out")])  # fmt: skip
    return folder / "out" / "report.html"


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
    # best, median and worst of both classes; the methods without a heatmap have one picture each
    assert len(found.pictures) == 6 * 6 * 2 + 6 * 6 * 2 + 2 * 6
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
    rows = json.loads((page.parent / "metrics.json").read_text())["summary"]
    content = page.read_text(encoding="utf-8")
    for row in rows:
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
    assert found["images"] == 132
    assert found["charts"] >= 2 + 5 + 1 + 7
    subprocess.run(
        [browser, *options, f"--screenshot={shot}", page.as_uri()], capture_output=True, timeout=120, check=True
    )
    with Image.open(shot) as picture:
        colours = np.asarray(picture.convert("RGB"))
    assert colours.shape == (2000, 1300, 3)
    assert len(np.unique(colours.reshape(-1, 3), axis=0)) > 500  # pictures and charts, not a blank page


# --- charts and tables --------------------------------------------------------------------------------------------


def test_a_curve_ends_at_the_limit() -> None:
    """From (0, 0) by (0.2, 0.5) to (1, 1): at 0.3 it stands at 0.5625; the field is 250 x 204 from (40, 10)."""
    chart = curve_chart({"m": ([0, 0.2, 1], [0, 0.5, 1])}, {"m": "#123456"}, x_title="x", y_title="y", x_limit=0.3)
    points = re.search(r'<polyline points="([^"]*)" class="curve" stroke="#123456"><title>m</title>', chart)
    assert points is not None
    assert points[1] == "40.0,214.0 206.7,112.0 290.0,99.2"


def test_a_histogram_counts_every_image() -> None:
    chart = histogram_chart([0.1, 0.1, 0.3], [0.3, 0.9], 0.5)
    counts = [(int(n), name) for n, name in re.findall(r"<title>(\d+) (normal|anomalous)", chart)]
    assert sum(n for n, name in counts if name == "normal") == 3
    assert sum(n for n, name in counts if name == "anomalous") == 2
    assert "threshold 0.5" in chart
    assert "<svg" in histogram_chart([0.5, 0.5], [], None)  # no spread, one class, no threshold


def test_an_interval_lies_on_its_line() -> None:
    mark = interval_mark(0.7, 0.5, 1.0, "#000", start=0.4)
    assert 'x1="21.0" x2="106.0"' in mark
    assert 'cx="55.0"' in mark


def test_tables() -> None:
    assert markdown(["a", "bb"], [["1", "2"]]) == "| a | bb |\n|---|----|\n| 1 | 2  |"
    value = {"mean": 0.8124, "sd": 0.01, "low": 0.77, "high": 0.85}
    assert cell(value) == "0.812"
    assert cell(value, full=True) == "0.812 ± 0.010 [0.770, 0.850]"
    assert cell(value | {"sd": None}, full=True) == "0.812 [0.770, 0.850]"
    assert cell(None) == "–"


def test_a_section_of_the_record(page: Path) -> None:
    content = json.loads((page.parent / "metrics.json").read_text())
    text = section(Run("x", "A title", ("--data", "../sets/a b", "--shots", "4")), content)
    assert text.startswith("## A title\n\n```\npython benchmarks/run.py --data '../sets/a b' --shots 4\n```\n\nmodel ")
    assert text.count("\n| method") == 1  # the latency table; the summary has a column of data before
    assert "| data " in text
    assert "| ms at batch 1 |" in text
    assert text.endswith("are not images and are left out, such as notes.txt")
    course = content | {"data": content["data"][1:]}
    assert "points against the better baseline" in section(Run("x", "A title", ()), course)
