"""A page is one sound HTML file that needs nothing else, and the same as Markdown."""

from base64 import b64decode
from html.parser import HTMLParser

import pytest
from scipy import stats

from supermask.report.intervals import share
from supermask.report.page import Fact, Page, Section, Table
from supermask.report.rows import Bar, rows_figure

PNG = b"\x89PNG of a figure"
VOID = {"meta", "img", "br", "hr", "link", "input"}
NASTY = "<script>alert('1 & 2')</script> | `x` *y*"
PAGE = Page(
    NASTY,
    [
        Section(
            "First: a part",
            f"One.\n\nTwo, {NASTY}.",
            [NASTY, "a point"],
            Table(["name", "n"], [[NASTY, "1,000"], ["b", "2"]]),
            PNG,
            'bars "high" & low',
            "supermask judge a.ticket --out '<x>'",
        ),
        Section("Empty"),
    ],
    [Fact("Verdict", NASTY, "yes"), Fact("Plain", "text")],
    [Fact("Commit", "abc")],
)


class Read(HTMLParser):
    """The text of each element, its attributes, and whether tags close in the order in which they open."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.text = [], [], ""
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data if self.open and self.open[-1] != "style" else ""

    def named(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def test_the_html_is_well_formed_and_escapes_all_text():
    found = Read(PAGE.html())
    assert not found.named("script")
    assert found.text.count(NASTY) == 6  # the title twice; text, point, cell and fact
    assert [cell for cell in ("1,000", "One.", "a point", "supermask judge a.ticket --out '<x>'") if cell in found.text]
    (image,) = found.named("img")
    assert image["alt"] == 'bars "high" & low'
    assert b64decode(image["src"].split("base64,")[1]) == PNG


def test_the_html_loads_nothing():
    html = PAGE.html()
    assert "http" not in html
    assert "url(" not in html
    assert "@import" not in html
    found = Read(html)
    assert not found.named("link")
    assert all(each["src"].startswith("data:") for each in found.named("img"))


def test_a_phone_and_dark_mode_are_thought_of():
    html, found = PAGE.html(), Read(PAGE.html())
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in found.named("meta")
    assert "prefers-color-scheme: dark" in html
    boxes = [place for place, (tag, each) in enumerate(found.tags) if each.get("class") == "scroll"]
    assert [found.tags[place + 1][0] for place in boxes] == ["table"]


def test_the_markdown_shows_the_same_with_its_figures_beside_it():
    text = PAGE.markdown()
    assert text.startswith("# \\<script>alert('1 & 2')\\</script> | \\`x\\` \\*y\\*\n")
    assert '![bars "high" & low](first-a-part.png)' in text
    assert PAGE.figures() == {"first-a-part.png": PNG}
    assert "- Verdict: **yes**: " in text
    (row,) = [line for line in text.splitlines() if line.startswith("|") and "1,000" in line]
    assert row.count("|") - row.count("\\|") == 3  # the bar in the text does not make a column
    assert "```bash\nsupermask judge a.ticket --out '<x>'\n```" in text
    assert "## Empty\n" in text


def test_a_figure_may_be_a_file(tmp_path):
    path = tmp_path / "figure.png"
    path.write_bytes(PNG)
    assert Page("a", [Section("b", figure=path)]).figures() == {"b.png": PNG}


@pytest.mark.parametrize(("count", "total"), [(0, 10), (10, 10), (350, 360), (9939, 10_000), (1, 2)])
def test_the_interval_of_a_share_is_wilsons(count, total):
    found = share(count, total)
    wanted = stats.binomtest(count, total).proportion_ci(0.95, method="wilson")
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))
    assert 0.0 <= found.low <= found.value <= found.high <= 1.0


def test_no_examples_say_nothing():
    found = share(0, 0)
    assert (found.low, found.high, found.total) == (0.0, 1.0, 0)
    assert share(350, 360).percent() == "97.22 % (94.96 to 98.48)"


def test_rows_of_bars_are_a_png_with_and_without_intervals():
    for bar in (Bar(50.0, 40.0, 60.0), Bar(50.0, 50.0, 50.0)):
        assert rows_figure({"a": {"x": bar}, "b": {"x": bar}}, "per cent").startswith(b"\x89PNG\r\n")
