# SPDX-License-Identifier: Apache-2.0
"""A report as Markdown and as one HTML page that loads nothing and runs nothing."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator, Sequence
from typing import Final

from weighmaster.core.pack_report import Report
from weighmaster.flows.report_content import Section, sections

__all__ = ["PictureOf", "markdown", "page"]

PictureOf = dict[str, tuple[str, bytes]]
"""Name of a picture to its caption and its SVG."""

_FOLDED: Final = 40
"""Lines of a table above which the page shows it folded."""

_NUMERIC: Final = frozenset("0123456789")

_STYLE: Final = """
body { font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; color: #222; background: #fff;
  max-width: 66rem; margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid #ddd; padding-bottom: .2rem; }
p { max-width: 48rem; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; margin: .6rem 0; }
td, th { padding: .22rem .8rem .22rem 0; text-align: left; vertical-align: top; overflow-wrap: anywhere; }
th { font-weight: 600; border-bottom: 1px solid #bbb; }
tr + tr td { border-top: 1px solid #eee; }
.pairs td:first-child { color: #555; min-width: 15rem; }
.first td { font-size: 1rem; }
.long td:first-child { min-width: 22rem; }
.long td:not(:first-child), .long th:not(:first-child) { white-space: nowrap; }
.long td.n, .long th.n { text-align: right; }
figure { margin: 1rem 0; }
img { max-width: 100%; height: auto; }
figcaption { color: #555; font-size: .85rem; }
summary { cursor: pointer; color: #0072b2; }
@media print { body { margin: 0; max-width: none; } }
"""


def _title(report: Report) -> str:
    return f"Report on pack {report.pack.root[:12]}"


def printable(text: str) -> str:
    """Return text with control characters and direction marks escaped: names are other people's."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def markdown(report: Report, pictures: PictureOf) -> bytes:
    """Return ``report.md``; pictures are links to the files beside it."""
    return ("\n\n".join(_markdown(report, pictures)) + "\n").encode("utf-8")


def _markdown(report: Report, pictures: PictureOf) -> Iterator[str]:
    yield f"# {_title(report)}"
    for section in sections(report):
        yield f"## {section.title}"
        if section.rows:
            yield _pipe_table(("", ""), section.rows)
        yield from (_escape(paragraph) for paragraph in section.paragraphs)
        for name in section.pictures:
            if name in pictures:
                yield f"![{pictures[name][0]}]({name}.svg)"
        if section.lines:
            yield _pipe_table(section.header, section.lines)


def _pipe_table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [header, ["---"] * len(header), *([_escape(cell) for cell in line] for line in lines)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _escape(text: str) -> str:
    shown = html.escape(printable(text), quote=False)
    return "".join("\\" + c if c in "\\`*_[]|#~" else c for c in shown)


def page(report: Report, pictures: PictureOf) -> bytes:
    """Return ``report.html``: pictures are within it, and a policy in its head forbids it to load or run anything."""
    return "\n".join(_page(report, pictures)).encode("utf-8")


def _page(report: Report, pictures: PictureOf) -> Iterator[str]:
    yield (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_title(report)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{_title(report)}</h1>"
    )
    for i, section in enumerate(sections(report)):
        yield from _section(section, pictures, "pairs first" if i == 0 else "pairs")
    yield "</body>\n</html>\n"


def _section(section: Section, pictures: PictureOf, css: str) -> Iterator[str]:
    yield f"<h2>{html.escape(section.title)}</h2>"
    if section.rows:
        yield f'<table class="{css}">' + "".join(_row(row, "td") for row in section.rows) + "</table>"
    yield from (f"<p>{html.escape(printable(paragraph))}</p>" for paragraph in section.paragraphs)
    for name in section.pictures:
        if name in pictures:
            caption, svg = pictures[name]
            data = base64.b64encode(svg).decode("ascii")
            yield (
                f'<figure><img alt="{html.escape(caption)}" src="data:image/svg+xml;base64,{data}">'
                f"<figcaption>{html.escape(caption)}</figcaption></figure>"
            )
    if section.lines:
        yield from _long_table(section)


def _long_table(section: Section) -> Iterator[str]:
    right = [all(_is_number(line[i]) for line in section.lines) for i in range(len(section.header))]
    table = (
        f'<table class="long"><thead>{_row(section.header, "th", right)}</thead><tbody>'
        + "\n".join(_row(line, "td", right) for line in section.lines)
        + "</tbody></table>"
    )
    folded = len(section.lines) > _FOLDED
    yield f"<details><summary>{len(section.lines):,} lines</summary>{table}</details>" if folded else table


def _row(cells: Sequence[str], tag: str, right: Sequence[bool] = ()) -> str:
    marks = [' class="n"' if i < len(right) and right[i] else "" for i in range(len(cells))]
    inner = "".join(
        f"<{tag}{mark}>{html.escape(printable(cell))}</{tag}>" for cell, mark in zip(cells, marks, strict=True)
    )
    return f"<tr>{inner}</tr>"


def _is_number(text: str) -> bool:
    return bool(text) and text[0] in _NUMERIC and set(text) <= _NUMERIC | set(".,e-+")
