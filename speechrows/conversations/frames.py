"""The frame grid of a conversation: seconds to frames, as NeMo's duplex data sets count them."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameGrid:
    """Frames of `frame_length_s` seconds over a channel of `rate_hz`."""

    frame_length_s: float
    rate_hz: int

    @property
    def hop(self) -> int:
        """The samples of a frame."""
        return round(self.frame_length_s * self.rate_hz)

    def frame_at(self, seconds: float) -> int:
        """The frame that is nearest to a time, or the number of frames of so many seconds.

        It is rounded twice, as NeMo does: to a sample, halves to even, then to a frame, halves up. The two
        differ from one rounding where half a frame is no whole number of samples, as at 11 025 Hz.
        """
        return (round(seconds * self.rate_hz) + self.hop // 2) // self.hop
