"""Count the bytes that a page of rows costs, by the offset index, which pyarrow does not show.

The footer and the index are structs of Thrift's compact protocol; what is read of them here are
a few numbered fields (parquet.thrift of the format's specification).
"""

import struct
from typing import Any
from typing import BinaryIO

_ROW_GROUPS, _COLUMNS, _INDEX_OFFSET, _INDEX_LENGTH = 4, 1, 4, 5  # FileMetaData, RowGroup, ColumnChunk
_PAGES, _PAGE_BYTES, _FIRST_ROW = 1, 2, 3  # OffsetIndex, PageLocation
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 12


def scanned(file: BinaryIO, group: int, num_rows: int, rows: int = 100) -> int:
    """Return the bytes of the largest page of `rows` rows of a row group, which has `num_rows`."""
    file.seek(-8, 2)
    end = file.tell()
    (length,) = struct.unpack("<I", file.read(4))
    file.seek(end - length)
    chunks = _Thrift(file.read(length)).struct()[_ROW_GROUPS][group][_COLUMNS]
    start = min(chunk[_INDEX_OFFSET] for chunk in chunks)
    stop = max(chunk[_INDEX_OFFSET] + chunk[_INDEX_LENGTH] for chunk in chunks)
    file.seek(start)
    data = file.read(stop - start)
    indexes = [_Thrift(data[chunk[_INDEX_OFFSET] - start :]).struct() for chunk in chunks]
    return max(
        sum(_cost(index[_PAGES], first, first + rows, num_rows) for index in indexes)
        for first in range(0, num_rows, rows)
    )


def _cost(pages: list[dict[int, Any]], first: int, stop: int, num_rows: int) -> int:
    """Sum the bytes of a column's pages that hold rows from `first` to `stop`."""
    ends = [page[_FIRST_ROW] for page in pages[1:]] + [num_rows]
    return sum(
        page[_PAGE_BYTES]
        for page, end in zip(pages, ends, strict=True)
        if page[_FIRST_ROW] < stop and end > first
    )


class _Thrift:
    """Parses Thrift's compact protocol: structs become dictionaries by their fields' numbers."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def struct(self) -> dict[int, Any]:
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._number()
            fields[number] = self._value(head & 15)
        return fields

    def _value(self, kind: int) -> Any:
        if kind in (_TRUE, _FALSE):
            return kind == _TRUE
        if kind in (_DOUBLE, _BINARY):
            return self._take(8 if kind == _DOUBLE else self._varint())
        if kind in (_LIST, _SET):
            head = self._byte()
            size = self._varint() if head >> 4 == 15 else head >> 4
            element = head & 15  # a bool in a list is a byte
            return [self._value(_BYTE if element in (_TRUE, _FALSE) else element) for _ in range(size)]
        if kind == _STRUCT:
            return self.struct()
        return self._byte() if kind == _BYTE else self._number()  # of 16, 32 or 64 bits; parquet has no maps

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _take(self, length: int) -> bytes:
        self._at += length
        return self._data[self._at - length : self._at]

    def _varint(self) -> int:
        value = shift = 0
        while (byte := self._byte()) & 128:
            value |= (byte & 127) << shift
            shift += 7
        return value | byte << shift

    def _number(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)
