"""Parts of an HTML report: one file that needs nothing beside it."""

import base64
import html
import io
from collections.abc import Sequence

from matplotlib.figure import Figure

STYLE = (
    "body{font:15px/1.5 sans-serif;margin:2em auto;max-width:75em} table{border-collapse:collapse}"
    "td,th{border:1px solid #ccc;padding:.2em .5em;text-align:right} td:first-child,th:first-child{text-align:left}"
    "img{max-width:100%} .missed{background:#fdd}"
)
DPI = 110


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of text cells."""
    top = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>"


def image(png: bytes, name: str) -> str:
    """A PNG inside the page."""
    return f'<p><img alt="{html.escape(name)}" src="data:image/png;base64,{base64.b64encode(png).decode()}"></p>\n'


def drawn(figure: Figure) -> bytes:
    """A figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def page(title: str, body: str) -> str:
    """A whole document."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style></head><body>
<h1>{html.escape(title)}</h1>
{body}
</body></html>
"""
