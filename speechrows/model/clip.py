"""A clip that is no row: its samples, read as a build and the loader read those of rows."""

from pathlib import Path

from speechrows import audio
from speechrows.errors import BadClipError
from speechrows.errors import UsageError
from speechrows.loader.read.pcm import to_samples
from speechrows.types import Int16


def heard(clip: Path | str | bytes) -> tuple[Int16, int]:
    """The samples of a clip, one channel [S], as rows have them, and its rate in Hz.

    Raises:
        UsageError: it can not be read.
    """
    name = "the clip" if isinstance(clip, bytes) else str(clip)
    try:
        data = clip if isinstance(clip, bytes) else Path(clip).read_bytes()
        if (facts := audio.inspect(memoryview(data))) is None:
            data, _ = audio.readable(memoryview(data))
            facts = audio.inspect(memoryview(data))
        assert facts is not None  # readable gives what inspect passes through
        return to_samples(memoryview(data), facts.num_samples, facts.sampling_rate), facts.sampling_rate
    except OSError as error:
        raise UsageError(f"{name}: can not be read ({error.strerror}); expected a file of speech") from error
    except BadClipError as error:
        raise UsageError(f"{name}: {error.detail}; give another clip") from error
