"""The report's page: self-contained, safe for any data, valid for a browser."""

import io
import re
import shutil
import subprocess
from base64 import b64decode
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from fsdbev.report.charts import ErrorKind, class_curves, error_histograms, score_charts
from fsdbev.report.page import (
    Card,
    Cards,
    Cell,
    Chart,
    Fact,
    Headline,
    Page,
    Section,
    Table,
    jpeg_address,
    render_page,
)

EVIL = "<script>alert('x')</script>\" onload=\"y&z"
VOID = {"meta", "input", "img"}


class Reader(HTMLParser):
    """Collects tags, attributes and texts; checks that elements are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.texts = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        self.texts.append(data)


def draw_charts():
    recall = np.linspace(0, 1, 101)
    curves = np.stack([1 - recall, 0 * recall])
    kinds = [
        ErrorKind("translation", "m", np.array([0.1, 0.5, 9.0]), 2.0),
        ErrorKind("scale", "", np.zeros(0), 1.0),
    ]
    return [
        class_curves(["car", "bus & <coach>"], recall, curves, curves, ["AP 0.5", "none"]),
        error_histograms(kinds),
        score_charts(np.arange(20), np.arange(20)[::-1] * 100, 0.25),
        score_charts(np.zeros(20, int), np.zeros(20, int), 0.0),
    ]


@pytest.fixture(scope="module")
def charts():
    return draw_charts()


@pytest.fixture(scope="module")
def page(charts):
    picture = jpeg_address(np.full((40, 60, 3), 90, np.uint8))
    table = Table(EVIL, ["a", EVIL], [[Cell(EVIL), Cell("0.5", 0.5)], [Cell("b"), Cell(EVIL)]])
    sections = [
        Section("one", EVIL, [EVIL], [table, *(Chart(svg, EVIL) for svg in charts)]),
        Section("two", "Two", [], [Cards(EVIL, [Card(EVIL, EVIL, [EVIL], picture)])]),
    ]
    return render_page(Page(EVIL, [Fact(EVIL, EVIL)], [Headline(EVIL, EVIL, EVIL, True)], sections))


def test_every_element_is_closed_and_every_section_is_in_the_contents(page):
    reader = Reader(page)
    assert reader.tags.count("section") == 2 and reader.tags.count("svg") == 4
    links = {value for name, value in reader.attributes if name == "href"}
    anchors = {f"#{value}" for name, value in reader.attributes if name == "id"}
    assert {"#top", "#one", "#two"} <= links <= anchors


def test_data_stays_text(page):
    reader = Reader(page)
    assert "script" not in reader.tags
    assert not [name for name, _ in reader.attributes if name.startswith("on")]
    assert "".join(reader.texts).count(EVIL) >= 10


def test_nothing_is_loaded_from_elsewhere(page):
    assert not re.search(r"https?:|//[a-z]|@import|<link|<script|<iframe", page)
    sources = [v for name, v in Reader(page).attributes if name in ("src", "xlink:href")]
    assert sources and all(s.startswith(("data:image/jpeg;base64,", "#")) for s in sources)
    assert "default-src 'none'" in page


def test_identifiers_are_not_repeated_within_the_page(page):
    anchors = [v for name, v in Reader(page).attributes if name == "id" and not v.startswith("m")]
    assert len(set(anchors)) > 3
    # Charts with equal parts share identifiers that are hashes of the content.
    repeated = {a for a in anchors if anchors.count(a) > 1}
    assert all(re.fullmatch(r"[a-z][0-9a-f]{8,}", a) for a in repeated)


def test_charts_have_the_colours_of_the_page_and_are_deterministic(charts):
    for svg in charts:
        assert "var(--ink)" in svg and "#0a0a0" not in svg
        assert "<metadata" not in svg and "font-family" not in svg
    assert charts == draw_charts()


def test_a_large_picture_is_resized():
    wide = jpeg_address(np.zeros((1000, 4000, 3), np.uint8))
    image = Image.open(io.BytesIO(b64decode(wide.partition(",")[2])))
    assert image.format == "JPEG" and image.size == (1800, 450)


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)


@pytest.mark.skipif(BROWSER is None, reason="needs a headless Chromium")
def test_a_browser_shows_it(page, tmp_path):
    file, picture = tmp_path / "report.html", tmp_path / "picture.png"
    file.write_text(page)
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--screenshot={picture}"]
    command = [BROWSER, *options, f"--user-data-dir={tmp_path / 'user'}", file.as_uri()]
    subprocess.run(command, capture_output=True, timeout=120, check=True)
    assert np.asarray(Image.open(picture).convert("L")).std() > 1
