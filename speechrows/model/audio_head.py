"""AudioHead: a codec's frames from a language model's hidden states.

A decoder reads the hidden states of the row, then frame after frame, and predicts codebook 0 of the next
frame, or the end of the clip. A depformer reads the decoder's output for a frame and the frame's codes so
far, and predicts the next codebook. Codebooks are late by the codec's delays, as in Moshi.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache
from transformers import LlamaConfig
from transformers import LlamaModel

from speechrows.codec import CodecSpec
from speechrows.errors import UsageError
from speechrows.loader.batch import Batch
from speechrows.model.generation import left_padded
from speechrows.model.sampling import drawn
from speechrows.model.segments import hidden_states
from speechrows.types import IGNORE_INDEX

_MAX_FRAMES = 2**15  # that the depformer reads at once: CUDA attention is limited to 2**16 - 1


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AudioLoss:
    """Sums of cross entropies, float32 [], and the number of codes in each sum."""

    semantic_sum: Tensor  # codebook 0, and the end of each clip
    num_semantic: int
    depth_sum: Tensor  # the other codebooks
    num_depth: int


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CodeScores:
    """Logits of F frames of delayed clips, and what they are to predict."""

    clip: Tensor  # int64 [F] on the CPU, the place of each frame's clip in the batch
    semantic: Tensor  # [F, codes + 1], of codebook 0; the last is the clip's end
    depth: Tensor | None  # [F, K - 1, codes], of the other codebooks
    targets: Tensor  # int64 [F, K], IGNORE_INDEX where a codebook has no code


class AudioHead(nn.Module):
    """A decoder for codebook 0 and a depformer for the others. `lm_size` is the hidden states' width.

    Raises:
        UsageError: codebook 0 of the codec is delayed: others would come before the clip's end is known.
    """

    def __init__(
        self,
        spec: CodecSpec,
        *,
        lm_size: int,
        size: int = 512,
        num_layers: int = 4,
        depth_size: int = 256,
        num_depth_layers: int = 4,
    ) -> None:
        super().__init__()
        if spec.delays and spec.delays[0]:
            raise UsageError(f"codec {spec.name}: found delays {spec.delays}, expected the first to be 0")
        self.spec = spec
        self.num_ids = max(spec.specials.bos, spec.specials.sos, spec.specials.eos, spec.specials.pad) + 1
        self.bridge = nn.Linear(lm_size, size)
        self.decoder = _transformer(size, num_layers, vocabulary=spec.num_codebooks * self.num_ids)
        self.semantic = nn.Linear(size, spec.cardinality + 1)  # the last is the end
        self.depth: nn.ModuleDict | None = None
        if spec.num_codebooks > 1:
            others = spec.num_codebooks - 1
            self.depth = nn.ModuleDict(
                {
                    "bridge": nn.Linear(size, depth_size),
                    "body": _transformer(depth_size, num_depth_layers, vocabulary=others * self.num_ids),
                    "heads": nn.ModuleList(nn.Linear(depth_size, spec.cardinality) for _ in range(others)),
                }
            )

    def forward(self, hidden: Tensor, batch: Batch) -> AudioLoss:
        """The losses of a batch's codes; without codes zero, which still depends on every parameter.

        Args:
            hidden: [B, T, D], SpeechLMOutput.hidden_states.
            batch: a clip's codes are predicted from the slots of its row.

        Raises:
            UsageError: the batch's codes are another codec's.
        """
        if batch.codec_targets is None or not len(batch.codec_targets):
            zero = self._weightless()
            return AudioLoss(semantic_sum=zero, num_semantic=0, depth_sum=zero, num_depth=0)
        semantic_sum = depth_sum = hidden.new_zeros((), dtype=torch.float32)
        for scores in self.scores(hidden, batch):
            semantic_sum = semantic_sum + _cross_entropy(scores.semantic, scores.targets[:, 0])
            if scores.depth is not None:
                depth_sum = depth_sum + _cross_entropy(scores.depth, scores.targets[:, 1:])
        frames = int(batch.codec_lengths.sum())
        return AudioLoss(
            semantic_sum=semantic_sum,
            num_semantic=frames + len(batch.codec_lengths),
            depth_sum=depth_sum,
            num_depth=frames * (self.spec.num_codebooks - 1),
        )

    def _weightless(self) -> Tensor:
        """Zero, float32 [], with a zero gradient for every parameter, since ranks wait for all of them."""
        trained = (parameter for parameter in self.parameters() if parameter.requires_grad)
        return sum((parameter.flatten()[0].float() * 0.0 for parameter in trained), torch.zeros(()))

    def scores(self, hidden: Tensor, batch: Batch) -> Iterator[CodeScores]:
        """What is predicted for the frames of a batch's codes, clip after clip; see forward."""
        if batch.codec_targets is None or not len(batch.codec_targets):
            return
        if batch.codec != self.spec.name:
            raise UsageError(f"codec: found {batch.codec}, expected {self.spec.name}, the audio head's")
        spans = batch.row_spans.tolist()
        rows = [spans[row] for row in batch.codec_row.tolist()]
        prefixes = [hidden[b, start:stop] for b, start, stop in rows]
        clips = [
            delayed(codes[:, :length], self.spec)
            for codes, length in zip(batch.codec_targets, batch.codec_lengths.tolist(), strict=True)
        ]
        outputs = self._decode(prefixes, clips)
        codes = torch.cat(clips, dim=1).T  # [F, K]
        targets = codes.masked_fill(codes == self.spec.specials.pad, IGNORE_INDEX)
        targets = targets.masked_fill(codes == self.spec.specials.eos, self.spec.cardinality)
        clip = torch.arange(len(clips)).repeat_interleave(torch.tensor([codes.shape[1] for codes in clips]))
        for numbers, chunk, read, target in zip(
            *(t.split(_MAX_FRAMES) for t in (clip, outputs, codes, targets)), strict=True
        ):
            yield CodeScores(
                clip=numbers,
                semantic=self.semantic(chunk),
                depth=None if self.depth is None else self._depth_logits(chunk, read[:, :-1]),
                targets=target,
            )

    @torch.no_grad()
    def generate(
        self,
        prefixes: Sequence[Tensor],
        *,
        max_frames: int,
        temperature: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> list[Tensor]:
        """Generate the codes int64 [K, F] of N clips, each from the hidden states [T, D] of its row.

        F is at most `max_frames` (1 or more). Codes are the likeliest ones if `temperature` is 0, else drawn.
        """
        begin = self._embedded(self._begin(prefixes[0].device))
        x, mask, _ = left_padded([torch.cat((self.bridge(prefix), begin)) for prefix in prefixes])
        draw = partial(drawn, temperature=temperature, generator=generator)
        cache = DynamicCache(config=self.decoder.config)
        frames: list[Tensor] = []
        lengths, ended = [max_frames] * len(prefixes), [False] * len(prefixes)
        while len(frames) < max(lengths) + max(self.spec.delays, default=0):
            places = (mask.cumsum(1) - 1).clamp(min=0)[:, -x.shape[1] :]
            segments = torch.zeros_like(mask).long()  # a clip is one
            output = hidden_states(self.decoder, x, segments, mask, places, cache=cache)[:, -1]
            first = [self.spec.specials.pad] * len(ended)
            chosen = [] if all(ended) else draw(self.semantic(output)).tolist()
            for i in [i for i in range(len(chosen)) if not ended[i]]:
                ended[i] = chosen[i] == self.spec.cardinality
                first[i] = self.spec.specials.eos if ended[i] else chosen[i]
                lengths[i] = min(lengths[i], len(frames)) if ended[i] else lengths[i]
            # A clip that is cut at max_frames goes on as if it were not.
            stops = [length if end else None for length, end in zip(lengths, ended, strict=True)]
            frames.append(self._frame(output, first, len(frames), stops, draw))
            x, mask = self._embedded(frames[-1]).unsqueeze(1), functional.pad(mask, (0, 1), value=True)
        codes = torch.stack(frames, dim=2)  # [N, K, F]
        return [undelayed(clip, length, self.spec) for clip, length in zip(codes, lengths, strict=True)]

    def _frame(
        self,
        output: Tensor,
        first: Sequence[int],
        place: int,
        lengths: Sequence[int | None],
        draw: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """Frame `place` of N clips, int64 [N, K], from the decoder's output [N, D] and their codebook 0."""
        codes = [torch.tensor(first, device=output.device)]
        if self.depth is None:
            return codes[0].unsqueeze(1)
        depth: Any = self.depth
        cache, num_read = DynamicCache(config=depth["body"].config), 0
        for codebook, start in enumerate(self.spec.delays[1:] or (0,) * (self.spec.num_codebooks - 1)):
            has_code = [start <= place and (length is None or place < start + length) for length in lengths]
            pads = torch.full_like(codes[0], self.spec.specials.pad)
            if not any(has_code):
                codes.append(pads)
                continue
            x = self._depth_inputs(output, torch.stack(codes[num_read:], dim=1), num_read)
            read = depth["body"](inputs_embeds=x, past_key_values=cache, use_cache=True)
            num_read = len(codes)
            chosen = draw(depth["heads"][codebook](read.last_hidden_state[:, -1]))
            codes.append(torch.where(torch.tensor(has_code, device=chosen.device), chosen, pads))
        return torch.stack(codes, dim=1)

    def _decode(self, prefixes: Sequence[Tensor], clips: Sequence[Tensor]) -> Tensor:
        """The decoder's output for each frame of clips [K, F], one clip after another: [frames, D]."""
        sequences: list[Tensor] = []
        for prefix, codes in zip(prefixes, clips, strict=True):
            read = torch.cat((self._begin(codes.device), codes.T[:-1]))
            sequences.append(torch.cat((self.bridge(prefix), self._embedded(read))))
        # Pads stand on the right: a causal decoder never reads them.
        output = self.decoder(inputs_embeds=pad_sequence(sequences, batch_first=True), use_cache=False)
        return torch.cat(
            [
                out[len(prefix) : len(sequence)]
                for out, prefix, sequence in zip(output.last_hidden_state, prefixes, sequences, strict=True)
            ]
        )

    def _depth_logits(self, outputs: Tensor, codes: Tensor) -> Tensor:
        """Logits [F, k + 1, codes] of codebooks 1..k + 1, from outputs [F, D] and codes 0..k [F, k + 1]."""
        depth: Any = self.depth
        x = self._depth_inputs(outputs, codes)
        read = depth["body"](inputs_embeds=x, use_cache=False).last_hidden_state
        return torch.stack([depth["heads"][k](read[:, k]) for k in range(codes.shape[1])], dim=1)

    def _depth_inputs(self, outputs: Tensor, codes: Tensor, first: int = 0) -> Tensor:
        """What the depformer reads, [F, k, D], of outputs [F, D] and codebooks `first` and on, [F, k]."""
        depth: Any = self.depth
        offsets = torch.arange(first, first + codes.shape[1], device=codes.device) * self.num_ids
        return depth["body"].get_input_embeddings()(codes + offsets) + depth["bridge"](outputs).unsqueeze(1)

    def _begin(self, device: torch.device) -> Tensor:
        """The frame that is read before the first one: int64 [1, K]."""
        return torch.full((1, self.spec.num_codebooks), self.spec.specials.bos, device=device)

    def _embedded(self, frames: Tensor) -> Tensor:
        """Frames int64 [F, K] as the sum of their codes' embeddings, [F, D]."""
        offsets = torch.arange(frames.shape[1], device=frames.device) * self.num_ids
        return self.decoder.get_input_embeddings()(frames + offsets).sum(1)


def delayed(codes: Tensor, spec: CodecSpec) -> Tensor:
    """Delay codes [K, F] as codec.delay does, with the end after codebook 0, in a new column if need be."""
    delays = spec.delays or (0,) * spec.num_codebooks
    frames = codes.shape[1]
    late = codes.new_full((len(codes), frames + max(1, *delays)), spec.specials.pad)
    for codebook, start in enumerate(delays):
        late[codebook, start : start + frames] = codes[codebook]
    late[0, frames] = spec.specials.eos
    return late


def undelayed(codes: Tensor, frames: int, spec: CodecSpec) -> Tensor:
    """The inverse of `delayed`: [K, F] of a clip of F frames."""
    delays = spec.delays or (0,) * spec.num_codebooks
    return torch.stack([row[start : start + frames] for row, start in zip(codes, delays, strict=True)])


def _transformer(size: int, num_layers: int, *, vocabulary: int) -> Any:
    """A small causal transformer, heads of 64."""
    heads = max(1, size // 64)
    return LlamaModel(
        LlamaConfig(
            hidden_size=size, intermediate_size=4 * size, num_hidden_layers=num_layers,
            num_attention_heads=heads, num_key_value_heads=heads, vocab_size=vocabulary,
        )
    )  # fmt: skip


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(
        logits.flatten(0, -2).float(), targets.flatten(), ignore_index=IGNORE_INDEX, reduction="sum"
    )
