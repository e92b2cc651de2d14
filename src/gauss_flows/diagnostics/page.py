"""One HTML page that needs nothing but itself."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from gauss_flows.diagnostics.words import Mark, Numbers, Picture, Section

_SYMBOL: dict[Mark, tuple[str, str]] = {
    "fine": ("✓", "fine"),
    "look": ("!", "worth a look"),
    "bad": ("✗", "not good"),
    "none": ("–", "no verdict"),
}
_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --card: #f6f8fa; --ink: #1f2328; --soft: #57606a;
  --line: #d0d7de; --fine: #1a7f37; --look: #9a6700; --bad: #b42318; --none: #57606a; }
@media (prefers-color-scheme: dark) { :root { --paper: #0d1117; --card: #161b22; --ink: #e6edf3;
  --soft: #9aa4af; --line: #30363d; --fine: #56d364; --look: #e3b341; --bad: #ff7b72;
  --none: #9aa4af; } figure img { filter: invert(.93) hue-rotate(180deg); } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); overflow-wrap: anywhere;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 66rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .5rem 0; }
h2 { font-size: 1.15rem; line-height: 1.3; margin: 0 0 .4rem; }
p { margin: .5rem 0; max-width: 46rem; }
a { color: inherit; }
.soft, caption { color: var(--soft); }
section, .verdicts { border: 1px solid var(--line); border-radius: .6rem; padding: 1rem;
  margin: 1rem 0; background: var(--card); }
.verdicts ul { list-style: none; margin: .6rem 0 0; padding: 0; }
.verdicts li { padding: .3rem 0; border-top: 1px solid var(--line); }
.mark { font-weight: 600; white-space: nowrap; }
.fine { color: var(--fine); } .look { color: var(--look); } .bad { color: var(--bad); }
.none { color: var(--none); }
.side { display: grid; gap: 1rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 25rem), 1fr)); }
figure { margin: .5rem 0; }
figure img { display: block; width: 100%; max-width: 30rem; height: auto; background: #fff;
  border-radius: .4rem; padding: .3rem; }
.table { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: .3rem 0; }
th, td { text-align: right; padding: .2rem .4rem; border-bottom: 1px solid var(--line);
  vertical-align: top; overflow-wrap: normal; }
th:first-child, td:first-child { text-align: left; padding-left: 0; overflow-wrap: anywhere;
  min-width: 3.5rem; max-width: 14rem; }
th:last-child, td:last-child { padding-right: 0; }
@media print { section { break-inside: avoid; } }
"""


def html_page(
    title: str, facts: Sequence[str], headline: str, sections: Sequence[Section], notes: str
) -> str:
    """Put a page together.

    Args:
        title: Its title.
        facts: Lines below it.
        headline: What all the checks come to.
        sections: The checks.
        notes: How to read them, at the end.

    Returns:
        HTML that asks for nothing off the page: style and pictures are in it.
    """
    head = (
        '<meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        # Nothing but what is written here may be loaded, whatever a column is called.
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
        '<link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style>"
    )
    lines = "".join(f'<p class="soft">{escape(fact)}</p>' for fact in facts)
    items = "".join(_item(section) for section in sections)
    body = "".join(_section(section) for section in sections)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body><main>'
        f"<h1>{escape(title)}</h1>{lines}"
        f'<div class="verdicts"><strong>{escape(headline)}</strong><ul>{items}</ul></div>'
        f'{body}<p class="soft">{escape(notes)}</p></main></body></html>\n'
    )


def _mark(mark: Mark) -> str:
    symbol, word = _SYMBOL[mark]
    return f'<span class="mark {mark}">{symbol} {word}</span>'


def _item(section: Section) -> str:
    title = f'<a href="#{section.name}">{escape(section.title)}</a>'
    return f"<li>{_mark(section.verdict.mark)} · {title}: {escape(section.verdict.text)}</li>"


def _section(section: Section) -> str:
    pictures = "".join(_figure(picture) for picture in section.pictures)
    tables = "".join(_table(numbers) for numbers in section.tables)
    inside = f"<div>{pictures}</div>" if pictures else ""
    inside += f"<div>{tables}</div>" if tables else ""
    return (
        f'<section id="{section.name}"><h2>{escape(section.title)}</h2>'
        f"<p>{_mark(section.verdict.mark)} · {escape(section.verdict.text)}</p>"
        f'<p class="soft">{escape(section.meaning)}</p><div class="side">{inside}</div></section>'
    )


def _figure(picture: Picture) -> str:
    data = base64.b64encode(picture.svg).decode("ascii")
    text = escape(picture.alternative, quote=True)
    return f'<figure><img src="data:image/svg+xml;base64,{data}" alt="{text}"></figure>'


def _unbroken(cell: str) -> str:
    """A cell in which no number is parted from its error."""
    text = escape(cell)
    for sign in (" ± ", "≤ "):
        text = text.replace(sign, sign.replace(" ", "&nbsp;"))
    return text


def _table(numbers: Numbers) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in numbers.header)
    rows = "".join(
        "<tr>" + "".join(f"<td>{_unbroken(cell)}</td>" for cell in row) + "</tr>"
        for row in numbers.rows
    )
    caption = escape(numbers.caption)
    return (
        f'<div class="table" tabindex="0" role="region" aria-label="{escape(caption, quote=True)}">'
        f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )
