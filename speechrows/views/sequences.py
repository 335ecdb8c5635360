"""Batches of one sequence a conversation, its answers of text and speech in turn."""

from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

from speechrows.codec import CodecSpec
from speechrows.conversations.patterns import Ratio
from speechrows.errors import UsageError
from speechrows.types import IGNORE_INDEX
from speechrows.types import Int16
from speechrows.types import Int32
from speechrows.views.conversations import TimedConversation
from speechrows.views.text_ids import TextIds
from speechrows.views.turn_codes import codec_of
from speechrows.views.turn_codes import codes_of


class SequencesBatch(TypedDict):
    """B conversations as sequences of T ids."""

    input_ids: Tensor  # int64 [B, T], filled up with the tokenizer's pad
    labels: Tensor  # int64 [B, T], -100 outside of answers; not shifted: the model shifts
    attention_mask: Tensor  # bool [B, T], False at pads
    is_speech: Tensor  # bool [B, T], where ids are codes
    lengths: Tensor  # int64 [B]
    conversation_ids: tuple[str, ...]  # [B]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Piece:
    """Ids that stand together; `kinds` is 1 where they are codes."""

    ids: Int32
    kinds: Int32
    supervised: bool


class SequencesMaker:
    """Makes batches of conversations."""

    def __init__(self, *, pattern: Ratio, text: TextIds, device: torch.device) -> None:
        """Resolve the pattern's tokens.

        Raises:
            UsageError: the tokenizer lacks them.
        """
        if not text.is_fast:
            raise UsageError(
                f"tokenizer: found a {type(text.tokenizer).__name__}, expected one of transformers for a "
                "pattern of text and speech in turn: its markup are tokens"
            )
        self._pattern, self._text, self._device = pattern, text, device
        self._text_end = self._token(pattern.text_end)
        self._end = self._token(pattern.end)
        first = self._token(pattern.first_speech or "")
        self._first_speech = first[0] if first else len(text.tokenizer)
        pads = (text.tokenizer.pad_token_id, text.tokenizer.eos_token_id, 0)
        self._pad: int = next(pad for pad in pads if pad is not None)

    def __call__(self, conversations: Sequence[TimedConversation]) -> SequencesBatch:
        """The batch of conversations, as long as the longest.

        Raises:
            UsageError: a turn has no codes.
        """
        rows = [[*self._pieces(conversation)] for conversation in conversations]
        lengths = [sum(len(piece.ids) for piece in row) for row in rows]
        shape = len(rows), max(lengths, default=0)
        ids, labels = np.full(shape, self._pad, np.int64), np.full(shape, IGNORE_INDEX, np.int64)
        is_speech = np.zeros(shape, np.bool_)
        for number, (row, length) in enumerate(zip(rows, lengths, strict=True)):
            ids[number, :length] = np.concatenate([piece.ids for piece in row])
            labels[number, :length] = np.concatenate(
                [piece.ids if piece.supervised else np.full_like(piece.ids, IGNORE_INDEX) for piece in row]
            )
            is_speech[number, :length] = np.concatenate([piece.kinds for piece in row]) == 1
        mask = np.arange(shape[1]) < np.array(lengths, np.int64).reshape(-1, 1)
        input_ids, targets, attention_mask, speech = (
            torch.from_numpy(values).to(self._device) for values in (ids, labels, mask, is_speech)
        )
        return SequencesBatch(
            input_ids=input_ids,
            labels=targets,
            attention_mask=attention_mask,
            is_speech=speech,
            lengths=torch.tensor(lengths, dtype=torch.int64, device=self._device),
            conversation_ids=tuple(conversation.id for conversation in conversations),
        )

    def _pieces(self, conversation: TimedConversation) -> Iterator[_Piece]:
        pattern, spec = self._pattern, codec_of(conversation)
        yield self._markup(pattern.head)
        ended = False
        for turn in conversation.turns:
            speech = self._speech(codes_of(turn, conversation), spec)
            is_answer = turn.turn.role == "assistant"
            if not is_answer and pattern.user is None:
                continue
            before = self._markup(pattern.assistant if is_answer else (pattern.user or ("", ""))[0])
            if ended and before.ids[: len(self._end)].tolist() == self._end:
                before = _plain(before.ids[len(self._end) :])  # the answer's end was its beginning
            yield before
            if is_answer:
                text = np.array(self._text.text(turn.turn.text), np.int32)
                ids, kinds = pattern.apply(text, speech, self._text_end)
                yield _Piece(ids=ids, kinds=kinds, supervised=True)
                yield _Piece(ids=_ids(self._end), kinds=_ids([0] * len(self._end)), supervised=True)
            else:
                yield _Piece(ids=speech, kinds=np.ones_like(speech), supervised=False)
                yield self._markup((pattern.user or ("", ""))[1])
            ended = is_answer

    def _speech(self, codes: Int16, spec: CodecSpec) -> Int32:
        """The ids of codes [K, F], frame by frame; each codebook has its own."""
        count = self._pattern.codebooks
        if count > spec.num_codebooks:
            raise UsageError(
                f"pattern: found {count} codebooks, expected {spec.num_codebooks} of {spec.name} at most"
            )
        first = self._first_speech + spec.cardinality * np.arange(count, dtype=np.int32)
        return (codes[:count].T.astype(np.int32) + first).ravel()

    def _markup(self, text: str) -> _Piece:
        return _plain(_ids(self._text.markup(text)))

    def _token(self, token: str) -> list[int]:
        number = self._text.token(token) if token else None
        if token and number is None:
            raise UsageError(
                f"tokenizer: has no token {token}, which the pattern writes; expected the model's own "
                "tokenizer. Give tokenizer=, or a Ratio with tokens that it has"
            )
        return [] if number is None else [number]


def _ids(values: Sequence[int]) -> Int32:
    return np.array(values, np.int32)


def _plain(ids: Int32) -> _Piece:
    return _Piece(ids=ids, kinds=np.zeros_like(ids), supervised=False)
