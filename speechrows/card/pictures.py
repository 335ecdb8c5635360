"""Histograms of a task's rows as PNG files, the same bytes on every machine.

Drawn by Pillow, not matplotlib, which is twenty times as large; stored without compression, because
the bytes that a compressor writes depend on its version and the processor.
"""

import io
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL import ImageDraw
from PIL import ImageFont

from speechrows.card.figures import Measured

_WIDTH, _HEIGHT = 480, 280  # pixels
_LEFT, _RIGHT, _TOP, _BOTTOM = 16, 16, 36, 44  # margins around the bars
_MOST_BARS = 24
_MOST_WORDS = 12
_TAIL = 0.995  # of the rows; longer ones share the last bar
_WHITE, _BLUE = 0, 1  # places in the palette
_SHADES = 14  # of grey, behind these two: letters fade to white at their edges


@dataclass(frozen=True, kw_only=True, slots=True)
class Bars:
    """A bar chart: heights, and labels by bar, `centred` below bars or at their left edges."""

    heights: Sequence[int]
    labels: Mapping[int, str]
    centred: bool


def draw(measured: Measured, emotions: Mapping[str, int]) -> dict[str, bytes]:
    """Return the pictures of a task's rows by file name: of emotions and turns, where rows differ in them."""
    turns, rows, conversations = measured.turns, len(measured.seconds), int(measured.is_first.sum())
    images = {
        "durations.png": _png("Seconds of audio per row", histogram(measured.seconds), f"{rows:,} rows"),
        "tokens.png": _png("Tokens per row, without padding", histogram(measured.tokens), f"{rows:,} rows"),
    }
    if len(emotions) > 1:
        counted = f"{sum(emotions.values()):,} rows that have one"
        images["emotions.png"] = _png("Emotion", _words(emotions), counted)
    if turns.max() > 1:
        bars = histogram(turns, whole=True)
        images["turns.png"] = _png("Rows per conversation", bars, f"{conversations:,} conversations")
    return images


def histogram(values: npt.NDArray[np.generic], *, whole: bool = False) -> Bars:
    """Count values in bars of a round width; the longest half percent share the last bar."""
    numbers = values.astype(np.float64)
    longest = float(np.quantile(numbers, _TAIL, method="higher"))
    width = _round_up(max(longest / _MOST_BARS, 1 if whole else 1e-3))
    bars = int(longest // width) + 1
    places = np.minimum(numbers // width, bars - 1).astype(np.int64)
    heights = np.bincount(places, minlength=bars).tolist()
    every = -(-(bars + 1) // 8)
    centred = whole and width == 1  # a bar is a number; elsewhere the last one has a right edge
    labels = {i: f"{i * width:,.6g}" for i in range(0, bars + (not centred), every)}
    if numbers.max() >= bars * width:
        labels.pop(bars, None)
        labels[bars - 1] = f"{(bars - 1) * width:,.6g}+"
    return Bars(heights=heights, labels=labels, centred=centred)


def _round_up(step: float) -> float:
    """Round up to 1, 2 or 5 times a power of ten."""
    power = 10.0 ** np.floor(np.log10(step))
    return float(next(times * power for times in (1, 2, 5, 10) if times * power >= step * (1 - 1e-9)))


def _words(counts: Mapping[str, int]) -> Bars:
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    shown, rest = ordered[:_MOST_WORDS], sum(count for _, count in ordered[_MOST_WORDS:])
    shown += [("others", rest)] if rest else []
    labels = {i: word for i, (word, _) in enumerate(shown)}
    return Bars(heights=[count for _, count in shown], labels=labels, centred=True)


def _png(title: str, bars: Bars, counted: str) -> bytes:
    """Draw a picture; `title` names the horizontal axis, `counted` what the bars add up to."""
    grey = Image.new("L", (_WIDTH, _HEIGHT), 0)  # ink: text and axis
    pen, font = ImageDraw.Draw(grey), ImageFont.load_default(12)
    room, height = (_WIDTH - _LEFT - _RIGHT) / len(bars.heights), _HEIGHT - _TOP - _BOTTOM
    floor = _HEIGHT - _BOTTOM
    pen.text((_LEFT, 10), title, 255, ImageFont.load_default(14))
    pen.line([(_LEFT, floor), (_WIDTH - _RIGHT, floor)], 255)
    longest = max(font.getlength(label) for label in bars.labels.values())
    crowded = (longest + 4) * len(bars.labels) > _WIDTH - _LEFT - _RIGHT
    for i, (place, label) in enumerate(sorted(bars.labels.items())):
        down = 14 * (i % 2) if crowded else 0  # in two rows
        half = font.getlength(label) / 2
        x = _LEFT + room * (place + (0.5 if bars.centred else 0))
        x = min(max(x, half + 2), _WIDTH - half - 2)
        pen.text((x, floor + 5 + down), label, 255, font, anchor="ma")
    most = max(bars.heights)
    pen.text((_WIDTH - _RIGHT, 12), f"highest bar: {most:,} of {counted}", 255, font, anchor="ra")
    ink = np.asarray(grey, np.uint16)
    places = np.where(ink > 0, 1 + (ink * _SHADES + 254) // 255, _WHITE).astype(np.uint8)
    for i, count in enumerate(bars.heights):
        left, right = int(_LEFT + i * room) + 1, max(int(_LEFT + (i + 1) * room), int(_LEFT + i * room) + 2)
        if count:
            places[floor - max(round(count / most * height), 1) : floor, left:right] = _BLUE
    return _encode(places)


def _encode(places: npt.NDArray[np.uint8]) -> bytes:
    """Encode pixels, which are indices of the palette [H, W]; 16 colours take four bits each."""
    picture = Image.fromarray(places, "P")
    shades = [255 - round((255 - 51) * i / _SHADES) for i in range(1, _SHADES + 1)]
    picture.putpalette([255, 255, 255, 76, 114, 176, *(value for shade in shades for value in [shade] * 3)])
    file = io.BytesIO()
    picture.save(file, "PNG", bits=4, compress_level=0)
    return file.getvalue()
