"""How loud a clip is over its time, and what follows: its speech and pauses, clipping, noise.

A clip is heard a block at a time, as sums over slots of 10 ms: memory does not grow with its samples.
A slot's level is that of the 30 ms around it, in dB of full scale, without the clip's mean (its DC offset).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from speechrows.audio.samples import blocks
from speechrows.audio.samples import opened

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

SLOTS_A_SECOND = 100
FLOOR_DB = -100.0  # of a level: what is softer is no sound that 16 bits hold
SNR_DB = (-10.0, 80.0)  # the least and the most that an estimate says
_BRIDGED_S = 0.3  # shorter pauses are part of speech: stops, breaths
_QUIET_DB = -70.0  # softer slots are never speech
_LOUD_SHARE, _SOFT_SHARE = 0.95, 0.10  # of the slots: what is at least as loud is speech, as soft is noise
_DEPTH, _DEPTH_DB = 0.7, (3.0, 30.0)  # how far below the loud slots speech may be: a share of their range
_FLAT = 1e-4  # of the peak: samples that differ by less are cut off at one height
_FLAT_PEAK = 0.05  # of full scale: below it, the steps of 16 bits are as coarse


@dataclass(frozen=True, kw_only=True, slots=False, eq=False)
class Levels:
    """A clip of `num_samples`, one at least, at `rate_hz`.

    `level_db` are its slots, float64 [slots]; `num_clipped` counts its samples that are cut off. All measures
    are finite, of silence and of a single sample too.
    """

    rate_hz: int
    num_samples: int
    level_db: Float64
    rms: float
    num_clipped: int

    @property
    def seconds(self) -> float:
        """How long the clip is."""
        return self.num_samples / self.rate_hz

    @cached_property
    def is_sound(self) -> npt.NDArray[np.bool_]:
        """Which slots are louder than the pauses of this clip [slots]."""
        soft, loud = np.quantile(self.level_db, (_SOFT_SHARE, _LOUD_SHARE))
        depth = float(np.clip(_DEPTH * (loud - soft), *_DEPTH_DB))
        return (self.level_db >= loud - depth) & (self.level_db > _QUIET_DB)

    @cached_property
    def is_speech(self) -> npt.NDArray[np.bool_]:
        """Which slots are speech [slots]: sound, and pauses in it that are shorter than 0.3 s."""
        speech = self.is_sound.copy()
        sound = np.flatnonzero(speech)
        pauses = np.diff(sound)
        for i in np.flatnonzero((pauses > 1) & (pauses <= _BRIDGED_S * SLOTS_A_SECOND)).tolist():
            speech[sound[i] : sound[i + 1]] = True
        return speech

    @property
    def speech_s(self) -> float:
        """Seconds of speech."""
        return float(self.is_speech.mean()) * self.seconds

    @property
    def silence(self) -> float:
        """The share of the clip that is no speech, from 0 to 1."""
        return 1.0 - float(self.is_speech.mean())

    @property
    def clipping(self) -> float:
        """The share of samples that are cut off: three or more in a row at the height of the peak."""
        return self.num_clipped / self.num_samples

    @property
    def speech_db(self) -> float:
        """The level of the sound, in dB of full scale; FLOOR_DB of silence."""
        return _db(self._power(self.is_sound)) if self.is_sound.any() else FLOOR_DB

    @property
    def snr_db(self) -> float:
        """An estimate of the ratio of speech to noise, in dB, within SNR_DB.

        Noise is what the softest tenth of the clip holds: of speech without any pause, too little is said.
        """
        if not self.is_sound.any():
            return SNR_DB[0]
        noise = self._power(self.level_db <= np.quantile(self.level_db, _SOFT_SHARE))
        speech = self._power(self.is_sound) - noise
        return float(np.clip(_db(max(speech, 0.0)) - _db(noise), *SNR_DB))

    def _power(self, slots: npt.NDArray[np.bool_]) -> float:
        return float(np.mean(10.0 ** (self.level_db[slots] / 10.0)))


def _db(power: float) -> float:
    return 10.0 * float(np.log10(max(power, 10.0 ** (FLOOR_DB / 10.0))))


class LevelMeter:
    """Hears a clip block by block."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._slot = max(1, round(rate_hz / SLOTS_A_SECOND))
        self._rest = np.empty(0, np.float32)  # of a slot that is not full
        self._sums: list[Float64] = []  # of slots, and of their squares
        self._squares: list[Float64] = []
        self._num_samples = 0
        self._peak, self._num_flat = 0.0, 0

    def hear(self, block: Float32) -> None:
        """Take the next samples, float32 [S], finite, one channel."""
        self._num_samples += len(block)
        self._count_flat(block)
        joined = np.concatenate([self._rest, block])
        whole = len(joined) // self._slot * self._slot
        slots = joined[:whole].reshape(-1, self._slot)
        self._sums.append(slots.sum(axis=1, dtype=np.float64))
        self._squares.append(np.einsum("ij,ij->i", slots, slots, dtype=np.float64))
        self._rest = joined[whole:]

    def _count_flat(self, block: Float32) -> None:
        """Count samples at the height of the peak, three or more in a row; a new peak counts anew."""
        loudness = np.abs(block)
        peak = float(loudness.max(initial=0.0))
        if peak < _FLAT_PEAK or peak < self._peak * (1 - _FLAT):
            return
        if peak > self._peak * (1 + _FLAT):
            self._num_flat = 0
        self._peak = max(self._peak, peak)
        top = np.flatnonzero(loudness >= self._peak * (1 - _FLAT))
        is_high = np.sign(block[top])
        follows = (np.diff(top) == 1) & (np.diff(is_high) == 0)
        edges = np.flatnonzero(np.diff(np.concatenate(([0], follows.astype(np.int8), [0]))))
        runs = edges[1::2] - edges[::2] + 1
        self._num_flat += int(runs[runs >= 3].sum())

    def levels(self) -> Levels:
        """What was heard, of one sample at least."""
        assert self._num_samples, "a clip without samples has no levels"
        sums, squares = self._sums, self._squares
        sizes = np.full(sum(map(len, sums)), float(self._slot))
        if len(self._rest):
            rest = self._rest.astype(np.float64)
            sums, squares = [*sums, rest.sum(keepdims=True)], [*squares, (rest**2).sum(keepdims=True)]
            sizes = np.append(sizes, float(len(rest)))
        total, energy = np.concatenate(sums), np.concatenate(squares)
        mean = float(total.sum()) / self._num_samples
        about_mean = np.maximum(energy - 2 * mean * total + mean**2 * sizes, 0.0)
        is_constant = about_mean.sum() <= 1e-9 * energy.sum()  # what remains are roundings
        about_mean *= not is_constant
        around = np.convolve(about_mean, np.ones(3))[1:-1] / np.convolve(sizes, np.ones(3))[1:-1]
        floor = 10.0 ** (FLOOR_DB / 10.0)
        return Levels(
            rate_hz=self._rate_hz,
            num_samples=self._num_samples,
            level_db=10.0 * np.log10(np.maximum(around, floor)),
            rms=float(np.sqrt(about_mean.sum() / self._num_samples)),
            num_clipped=0 if is_constant else self._num_flat,
        )


def levels_of(mono: Float32, rate_hz: int) -> Levels:
    """The levels of a clip in memory, float32 [S], one sample at least."""
    meter = LevelMeter(rate_hz)
    meter.hear(mono)
    return meter.levels()


def mono_blocks(data: bytes | memoryview) -> Iterator[tuple[Float32, int]]:
    """A clip a block at a time: the mean of its channels, float32 [S], and its rate in Hz.

    Raises:
        BadClipError: it does not decode.
    """
    with opened(data) as file:
        for block in blocks(file):
            yield block.mean(axis=1, dtype=np.float32) if block.shape[1] > 1 else block[:, 0], file.samplerate
