"""Batches of parallel streams: the text of a conversation, and the codes of both of its sides."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

from speechrows.codec import CODECS
from speechrows.codec import CodecSpec
from speechrows.codec import num_frames
from speechrows.conversations.patterns import Parallel
from speechrows.conversations.streams import MIMI_SILENCE
from speechrows.conversations.streams import PlacedCodes
from speechrows.conversations.streams import StreamIds
from speechrows.conversations.streams import code_stream
from speechrows.conversations.streams import frame_of
from speechrows.conversations.streams import text_stream
from speechrows.conversations.words import Aligner
from speechrows.errors import UsageError
from speechrows.types import Int32
from speechrows.types import Role
from speechrows.types import Samples
from speechrows.views.conversations import TimedConversation
from speechrows.views.text_ids import TextIds
from speechrows.views.turn_codes import codec_of
from speechrows.views.turn_codes import codes_of

LOST = "ids of words that found no frame: the next word was said"
SIDES: tuple[Role, ...] = ("assistant", "user")


class StreamsBatch(TypedDict):
    """B conversations as K streams of F frames."""

    codes: Tensor  # int64 [B, K, F]: the text, the assistant's codebooks, the user's; filled up with `zero`
    lengths: Tensor  # int64 [B], frames
    conversation_ids: tuple[str, ...]  # [B]


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamsMaker:
    """Makes batches of conversations. `silence` None is that of Mimi; of another codec, `zero`."""

    pattern: Parallel
    text: TextIds
    ids: StreamIds
    silence: Sequence[int] | None
    text_roles: Sequence[Role]
    keep_all: bool
    aligner: Aligner
    device: torch.device
    changes: Counter[str]

    def __call__(self, conversations: Sequence[TimedConversation]) -> StreamsBatch:
        """The batch of conversations, of as many frames as the longest.

        Raises:
            UsageError: a turn has no codes, or of another codec than the pattern has streams for.
        """
        streams = [self._streams(conversation) for conversation in conversations]
        lengths = [stream.shape[1] for stream in streams]
        codes = np.full(
            (len(streams), len(self.pattern.delays), max(lengths, default=0)), self.ids.zero, np.int64
        )
        for row, stream in enumerate(streams):
            codes[row, :, : stream.shape[1]] = stream
        return StreamsBatch(
            codes=torch.from_numpy(codes).to(self.device),
            lengths=torch.tensor(lengths, dtype=torch.int64, device=self.device),
            conversation_ids=tuple(conversation.id for conversation in conversations),
        )

    def _streams(self, conversation: TimedConversation) -> Int32:
        """The streams of a conversation, int32 [K, F]."""
        spec = self._checked(codec_of(conversation), conversation)
        placed: dict[Role, list[PlacedCodes]] = {side: [] for side in SIDES}
        for turn in conversation.turns:
            first = frame_of(turn.first, conversation.rate_hz, spec.rate_hz)
            placed[turn.turn.role].append(PlacedCodes(codes=codes_of(turn, conversation), first=first))
        frames = max(
            num_frames(Samples(conversation.num_samples), conversation.rate_hz, spec),
            *(clip.stop for clips in placed.values() for clip in clips),
        )
        silence = self._silence(spec)
        words = [
            word
            for turn in conversation.turns
            if turn.turn.role in self.text_roles
            for word in self.aligner.words(
                turn.turn, turn.start_s, turn.start_s + turn.num_samples / conversation.rate_hz
            )
        ]
        text, num_lost = text_stream(
            words, frames, float(spec.rate_hz), encode=self.text.word, ids=self.ids, keep_all=self.keep_all
        )
        self.changes[LOST] += num_lost
        sides = [code_stream(placed[side], frames, silence) for side in SIDES]
        before = [self.ids.text_initial, *[self.ids.audio_initial] * (2 * spec.num_codebooks)]
        return self.pattern.apply(np.concatenate([text[None], *sides], dtype=np.int32), before, self.ids.zero)

    def _silence(self, spec: CodecSpec) -> Sequence[int]:
        if self.silence is None:
            return MIMI_SILENCE if spec is CODECS["mimi"] else [self.ids.zero] * spec.num_codebooks
        if len(self.silence) != spec.num_codebooks or not {*self.silence} <= {-1, *range(spec.cardinality)}:
            raise UsageError(
                f"silence: found {[*self.silence]}, expected {spec.num_codebooks} codes of {spec.name}, "
                f"below {spec.cardinality}, or -1"
            )
        return self.silence

    def _checked(self, spec: CodecSpec, conversation: TimedConversation) -> CodecSpec:
        expected = 1 + 2 * spec.num_codebooks
        if len(self.pattern.delays) != expected:
            raise UsageError(
                f"{conversation.id}: has codes of {spec.name}, of {spec.num_codebooks} codebooks a side; "
                f"expected a pattern of {expected} streams, found {len(self.pattern.delays)}. Give "
                f"pattern=Parallel(delays=(0,) * {expected}), or codes of another codec"
            )
        return spec
