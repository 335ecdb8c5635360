"""What a trainer's model is made of, as flags of its command line: presets.py has the rest."""

import os
from dataclasses import dataclass
from dataclasses import fields
from dataclasses import replace
from fractions import Fraction

from speechrows.errors import UsageError
from speechrows.flags import flag
from speechrows.model.presets import PRESETS
from speechrows.model.presets import Preset
from speechrows.model.segments import Span
from speechrows.model.segments import parse_span
from speechrows.model.ttt import TTTLinear


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """The parts of a model, and how they see a conversation. Each field is a flag."""

    preset: str = flag("tiny", "the model", choices=[*PRESETS])
    encoder: str = flag("", "a speech encoder in the place of the preset's: a repository or folder")
    lm: str = flag("", "a language model in the place of the preset's, with its tokenizer")
    rate: float = flag(0.0, "audio tokens a second in the place of the preset's; 0: those", least=0)
    attention: str = flag(
        "sdpa", "flex_attention for long contexts", choices=["sdpa", "eager", "flex_attention"]
    )
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
    def parts(self) -> Preset:
        """The preset, with the parts that are given in the place of its own."""
        preset = PRESETS[self.preset]
        return replace(
            preset,
            encoder=self.encoder or preset.encoder,
            lm=self.lm or preset.lm,
            audio_tokens_per_second=Fraction(str(self.rate)) if self.rate else preset.audio_tokens_per_second,
        )

    @property
    def name(self) -> str:
        """The preset's name, and those of the parts in the place of its own."""
        given = {"encoder": self.encoder, "lm": self.lm, "rate": self.rate and f"{self.rate:g}"}
        return ", ".join([self.preset, *(f"{part} {value}" for part, value in given.items() if value)])

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
        """The shape of a config that has more than it; of a folder on this machine, its name alone."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(ModelShape)}
        for part in ("encoder", "lm"):
            if os.path.isdir(values[part]):
                values[part] = os.path.basename(os.path.abspath(values[part]))
        return ModelShape(**values)

    def ttt(self, width: int, heads: int) -> TTTLinear:
        """A TTT layer for hidden states of a width, and a language model of so many heads."""
        return TTTLinear(
            width,
            self.ttt_heads or heads,
            mini_batch=self.ttt_mini_batch,
            base_learning_rate=self.ttt_rate,
            checkpoint=self.ttt_checkpoint,
        )
