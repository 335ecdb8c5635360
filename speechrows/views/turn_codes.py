"""The codes of turns, and of which codec they are."""

from speechrows.codec import CODECS
from speechrows.codec import CodecSpec
from speechrows.codec import num_frames
from speechrows.errors import UsageError
from speechrows.types import Int16
from speechrows.types import Samples
from speechrows.views.conversations import TimedConversation
from speechrows.views.conversations import TimedTurn


def codec_of(conversation: TimedConversation) -> CodecSpec:
    """The codec of a conversation's turns.

    Raises:
        UsageError: a turn has no codes.
    """
    for turn in conversation.turns:
        codes_of(turn, conversation)
    return CODECS[str(conversation.turns[0].codec)]


def codes_of(turn: TimedTurn, conversation: TimedConversation) -> Int16:
    """The codes of a turn, int16 [K, F].

    Raises:
        UsageError: it has none, or those of another clip.
    """
    where = f"{conversation.id}: {turn.turn.role}'s turn {turn.turn.text!r:.60}"
    if turn.codes is None or turn.codec is None:
        raise UsageError(
            f"{where} has no codes; expected those of every turn. Make them with `speechrows generate mimi`, "
            "and give codes=, or build s2s_mimi --with them"
        )
    length = num_frames(Samples(turn.num_samples), conversation.rate_hz, CODECS[turn.codec])
    if turn.codes.shape[1] > length + 1:
        raise UsageError(
            f"{where} has {turn.codes.shape[1]} frames of {turn.codec}; expected {length} for its "
            f"{turn.num_samples} samples: these are codes of another clip. Make them anew"
        )
    return turn.codes
