"""Tables: framed and in colour on a terminal, plain columns elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from outrider.cli.terminal import is_styled, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from google.protobuf.message import Message


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows of cells below the names of their columns. Cells may come from anywhere."""
    cells = [[one_line(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _print_rich(columns, cells)
    else:
        _print_plain([columns, *cells])


def _print_plain(rows: list[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def _print_rich(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for row in rows:
        table.add_row(*map(Text, row))  # as text: what looks like markup is none
    Console(color_system="auto" if is_styled(sys.stdout) else None).print(table)


def model_cells(name: str, targets: Iterable[str], *, default: bool) -> tuple[str, str]:
    """A model's name, marked where it is the default, and where it leads, unless that is the name itself."""
    leads_to = ", then ".join(targets)
    return f"{name} (default)" if default else name, "" if leads_to == name else leads_to


def print_json(message: Message) -> None:
    """Print a message as JSON with the API's field names, empty lists included."""
    from google.protobuf.json_format import MessageToJson

    print(MessageToJson(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True))
