"""How streams of ids stand beside or between one another: values, each with what undoes it.

`Parallel` delays streams against one another, as Moshi does; `Ratio` lays text and speech of an answer one
after the other, as GLM-4-Voice and LLaMA-Omni2 do.
"""

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from speechrows.codec import shift
from speechrows.codec import unshift
from speechrows.errors import UsageError
from speechrows.errors import did_you_mean
from speechrows.types import Int32


@dataclass(frozen=True, kw_only=True, slots=True)
class Parallel:
    """Streams side by side, a frame a column: stream k is `delays[k]` frames late."""

    delays: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.delays or min(self.delays) < 0:
            raise UsageError(f"a pattern: found delays {self.delays}, expected whole numbers from 0 on")

    def apply(self, streams: Int32, before: Sequence[int], after: int) -> Int32:
        """Streams [K, F] as [K, F + the longest delay].

        `before` [K] stands where a stream has not begun, `after` where it is at its end. The first F
        columns are those of moshi's `_delay_sequence`, which cuts what is late.
        """
        self._check(streams)
        return shift(streams, self.delays, before, after)

    def undo(self, delayed: Int32) -> Int32:
        """The streams [K, F] of what `apply` made of them."""
        self._check(delayed)
        return unshift(delayed, self.delays)

    def _check(self, streams: Int32) -> None:
        if streams.ndim != 2 or len(streams) != len(self.delays):
            raise ValueError(f"a pattern: found {streams.shape = }, expected ({len(self.delays)}, F)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Ratio:
    """An answer as `text` ids, `speech` ids, and so on; after its last text, all speech that is left.

    Where the speech ends first, the rest of the text follows at once. The strings are what a model writes
    around them, in its tokenizer's own tokens: `head` before a conversation, `user` before and after the
    speech of a user's turn (None: those are left out), `assistant` before an answer, `text_end` behind its
    last text and `end` behind its speech, each one token, or none. `first_speech` is the token whose id is
    that of code 0, which the others follow. Of each frame the first `codebooks` are written, in their order.
    """

    text: int
    speech: int
    head: str = ""
    user: tuple[str, str] | None = ("", "")
    assistant: str = ""
    text_end: str = ""
    end: str = ""
    first_speech: str | None = None
    codebooks: int = 1

    def __post_init__(self) -> None:
        if min(self.text, self.speech, self.codebooks) < 1:
            raise UsageError(
                f"a pattern: found {self.text} text to {self.speech} speech ids, and {self.codebooks} "
                "codebooks; expected numbers above 0"
            )

    def apply(self, text: Int32, speech: Int32, text_end: Sequence[int] = ()) -> tuple[Int32, Int32]:
        """The ids [T] of an answer, and what each is: 0 text, 1 speech, 2 of `text_end`."""
        pieces, kinds = list[Int32](), list[int]()
        num_chunks = max(1, -(-len(text) // self.text))
        for chunk in range(num_chunks):
            is_last = chunk == num_chunks - 1
            written = chunk * self.speech
            pieces.append(text[chunk * self.text : (chunk + 1) * self.text])
            pieces.append(np.array(text_end if is_last else (), np.int32))
            pieces.append(speech[written:] if is_last else speech[written : written + self.speech])
            kinds += [0, 2, 1]
        lengths = [*map(len, pieces)]
        return np.concatenate(pieces).astype(np.int32), np.repeat(np.array(kinds, np.int32), lengths)

    def undo(self, ids: Int32, kinds: Int32) -> tuple[Int32, Int32]:
        """The text and the speech of what `apply` made of them."""
        return ids[kinds == 0], ids[kinds == 1]


_SIDE = (0, *[1] * 7)  # the first codebook of Mimi is semantic, the others acoustic

# What moshi's LMModel is trained on: codes as they are, which it delays itself. moshi-finetune's batches.
MOSHI = Parallel(delays=(0,) * 17)
# The same streams as they stand inside that model: text, the assistant's side, the user's.
MOSHI_DELAYED = Parallel(delays=(0, *_SIDE, *_SIDE))
GLM_4_VOICE = Ratio(
    text=13,
    speech=26,
    head="[gMASK]<sop><|system|>\nUser will provide you with a speech instruction. Do it step by step. "
    "First, think about the instruction and respond in a interleaved manner, with 13 text token followed by "
    "26 audio tokens. ",
    user=("<|user|>\n<|begin_of_audio|>", "<|end_of_audio|>"),
    assistant="<|assistant|>streaming_transcription\n",
    end="<|user|>",
    first_speech="<|audio_0|>",
)
# Its speech decoder's, which reads the text of the language model before it: that one hears the user.
LLAMA_OMNI2 = Ratio(text=3, speech=10, user=None, text_end="<sep>", end="<|im_end|>")

Pattern = Parallel | Ratio
PATTERNS: Mapping[str, Pattern] = {
    "moshi": MOSHI,
    "moshi_delayed": MOSHI_DELAYED,
    "glm_4_voice": GLM_4_VOICE,
    "llama_omni2": LLAMA_OMNI2,
}


def pattern_of(pattern: Pattern | str) -> Pattern:
    """A pattern, by its name where it has one.

    Raises:
        UsageError: none is called that.
    """
    if isinstance(pattern, Parallel | Ratio):
        return pattern
    if pattern not in PATTERNS:
        raise UsageError(
            f"pattern: found {pattern!r}, expected one of {', '.join(PATTERNS)}, or a Parallel or Ratio of "
            f"one's own{did_you_mean(str(pattern), PATTERNS)}"
        )
    return PATTERNS[pattern]
