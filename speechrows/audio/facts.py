"""What is told of a clip, and the faults for which there is nothing to tell."""

from dataclasses import dataclass

import soundfile

from speechrows.errors import BadClipError
from speechrows.types import Reason
from speechrows.types import Samples

MAX_SECONDS = 4 * 3600  # longer clips are refused: a few MB of FLAC may be days of silence
_RATES = range(1_000, 768_001)  # below, a short clip would be a day of speech and a million tokens
_MAX_CHANNELS = 1024  # libsndfile's own limit


@dataclass(frozen=True, kw_only=True, slots=True)
class AudioFacts:
    """Facts of a clip; `num_samples` counts the samples of one channel."""

    extension: str
    sampling_rate: int
    num_samples: Samples
    num_channels: int


def checked_facts(extension: str, rate: int, num_samples: int, channels: int) -> AudioFacts:
    """The facts of a clip.

    Raises:
        BadClipError: no clip has such a rate, or so many channels or samples.
    """
    if rate not in _RATES or channels > _MAX_CHANNELS:
        raise BadClipError(
            Reason.UNDECODABLE,
            f"header says {channels} channels at {rate} Hz; expected at most {_MAX_CHANNELS} "
            f"channels at {_RATES[0]} to {_RATES[-1]} Hz",
        )
    if num_samples == 0:
        raise BadClipError(Reason.ZERO_SAMPLES, "holds no sample; expected at least one")
    check_length(num_samples, rate)
    return AudioFacts(
        extension=extension,
        sampling_rate=rate,
        num_samples=Samples(num_samples),
        num_channels=channels,
    )


def check_length(num_samples: int, rate: int) -> None:
    """Refuse a clip that is too long to be one.

    Raises:
        BadClipError: it is.
    """
    if num_samples > MAX_SECONDS * rate:
        raise BadClipError(
            Reason.TOO_LARGE,
            f"is {num_samples / rate / 3600:.1f} hours of sound; expected at most "
            f"{MAX_SECONDS // 3600}. Cut it where its turns end",
        )


def truncated(what: str) -> BadClipError:
    """The BadClipError for a file that ends too early."""
    return BadClipError(
        Reason.TRUNCATED,
        f"{what}: the file is truncated. Download it again, or let --max-skipped drop it",
    )


def short(num_samples: int, promised: int) -> BadClipError:
    """The BadClipError for a clip that decodes to less than its header promises."""
    return truncated(
        f"decodes to {num_samples} of {promised} samples a channel (cut short, or damaged there)"
    )


def undecodable(data: memoryview, error: Exception) -> BadClipError:
    """The BadClipError for a clip that libsndfile rejects."""
    # The bare message: the full one holds the address of an object, which differs every time.
    message = error.error_string if isinstance(error, soundfile.LibsndfileError) else error
    return BadClipError(
        Reason.UNDECODABLE,
        f"found {len(data)} bytes starting {bytes(data[:8])!r}, no audio that libsndfile reads "
        f"({message}); expected WAV, FLAC, Opus or MP3",
    )
