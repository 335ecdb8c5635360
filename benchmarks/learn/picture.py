"""Line charts as small PNG files, drawn by Pillow."""

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from PIL import Image
from PIL import ImageDraw
from PIL import ImageFont

_WIDTH, _HEIGHT, _SCALE = 720, 400, 3  # pixels; drawn larger, so that lines are smooth
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 20, 92, 58  # margins
_INK, _SHADE = "#555555", "#dddddd"
_COLOURS = ("#3b6fd4", "#d9622b", "#3a9a5b", "#8a5cc2", "#b8860b", "#555555")


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """Lines by their names, each a value for each place, and the words around them.

    Places stand at equal distances; `least` and `most` are the ends of the axis of values. With `by_tens`,
    values are powers of ten, and the axis says which numbers these are. None is a place without a point.
    """

    title: str
    across: str
    places: Sequence[int]
    lines: Mapping[str, Sequence[float | None]]
    most: float
    least: float = 0.0
    by_tens: bool = False

    def save(self, file: Path) -> None:
        """Draw it into a PNG file."""
        picture = Image.new("RGB", (_WIDTH * _SCALE, _HEIGHT * _SCALE), "white")
        brush = ImageDraw.Draw(picture)
        self._frame(brush)
        for number, values in enumerate(self.lines.values()):
            colour, above = _COLOURS[number], min(2, len(self.lines) - number - 1)
            points = [self._point(i, value) for i, value in enumerate(values) if value is not None]
            for start, stop in pairwise(points):
                brush.line([start, stop], colour, (3 + 3 * above) * _SCALE)  # those below show on both sides
            for x, y in points:
                size = (4 + 2 * above) * _SCALE
                brush.ellipse([x - size, y - size, x + size, y + size], colour)
        small = picture.resize((_WIDTH, _HEIGHT), Image.Resampling.LANCZOS)
        file.parent.mkdir(parents=True, exist_ok=True)
        small.quantize(96, Image.Quantize.FASTOCTREE).save(file, "PNG", optimize=True)

    def _point(self, place: int, value: float) -> tuple[float, float]:
        share = (value - self.least) / (self.most - self.least)
        x = _LEFT + 24 + (_WIDTH - _LEFT - _RIGHT - 48) * place / max(1, len(self.places) - 1)
        y = _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * min(max(share, 0.0), 1.0)
        return x * _SCALE, y * _SCALE

    def _frame(self, brush: ImageDraw.ImageDraw) -> None:
        """The words, the axes and the names of the lines."""
        font, title = (ImageFont.load_default(size * _SCALE) for size in (15, 19))
        brush.text((16 * _SCALE, 14 * _SCALE), self.title, _INK, title)
        left, right = _LEFT * _SCALE, (_WIDTH - _RIGHT) * _SCALE
        steps = round(self.most - self.least) if self.by_tens else 4
        for tick in range(steps + 1):
            value = self.least + (self.most - self.least) * tick / steps
            _, y = self._point(0, value)
            brush.line([(left, y), (right, y)], _SHADE, _SCALE)
            number = f"{10**value:g}" if self.by_tens else f"{value:g}"
            brush.text((left - 10 * _SCALE, y), number, _INK, font, anchor="rm")
        for i, place in enumerate(self.places):
            x, y = self._point(i, self.least)
            brush.text((x, y + 10 * _SCALE), f"{place:,}", _INK, font, anchor="ma")
        middle = (left + right) / 2, (_HEIGHT - 10) * _SCALE
        brush.text(middle, self.across, _INK, font, anchor="md")
        x = left
        for colour, name in zip(_COLOURS, self.lines, strict=False):
            brush.ellipse([x, 55 * _SCALE, x + 10 * _SCALE, 65 * _SCALE], colour)
            brush.text((x + 16 * _SCALE, 60 * _SCALE), name, _INK, font, anchor="lm")
            x += 40 * _SCALE + font.getlength(name)
