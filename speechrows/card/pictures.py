"""Bar charts of a task's rows as PNG files, the same bytes on every machine.

Drawn by Pillow, not matplotlib, which is twenty times as large; stored without compression, because
the bytes that a compressor writes depend on its version and the processor. Four colours, two bits a
pixel: paper is transparent, and ink of a middle grey is read on a white page and on a black one.
"""

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL import ImageDraw
from PIL import ImageFont

from speechrows.card.bins import Bins
from speechrows.card.bins import ticks
from speechrows.card.figures import Measured

_WIDTH, _HEIGHT = 960, 560  # pixels
_LEFT, _RIGHT, _TOP, _BOTTOM = 24, 28, 116, 78  # margins, to the left without the numbers of the axis
_LETTERS, _TITLE, _LINE = 22, 30, 26  # pixels
_GAP, _WIDEST = 4, 160  # between bars; a bar that stands for one value
_MOST_WORDS, _MOST_LINES = 12, 3
_PAPER, _BLUE, _INK, _SHADE = range(4)  # places in the palette; letters fade to paper by one shade
_COLOURS = ((255, 255, 255, 0), (84, 125, 205, 255), (121, 121, 121, 255), (121, 121, 121, 120))
_IS_SHADE, _IS_INK = 56, 150  # from which darkness on, of 255


@dataclass(frozen=True, kw_only=True, slots=True)
class Bars:
    """The heights of bars, and labels with the bars that they name: below a bar, or at its left edge."""

    heights: tuple[int, ...]
    labels: tuple[tuple[int, str], ...]
    centred: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """Bars and their words: the title, the total, what the axes count, `across` in its unit and `up`."""

    title: str
    total: str
    across: str
    up: str
    bars: Bars


def draw(measured: Measured, emotions: Mapping[str, int]) -> dict[str, bytes]:
    """Return the pictures of a task's rows by file name: of emotions and turns, where rows differ in them."""
    turns, conversations = measured.turns, int(measured.is_first.sum())
    rows = f"{len(measured.seconds):,} rows"
    charts = {
        "durations.png": Chart(
            title="Audio of a row", total=rows, across="seconds", up="rows", bars=histogram(measured.seconds)
        ),
        "tokens.png": Chart(
            title="Tokens of a row",
            total=rows,
            across="tokens, without padding",
            up="rows",
            bars=histogram(measured.tokens),
        ),
    }
    if len(emotions) > 1:
        charts["emotions.png"] = Chart(
            title="Emotion",
            total=f"{sum(emotions.values()):,} rows that have one",
            across="",
            up="rows",
            bars=_words(emotions),
        )
    if turns.max() > 1:
        charts["turns.png"] = Chart(
            title="Rows of a conversation",
            total=f"{conversations:,} conversations",
            across="rows",
            up="conversations",
            bars=histogram(turns),
        )
    return {name: _png(chart) for name, chart in charts.items()}


def histogram(values: npt.NDArray[np.generic]) -> Bars:
    """Count values in bars of a round width."""
    bins = Bins.of(values)
    heights = np.bincount(bins.places(values), minlength=bins.count).tolist()
    return Bars(heights=tuple(heights), labels=tuple(bins.labels().items()), centred=bins.is_single)


def _words(counts: Mapping[str, int]) -> Bars:
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    shown, rest = ordered[:_MOST_WORDS], sum(count for _, count in ordered[_MOST_WORDS:])
    shown += [("others", rest)] if rest else []
    labels = tuple((i, word) for i, (word, _) in enumerate(shown))
    return Bars(heights=tuple(count for _, count in shown), labels=labels, centred=True)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Frame:
    """Where a chart stands, in pixels: its sides, the lines of its labels, the heights that have a mark."""

    left: int
    right: int
    floor: int
    lines: int
    marks: Mapping[int, int]  # how far above the floor, by count

    @classmethod
    def around(cls, chart: Chart) -> "_Frame":
        marks = ticks(max(chart.bars.heights))
        widest = max(_font(_LETTERS).getlength(f"{tick:,}") for tick in marks)
        left, right = _LEFT + math.ceil(widest) + 10, _WIDTH - _RIGHT
        longest = max(_font(_LETTERS).getlength(label) for _, label in chart.bars.labels)
        lines = min(math.ceil((longest + 12) * len(chart.bars.labels) / (right - left)), _MOST_LINES)
        floor = _HEIGHT - _BOTTOM - (lines - (1 if chart.across else 2)) * _LINE
        heights = {tick: round(tick / marks[-1] * (floor - _TOP)) for tick in marks}
        return cls(left=left, right=right, floor=floor, lines=lines, marks=heights)


@lru_cache(64)  # a card is written anew after each task of a folder
def _png(chart: Chart) -> bytes:
    """Draw a chart."""
    frame = _Frame.around(chart)
    picture = _letters(chart, frame).point([_colour_of(darkness) for darkness in range(256)])
    brush = ImageDraw.Draw(picture)
    left, right, floor, bars = frame.left, frame.right, frame.floor, chart.bars
    for height in frame.marks.values():
        brush.line([(left, floor - height), (right, floor - height)], _SHADE)
    width = (right - left) / len(bars.heights)
    aside = max((width - _WIDEST) / 2, 0) if bars.centred else 0
    most, height = max(frame.marks.items())
    for i, count in enumerate(bars.heights):
        start, stop = round(left + i * width + aside), round(left + (i + 1) * width - aside)
        top = floor - max(round(count / most * height), 2)
        if count:
            brush.rectangle([(start + _GAP // 2, top), (stop - _GAP // 2 - 1, floor)], _BLUE)
    brush.line([(left, floor), (right, floor)], _INK, 2)
    return _encode(picture)


def _letters(chart: Chart, frame: _Frame) -> Image.Image:
    """Write the words and numbers of a chart; a pixel says how dark it is."""
    letters = Image.new("L", (_WIDTH, _HEIGHT), 0)
    pen, font, bars = ImageDraw.Draw(letters), _font(_LETTERS), chart.bars
    pen.text((_LEFT, 18), chart.title, 255, _font(_TITLE))
    pen.text((frame.right, 24), chart.total, 255, font, anchor="ra")
    pen.text((_LEFT, _TOP - 50), chart.up, 255, font)
    for tick, height in frame.marks.items():
        pen.text((frame.left - 10, frame.floor - height), f"{tick:,}", 255, font, anchor="rm")
    width = (frame.right - frame.left) / len(bars.heights)
    for i, (place, label) in enumerate(sorted(bars.labels)):
        half = font.getlength(label) / 2
        x = frame.left + width * (place + (0.5 if bars.centred else 0))
        x = min(max(x, half + 4), _WIDTH - half - 4)
        pen.text((x, frame.floor + 10 + i % frame.lines * _LINE), label, 255, font, anchor="ma")
    pen.text(((frame.left + frame.right) / 2, _HEIGHT - 34), chart.across, 255, font, anchor="ma")
    return letters


def _colour_of(darkness: int) -> int:
    return _INK if darkness >= _IS_INK else _SHADE if darkness >= _IS_SHADE else _PAPER


def _encode(picture: Image.Image) -> bytes:
    """Encode a picture whose pixels are places in the palette."""
    picture.putpalette([value for *rgb, _ in _COLOURS for value in rgb])
    file = io.BytesIO()
    opacity = bytes(opaque for *_, opaque in _COLOURS)
    picture.save(file, "PNG", bits=2, compress_level=0, transparency=opacity)
    return file.getvalue()
