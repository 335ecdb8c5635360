"""What a recogniser hears: faster-whisper, an extra, opened once a process for whoever asks.

Import it where it is asked for alone.
"""

import os
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from speechrows.audio.samples import decode
from speechrows.errors import UsageError
from speechrows.errors import first_line
from speechrows.storage.models import is_from_cache

try:
    import faster_whisper  # pyright: ignore[reportMissingImports]
    import soxr
except ImportError as error:
    raise UsageError(f"found {error}; to hear clips needs: pip install 'speechrows[asr]'") from error

RATE_HZ = 16_000  # of every Whisper


def model_folder(model: str, flag: str) -> str:
    """Where a model's files are: a folder with CTranslate2's, or, downloaded, a repository's of the Hub.

    `flag` is what named the model. The model is loaded, so that what is wrong with it is said at once.

    Raises:
        UsageError: there is no such model.
        StoreError: it is on the Hub, which can not be reached.
    """
    is_kept = is_from_cache(model, flag)
    try:
        folder = model
        if not os.path.isdir(model):
            folder = faster_whisper.download_model(model, local_files_only=is_kept)
        loaded(folder)
    except (OSError, RuntimeError, ValueError) as error:
        raise UsageError(
            f"{flag} {model}: faster-whisper does not load it ({first_line(error):.200}); expected a folder "
            "with model.bin and tokenizer.json as CTranslate2 has them, or a repository with them, such as "
            "Systran/faster-whisper-base"
        ) from error
    return folder


@cache
def loaded(folder: str) -> Any:
    """The model, a WhisperModel on one thread: what uses more cores is more processes."""
    return faster_whisper.WhisperModel(folder, compute_type="auto", cpu_threads=1)


def samples_of(data: bytes | memoryview) -> npt.NDArray[np.float32]:
    """A clip as Whisper hears it: float32 [S] at RATE_HZ, its channels averaged.

    Raises:
        BadClipError: it does not decode.
    """
    samples, rate = decode(data)
    return soxr.resample(samples.mean(axis=1), rate, RATE_HZ)


def heard_text(folder: str, data: bytes | memoryview, language: str | None = None) -> str:
    """What is said in a clip; the same each time: nothing is drawn.

    Raises:
        BadClipError: it does not decode.
    """
    segments, _ = loaded(folder).transcribe(
        samples_of(data), language=language, temperature=0.0, condition_on_previous_text=False, beam_size=1
    )
    return " ".join(segment.text.strip() for segment in segments).strip()
