"""Tables as text, a line a record, cells apart by tabs, whether or not their writer quoted what needs it."""

import re

_QUOTED = r'"((?:[^"]|"")*+)"'  # possessive: a quote that nothing closes is looked for once
_CELL = re.compile(rf"{_QUOTED}(?=[\t\n]|\Z)|([^\t\n]*)")
_WHOLE = re.compile(_QUOTED)


def read_table(text: str) -> list[dict[str, str]]:
    """The records of a table by the names in its first line; cells that a record lacks are not there.

    Lines end at line feeds alone (or carriage returns): texts hold any of the other line breaks that
    str.splitlines knows. A cell in quotes, as csv writes it, may hold tabs and line feeds; a quote that is
    part of a text encloses nothing. Where nothing quotes them, a record with a tab too many is left out,
    for no one knows in which cell it is, and a cell that may go on in the next line is left out too.
    """
    text = text.replace("\r\n", "\n")
    if "\n" not in text:
        text = text.replace("\r", "\n")
    names, at = _line(text, 0)
    records: list[dict[str, str]] = []
    while at < len(text):
        cells, at = _record(text, at, len(names))
        if any(cells):
            records.append(dict(zip(names, cells, strict=False)))
    return records


def _record(text: str, at: int, num_names: int) -> tuple[list[str], int]:
    """The cells of the record at a place, none of one with too many, and where the next begins."""
    cells, end = _line(text, at)
    is_whole = end >= len(text) or len(_line(text, end)[0]) == num_names
    if len(cells) == num_names and is_whole:
        return cells, end
    quoted, quoted_end = _quoted(text, at)
    if len(quoted) == num_names:
        return quoted, quoted_end
    if len(cells) > num_names:
        return [], end
    return cells if is_whole or text[end] == "\n" else cells[:-1], end


def _line(text: str, at: int) -> tuple[list[str], int]:
    """The cells of a line, without the quotes of those that are whole, and where the next begins."""
    end = text.find("\n", at)
    end = len(text) if end < 0 else end
    cells = text[at:end].split("\t")
    whole = [_WHOLE.fullmatch(cell) for cell in cells]
    return [_unquote(match[1]) if match else cell for match, cell in zip(whole, cells, strict=True)], end + 1


def _quoted(text: str, at: int) -> tuple[list[str], int]:
    """The cells of a record whose quotes may enclose tabs and line feeds, and where the next begins."""
    cells: list[str] = []
    while match := _CELL.match(text, at):
        cells.append(match[2] if match[1] is None else _unquote(match[1]))
        at = match.end() + 1
        if match.end() >= len(text) or text[match.end()] == "\n":
            break
    return cells, at


def _unquote(cell: str) -> str:
    return cell.replace('""', '"')
