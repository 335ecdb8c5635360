"""Speech of eSpeak NG, whose library and voices come in a package: requirements-learn.txt."""

import ctypes
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

_SYNCHRONOUS, _UTF8, _RATE = 2, 1, 1  # of espeak-ng's speak_lib.h


@cache
def _library() -> tuple[Any, int]:
    """The library, ready to speak, and its sampling rate."""
    try:
        import espeakng_loader  # pyright: ignore
    except ImportError as error:
        raise SystemExit(
            "espeakng-loader: not installed; the clips of this experiment are spoken by it: "
            "pip install -r benchmarks/requirements-learn.txt"
        ) from error
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), 0)
    if rate <= 0:
        raise SystemExit(f"espeakng-loader: its library did not start (found {rate}); install it anew")
    return library, rate


def sampling_rate() -> int:
    """Samples a second of what is spoken."""
    return _library()[1]


def speak(text: str, *, voice: str, words_a_minute: int) -> npt.NDArray[np.float32]:
    """A text in a voice, such as `en-us+f2`: samples in [-1, 1], without the silence before and after."""
    library, _ = _library()
    pieces: list[bytes] = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    def keep(samples: Any, number: int, _: Any) -> int:
        if samples and number > 0:
            pieces.append(ctypes.string_at(samples, 2 * number))
        return 0

    library.espeak_SetSynthCallback(keep)
    if library.espeak_SetVoiceByName(voice.encode()):
        raise SystemExit(f"voice {voice}: eSpeak NG has none of this name; see `espeak-ng --voices=variant`")
    library.espeak_SetParameter(_RATE, words_a_minute, 0)
    spoken = text.encode()
    library.espeak_Synth(spoken, len(spoken) + 1, 0, 0, 0, _UTF8, None, None)
    library.espeak_Synchronize()
    samples = np.frombuffer(b"".join(pieces), "<i2").astype(np.float32) / 32_768
    loud = np.flatnonzero(np.abs(samples) > 0.003)
    return samples[loud[0] : loud[-1] + 1]
