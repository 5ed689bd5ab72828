"""Tables of indented rows, for a terminal and for a notebook."""

from collections.abc import Sequence
from typing import TypeAlias

__all__ = ["Rows", "html_table", "text_table"]

Rows: TypeAlias = Sequence[tuple[int, Sequence[str]]]
"""The depth and the cells of each row."""

# The largest widths of columns of strings in a terminal; columns of numbers have no limit.
_WIDEST = (46, 32)


def text_table(heads: Sequence[str], rows: Rows, total: str) -> str:
    """Return a table as a string: columns of strings, columns of numbers, and a last line.

    The table itself has only ASCII characters, which every terminal and file accepts.

    Examples
    --------
    >>> rows = [(0, ["fruit", "sweet", "7"]), (1, ["apple", "sour", "12"])]
    >>> print(text_table(["name", "taste", "count"], rows, "19 in all"))
    name     taste  count
    ---------------------
    fruit    sweet      7
      apple  sour      12
    ---------------------
    19 in all
    """
    lines = [list(heads)] + [["  " * depth + cells[0], *cells[1:]] for depth, cells in rows]
    for line in lines:
        line[: len(_WIDEST)] = map(_shortened, line, _WIDEST)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    written = ["  ".join(map(_aligned, line, widths, range(len(line)))).rstrip() for line in lines]
    rule = "-" * (sum(widths) + 2 * len(widths) - 2)
    return "\n".join([written[0], rule, *written[1:], rule, total])


def _shortened(text: str, width: int) -> str:
    """Cut the end of a string, but keep a closing bracket."""
    if len(text) <= width:
        return text
    end = "...)" if text.endswith(")") else "..."
    return text[: width - len(end)] + end


def _aligned(text: str, width: int, column: int) -> str:
    return text.ljust(width) if column < len(_WIDEST) else text.rjust(width)


def html_table(heads: Sequence[str], rows: Rows, total: str) -> str:
    """Return the table as HTML, in the colours of the surrounding page.

    Examples
    --------
    >>> "<td" in html_table(["name", "taste", "count"], [(0, ["a < b", "sour", "12"])], "")
    True
    """
    import html

    lines = [_html_row("th", heads, 0, _RULE)]
    lines += [_html_row("td", cells, depth) for depth, cells in rows]
    lines.append(
        f'<tr style="background: none"><td colspan="{len(heads)}" style="text-align: left; '
        f'padding: 0.4em 0; border-top: {_RULE}">{html.escape(total)}</td></tr>'
    )
    body = "\n".join(lines)
    return f'<table style="{_TABLE}">\n{body}\n</table>'


# Grey is visible on white and on black; the colours of the page are not changed.
_RULE = "1px solid rgba(128, 128, 128, 0.6)"
_TABLE = "border-collapse: collapse; border: none; font-variant-numeric: tabular-nums"


def _html_row(tag: str, cells: Sequence[str], depth: int, rule: str = "none") -> str:
    import html

    written = []
    for column, text in enumerate(cells):
        is_text = column < len(_WIDEST)
        left = 1.5 * depth if column == 0 else 0.0
        style = (
            f"text-align: {'left' if is_text else 'right'}; padding: 0.15em 1.5em 0.15em {left}em; "
            f"white-space: nowrap; border: none; border-bottom: {rule}"
        )
        shown = html.escape(text)
        if tag == "td" and is_text:
            shown = f"<code>{shown}</code>"
        written.append(f'<{tag} style="{style}">{shown}</{tag}>')
    return f'<tr style="background: none">{"".join(written)}</tr>'
