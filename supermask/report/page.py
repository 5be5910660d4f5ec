"""A page of sections: one HTML file that needs nothing else, and the same as Markdown."""

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Literal

from supermask.report.page_style import STYLE
from supermask.report.table import table
from supermask.shown import printable


@dataclass(frozen=True)
class Fact:
    """A line of the box at the top of a page.

    Attributes:
        name: what it is about.
        text: what is known.
        mark: a word that stands out before the text, e.g. "yes" or "no"; empty for none.

    """

    name: str
    text: str
    mark: str = ""


@dataclass(frozen=True)
class Table:
    """The table of a section.

    Attributes:
        header: of each column.
        rows: of cells, as many in each as the header has.
        kind: "numbers" are aligned to the right in all columns but the first; "prose" is a second column of text,
            which is broken into lines.

    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    kind: Literal["numbers", "prose"] = "numbers"


@dataclass(frozen=True)
class Section:
    """A part of a page. What is empty is left out.

    Attributes:
        title: of the section.
        text: plain, with empty lines between its paragraphs.
        points: lines of a list after it.
        table: of its numbers.
        figure: a PNG, as bytes or as the file that holds it.
        alt: the figure in words, for those who do not see it.
        command: the line that gives the figures of the section.

    """

    title: str
    text: str = ""
    points: Sequence[str] = ()
    table: Table | None = None
    figure: bytes | Path | None = None
    alt: str = ""
    command: str = ""

    @property
    def png(self) -> bytes | None:
        """The bytes of the figure."""
        return self.figure.read_bytes() if isinstance(self.figure, Path) else self.figure

    @property
    def file(self) -> str:
        """The name of the file of the figure, made of the title."""
        return f"{re.sub(r'[^a-z0-9]+', '-', self.title.lower()).strip('-')}.png"

    @property
    def paragraphs(self) -> list[str]:
        """The paragraphs of the text."""
        return [" ".join(part.split()) for part in self.text.split("\n\n") if part.strip()]


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
        title: of the page.
        sections: in order.
        summary: lines of the box at the top.
        made: lines in smaller type below it: what the page was made with.

    """

    title: str
    sections: Sequence[Section]
    summary: Sequence[Fact] = ()
    made: Sequence[Fact] = ()

    def html(self) -> str:
        """Return one HTML document with its style and its figures inside; it loads nothing and runs no script."""
        boxes = [_box("summary", self.summary), _box("made", self.made)]
        body = [f"<h1>{_html(self.title)}</h1>", *boxes, *map(_section, self.sections)]
        return "\n".join(
            [
                '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
                '<meta name="viewport" content="width=device-width, initial-scale=1">',
                f"<title>{_html(self.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>",
                *filter(None, body),
                "</main>\n</body>\n</html>\n",
            ]
        )

    def markdown(self) -> str:
        """Return the same as Markdown, which shows the files of `figures` beside it."""
        made = " · ".join(f"{_plain(fact.name)}: {_plain(fact.text)}" for fact in self.made)
        parts = [f"# {_plain(self.title)}", "\n".join(map(_point, self.summary)), made]
        for section in self.sections:
            parts += _markdown(section)
        return "\n\n".join(filter(None, parts)) + "\n"

    def figures(self) -> Mapping[str, bytes]:
        """Return the figures by the names of the files that the Markdown shows."""
        return {section.file: png for section in self.sections if (png := section.png) is not None}


def _box(kind: str, facts: Sequence[Fact]) -> str:
    rows = [
        f"<dt>{_html(fact.name)}</dt><dd>{_mark(fact.mark)}{_html(fact.text)}</dd>" for fact in facts
    ]  # a definition list, which a screen reader reads pair by pair
    return f'<div class="{kind}">\n<dl>\n' + "\n".join(rows) + "\n</dl>\n</div>" if facts else ""


def _mark(word: str) -> str:
    # the word is a class too, by which the style gives it its color
    return f'<span class="mark {_html(word)}">{_html(word)}</span> ' if word else ""


def _section(section: Section) -> str:
    parts = [f"<h2>{_html(section.title)}</h2>", *(f"<p>{_html(each)}</p>" for each in section.paragraphs)]
    if section.points:
        parts.append("<ul>\n" + "\n".join(f"<li>{_html(point)}</li>" for point in section.points) + "\n</ul>")
    if section.table is not None:
        parts.append(_table(section.title, section.table))
    if (png := section.png) is not None:
        source = f"data:image/png;base64,{b64encode(png).decode()}"
        parts.append(f'<figure><img src="{source}" alt="{_html(section.alt)}"></figure>')
    if section.command:
        shown = f"<pre><code>{_html(section.command)}</code></pre>"
        parts.append(f'<p class="again">These figures again:</p>\n{shown}')
    return "<section>\n" + "\n".join(parts) + "\n</section>"


def _table(title: str, each: Table) -> str:
    head = "".join(f'<th scope="col">{_html(cell)}</th>' for cell in each.header)
    rows = ["<tr>" + "".join(f"<td>{_html(cell)}</td>" for cell in row) + "</tr>" for row in each.rows]
    # a region that the keyboard reaches, because a wide table scrolls inside it
    region = f'<div class="scroll" role="region" tabindex="0" aria-label="{_html(title)}, table">'
    inner = f"<thead><tr>{head}</tr></thead>\n<tbody>\n{chr(10).join(rows)}\n</tbody>"
    return f'{region}\n<table class="{each.kind}">\n{inner}\n</table>\n</div>'


def _markdown(section: Section) -> list[str]:
    parts = [f"## {_plain(section.title)}", *map(_plain, section.paragraphs)]
    parts.append("\n".join(f"- {_plain(point)}" for point in section.points))
    if section.table is not None:
        rows = [[_cell(cell) for cell in row] for row in section.table.rows]
        parts.append(table([_cell(cell) for cell in section.table.header], rows))
    if section.png is not None:
        parts.append(f"![{_plain(section.alt)}]({section.file})")
    if section.command:
        parts.append(f"These figures again:\n\n```bash\n{printable(section.command)}\n```")
    return parts


def _point(fact: Fact) -> str:
    mark = f"**{_plain(fact.mark)}**: " if fact.mark else ""
    return f"- {_plain(fact.name)}: {mark}{_plain(fact.text)}"


def _plain(text: str) -> str:
    """Return text in which Markdown sees no markup."""
    return re.sub(r"([\\`*<\[\]])", r"\\\1", printable(text.replace("\n", " ")))


def _html(text: str) -> str:
    return escape(printable(text.replace("\n", " ")))


def _cell(text: str) -> str:
    return _plain(text).replace("|", "\\|").replace("\n", " ")
