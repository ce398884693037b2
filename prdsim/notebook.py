"""What a notebook shows of an object: a small table, as HTML."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from prdsim.words import shown


def html_table(title: object, facts: Mapping[str, object]) -> str:
    """Return an HTML table of facts by name, under a title; texts are escaped and shortened."""
    rows = "".join(
        f'<tr><th style="text-align:left">{_text(name)}</th>'
        f'<td style="text-align:left">{_text(value)}</td></tr>'
        for name, value in facts.items()
    )
    caption = f'<caption style="text-align:left">{_text(title)}</caption>'
    return f"<table>{caption}<tbody>{rows}</tbody></table>"


def _text(value: object) -> str:
    return escape(shown(value, 300))
