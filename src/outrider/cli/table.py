"""Tables: framed and in colour on a terminal, plain columns elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from outrider.cli.terminal import is_styled, one_line

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from google.protobuf.message import Message


class Styled(NamedTuple):
    """A cell that has a colour on a terminal, such as "green" or "bold"."""

    text: str
    style: str


Cell: TypeAlias = "str | Styled"


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[Cell]], *, numbers: Collection[str] = ()
) -> None:
    """Print rows of cells below the names of their columns. Cells may come from anywhere.

    `numbers`: the columns that are aligned to the right. One without a name is shown on a terminal alone.
    """
    cells = [[_safe(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _print_rich(columns, cells, numbers)
    else:
        texts = [[cell.text for name, cell in zip(columns, row, strict=True) if name] for row in cells]
        _print_plain([name for name in columns if name], texts, numbers)


def _safe(cell: Cell) -> Styled:
    text, style = cell if isinstance(cell, Styled) else (cell, "")
    return Styled(one_line(text), style)


def _print_plain(columns: Sequence[str], rows: list[list[str]], numbers: Collection[str]) -> None:
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    aligns = [str.rjust if name in numbers else str.ljust for name in columns]
    for row in (columns, *rows):
        cells = (align(cell, width) for align, cell, width in zip(aligns, row, widths, strict=True))
        print("  ".join(cells).rstrip())


def _print_rich(columns: Sequence[str], rows: Iterable[Sequence[Styled]], numbers: Collection[str]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in columns:
        justify: Literal["left", "right"] = "right" if name in numbers else "left"
        table.add_column(name, justify=justify, no_wrap=name in numbers or not name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(*cell) for cell in row))  # as text: what looks like markup is none
    Console(color_system="auto" if is_styled(sys.stdout) else None).print(table)


def model_cells(name: str, targets: Iterable[str], *, default: bool) -> tuple[str, str]:
    """A model's name, marked where it is the default, and where it leads, unless that is the name itself."""
    leads_to = ", then ".join(targets)
    return f"{name} (default)" if default else name, "" if leads_to == name else leads_to


def print_json(message: Message) -> None:
    """Print a message as JSON with the API's field names, empty lists included."""
    from google.protobuf.json_format import MessageToJson

    print(MessageToJson(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True))
