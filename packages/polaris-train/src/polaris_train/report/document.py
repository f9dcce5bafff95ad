"""A document of sections that is written twice: as one HTML page that needs no other file, and as Markdown."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path

from polaris_data.files import write_text

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline' 'self' file:; img-src data:"
"""Nothing is loaded from elsewhere, whatever a model wrote; files beside the page are."""


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True, slots=True)
class Missing:
    """What is not there yet, and when it will be."""

    text: str


@dataclass(frozen=True, slots=True)
class Warning:
    """What a reader must know."""

    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text; columns but the first are numbers unless they are named in ``words``."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    words: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Pictures:
    """SVG pictures side by side, as many as there is room for; only in the page."""

    svgs: Sequence[str]


@dataclass(frozen=True, slots=True)
class Decisions:
    """Steps with what each decided."""

    items: Sequence[tuple[str, str, str]]
    """State (a word), name, sentence."""


@dataclass(frozen=True, slots=True)
class Fold:
    """Parts that are shown when asked for."""

    summary: str
    parts: "Sequence[Part]"


@dataclass(frozen=True, slots=True)
class Markup:
    """HTML as it is; only in the page."""

    html: str


Part = Text | Missing | Warning | Table | Pictures | Decisions | Fold | Markup


@dataclass(frozen=True, slots=True)
class Section:
    """What stands under one heading."""

    anchor: str
    heading: str
    parts: Sequence[Part]


def write_document(path: Path, title: str, lead: Sequence[str], sections: Sequence[Section]) -> Path:
    """Write a page and, under the same stem, Markdown; each file appears whole.

    Args:
        path: Of the page.
        title: Of both.
        lead: Lines under the title.
        sections: In their order.

    Returns:
        The Markdown file.
    """
    write_text(path, _page(title, lead, sections))
    beside = path.with_suffix(".md")
    write_text(beside, markdown(title, lead, sections))
    return beside


def markdown(title: str, lead: Sequence[str], sections: Sequence[Section]) -> str:
    """Return a document as Markdown; see `write_document`."""
    parts = [f"# {_plain(title)}", *(f"{_plain(line)}" for line in lead)]
    for section in sections:
        parts += [f"## {_plain(section.heading)}", *_markdown(section.parts)]
    return "\n\n".join(parts) + "\n"


def _page(title: str, lead: Sequence[str], sections: Sequence[Section]) -> Iterable[str]:
    links = "".join(f'<a href="#{each.anchor}">{escape(each.heading)}</a>' for each in sections)
    yield (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>\n{_asset('page.css')}</style>\n"
        "</head>\n<body>\n"
        f"<header>\n<h1>{escape(title)}</h1>\n{''.join(f'<p>{escape(line)}</p>' for line in lead)}\n</header>\n"
        f"<nav>{links}</nav>\n<main>\n"
    )
    for section in sections:
        yield f'<section id="{section.anchor}">\n<h2>{escape(section.heading)}</h2>\n'
        yield from (f"{_html(part)}\n" for part in section.parts)
        yield "</section>\n"
    yield f"</main>\n<script>\n{_asset('page.js')}</script>\n</body>\n</html>\n"


def _asset(name: str) -> str:
    return files("polaris_train.report").joinpath(name).read_text("utf-8")


def _html(part: Part) -> str:
    match part:
        case Text(text):
            return f"<p>{escape(text)}</p>"
        case Missing(text):
            return f'<p class="missing">{escape(text)}</p>'
        case Warning(text):
            return f'<p class="warning">{escape(text)}</p>'
        case Table():
            return _html_table(part)
        case Pictures(svgs):
            return '<div class="pictures">' + "\n".join(f"<figure>{svg}</figure>" for svg in svgs) + "</div>"
        case Decisions(items):
            rows = "".join(
                f'<li class="{state}"><b>{escape(name)}</b><span>{escape(text)}</span></li>\n'
                for state, name, text in items
            )
            return f'<ol class="decisions">\n{rows}</ol>'
        case Fold(summary, parts):
            return f"<details><summary>{escape(summary)}</summary>\n{''.join(map(_html, parts))}</details>"
        case Markup(html):
            return html


def _html_table(table: Table) -> str:
    kinds = [' class="number"' if is_number else "" for is_number in _is_number(table)]
    head = "".join(f"<th{kind}>{escape(cell)}</th>" for kind, cell in zip(kinds, table.header, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{escape(cell)}</td>" for kind, cell in zip(kinds, row, strict=True)) + "</tr>\n"
        for row in table.rows
    )
    caption = f'<p class="caption">{escape(table.caption)}</p>' if table.caption else ""
    return f'{caption}<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def _markdown(parts: Sequence[Part]) -> Iterable[str]:
    for part in parts:
        match part:
            case Text(text) | Missing(text):
                yield _plain(text)
            case Warning(text):
                yield f"> **Note:** {_plain(text)}"
            case Table():
                if part.caption:
                    yield f"{_plain(part.caption)}:"
                yield _markdown_table(part)
            case Decisions(items):
                yield "\n".join(
                    f"{number}. **{_plain(name)}** ({state}): {_plain(text)}"
                    for number, (state, name, text) in enumerate(items, start=1)
                )
            case Fold(summary, inner):
                yield f"### {_plain(summary)}"
                yield from _markdown(inner)
            case Pictures() | Markup():
                pass


def _markdown_table(table: Table) -> str:
    rule = " | ".join("---:" if kind else "---" for kind in _is_number(table))
    rows = [" | ".join(_plain(cell).replace("|", r"\|") for cell in row) for row in (table.header, *table.rows)]
    return "\n".join(f"| {row} |" for row in (rows[0], rule, *rows[1:]))


def _is_number(table: Table) -> list[bool]:
    return [number > 0 and name not in table.words for number, name in enumerate(table.header)]


def _plain(text: str) -> str:
    """Return text on one line that Markdown shows as it is, whatever a model wrote."""
    text = " ".join(text.split())
    for character in "\\`*_<[":
        text = text.replace(character, f"\\{character}")
    return text
