"""What a trainer's model is made of, as flags of its command line: presets.py has the rest."""

from dataclasses import dataclass
from dataclasses import fields

from speechrows.errors import UsageError
from speechrows.flags import flag
from speechrows.model.presets import PRESETS
from speechrows.model.segments import Span
from speechrows.model.segments import parse_span
from speechrows.model.ttt import TTTLinear


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """The parts of a model, and how they see a conversation. Each field is a flag."""

    preset: str = flag("tiny", "the model", choices=[*PRESETS])
    attention: str = flag("sdpa", "flex_attention for long contexts", choices=["sdpa", "flex_attention"])
    attention_span: str = flag(
        "conversation", "how far the language model sees: conversation, turn, or slots"
    )
    ttt_layers: int = flag(0, "test-time-training layers on the language model; mode lanes or pack", least=0)
    ttt_at: str = flag("", "more of them inside it: the blocks that they stand before, such as 8,16,24")
    ttt_mini_batch: int = flag(64, "tokens that their state learns from at a time", least=1)
    ttt_rate: float = flag(1.0, "the most of their inner learning rate", least=0)
    ttt_checkpoint: int = flag(
        0, "mini-batches of them that are computed again, not kept; 0: none, for speed", least=0
    )
    ttt_heads: int = flag(0, "their heads; 0: as many as the language model has", least=0)

    @property
    def span(self) -> Span:
        """The attention span."""
        return parse_span(self.attention_span)

    @property
    def places(self) -> list[int | None]:
        """Where TTT layers stand: before which blocks, None for above the language model.

        Raises:
            UsageError: --ttt-at is no list of numbers.
        """
        numbers = self.ttt_at.replace(",", " ").split()
        if not all(number.isdecimal() for number in numbers):
            raise UsageError(f"--ttt-at: found {self.ttt_at!r}, expected numbers of blocks, such as 8,16,24")
        return [*map(int, numbers), *[None] * self.ttt_layers]

    def alone(self) -> "ModelShape":
        """The shape of a config that has more than it."""
        return ModelShape(**{entry.name: getattr(self, entry.name) for entry in fields(ModelShape)})

    def ttt(self, width: int, heads: int) -> TTTLinear:
        """A TTT layer for hidden states of a width, and a language model of so many heads."""
        return TTTLinear(
            width,
            self.ttt_heads or heads,
            mini_batch=self.ttt_mini_batch,
            base_learning_rate=self.ttt_rate,
            checkpoint=self.ttt_checkpoint,
        )
