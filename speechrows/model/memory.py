"""What a training step holds, in bytes: arithmetic on a model's parameters and sizes; nothing is run.

Weights, gradients and moments are exact. What is kept for the backward pass is exact for language models of
Llama's kind (Llama, Qwen3, SmolLM3) and encoders of Whisper's, but for pads of clips; TTT layers and an audio
head count with their parameters alone. The peak is a bound: it takes all of a step to be there at once.
"""

from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from speechrows.model.omni import Omni
from speechrows.model.speech_lm import SLOTS_AT_ONCE
from speechrows.model.stateful import blocks_of
from speechrows.model.tuning import Tuning

_FLOAT = 4  # bytes of float32: of what is trained, its gradient, and each of AdamW's two moments
_ONCE = ({"q_proj", "k_proj", "v_proj"}, {"gate_proj", "up_proj"})  # linear layers that read one input
_ATTENTION, _DOWN = {"o_proj"}, {"down_proj"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """What a micro-batch holds on a rank, pads counted."""

    sequences: int
    slots: int  # of a sequence
    audio_tokens: int  # slots that are audio, of all sequences
    supervised: int  # slots that are learned, of all sequences


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """Bytes on a rank."""

    weights: int
    gradients: int
    moments: int
    copies: int  # of weights in the type that is computed in: autocast's, or those that ranks gather
    kept: int  # for the backward pass
    passing: int  # while the loss, or a block, is computed
    stepping: int  # while AdamW steps: as many numbers as are trained, since it takes all tensors at once

    @property
    def peak(self) -> int:
        """The most that is held at a time, at most."""
        standing = self.weights + self.gradients + self.moments
        return standing + max(self.copies + self.kept + self.passing, self.stepping)


def memory(model: Omni, tuning: Tuning, load: Load, *, ranks: int = 1) -> Memory:
    """The memory of a step of a model that a Tuning has prepared, on whatever device, torch's meta, too.

    Args:
        model: its parameters say what is trained, and how each is held.
        tuning: what the model was prepared by.
        load: of a micro-batch.
        ranks: that share the step; with --shard they share the model, too.
    """
    shares = ranks if tuning.shard else 1
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    size = 2 if tuning.is_half else _FLOAT
    kept, passing = _activations(model, tuning, load, size)
    gradients = sum(_share(parameter, shares) for parameter in trained) * _FLOAT
    return Memory(
        weights=sum(_share(parameter, shares) * parameter.element_size() for parameter in model.parameters()),
        gradients=gradients,
        moments=2 * gradients,
        copies=_gathered(model, size) if shares > 1 else _cast(model) if size < _FLOAT else 0,
        kept=kept,
        passing=passing,
        stepping=gradients,
    )


def _share(parameter: nn.Parameter, ranks: int) -> int:
    """The numbers of a parameter that rank 0 has: FSDP2 divides its first dimension."""
    return -(-parameter.shape[0] // ranks) * (parameter.numel() // parameter.shape[0])


def _gathered(model: Omni, size: int) -> int:
    """What of a model that is divided is whole at a time.

    All that is in no block is, from the forward pass to the end of the backward pass. Of blocks one runs
    while the next is gathered; the gradients of one are divided, in float32 beside the type that it has.
    """

    def whole(parameters: Iterable[nn.Parameter], copies: int) -> int:
        return sum(p.numel() * (copies * size + p.requires_grad * (size + _FLOAT)) for p in parameters)

    blocks = model.speech_lm.blocks()
    inside = {id(parameter) for block in blocks for parameter in block.parameters()}
    root = [parameter for parameter in model.parameters() if id(parameter) not in inside]
    return whole(root, 1) + max(whole(block.parameters(), 2) for block in blocks)


def _cast(model: Omni) -> int:
    """Autocast's copies of the matrices that a gradient passes: it keeps them to the end of a pass."""
    encoder = model.speech_lm.encoder
    skipped = set[nn.Module]() if _is_trained(encoder) else {*encoder.modules()}
    kinds = (nn.Linear, nn.Conv1d)
    layers: list[Any] = [
        layer for layer in model.modules() if isinstance(layer, kinds) and layer not in skipped
    ]
    weights: Iterable[nn.Parameter] = {id(layer.weight): layer.weight for layer in layers}.values()
    return sum(2 * weight.numel() for weight in weights if weight.element_size() == _FLOAT)


def _is_trained(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def _activations(model: Omni, tuning: Tuning, load: Load, size: int) -> tuple[int, int]:
    """What is kept for the backward pass, and the most that comes and goes beside it."""
    lm: Any = model.speech_lm.lm
    head, config = lm.get_output_embeddings(), lm.config
    stream = lm.get_input_embeddings().weight.element_size()  # bytes of the numbers that blocks add to
    slots, (vocabulary, width) = load.sequences * load.slots, head.weight.shape
    block = max(_block(block, config, load, size, stream) for block in blocks_of(lm))
    again, kept_each = 0, block
    if tuning.gradient_checkpointing:
        again, kept_each = block, slots * width * stream
    in_encoder, passing_encoder = _encoder(model, load, size, tuning.gradient_checkpointing)
    turns = 2 * slots * _head_width(config) * stream  # of rotary positions
    kept = len(blocks_of(lm)) * kept_each + in_encoder + turns + load.sequences * load.slots**2
    kept += slots * _norm(lm.base_model.norm, width, 1, stream) + load.audio_tokens * _projector(model, size)
    part = min(load.supervised, SLOTS_AT_ONCE)  # more are made part by part, from what the head reads
    logarithms = part * vocabulary * _FLOAT  # of the probabilities
    in_parts = load.supervised > part
    kept += load.supervised * width * (_FLOAT if in_parts else size * head.weight.requires_grad)
    kept += 0 if in_parts else logarithms
    loss = (2 + in_parts) * logarithms  # two gradients of the logits, and what is computed again
    loss += slots * width * _FLOAT  # what the head reads
    working = again + slots * _working(config.intermediate_size, width, size)
    return kept, max(loss, working, passing_encoder)


def _working(inner: int, width: int, size: int) -> int:
    """Bytes of a slot that come and go while a block runs, forwards or backwards."""
    return 3 * inner * size + 4 * width * _FLOAT


def _head_width(config: Any) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def _projector(model: Omni, size: int) -> int:
    """Bytes that an audio token keeps in the projector."""
    first: Any = model.speech_lm.projector[0]
    second: Any = model.speech_lm.projector[2]
    return size * (first.in_features * first.weight.requires_grad + 2 * second.in_features)


def _block(block: nn.Module, config: Any, load: Load, size: int, stream: int) -> int:
    """Bytes that a block of a language model keeps."""
    heads, width = config.num_attention_heads, config.hidden_size
    groups = getattr(config, "num_key_value_heads", None) or heads
    head = _head_width(config)
    # Queries, keys and values, each as often as there are heads, the output, and a sum of each head.
    of_slot = 4 * head * heads * size + heads * _FLOAT
    of_slot += 3 * config.intermediate_size * size + sum(_inputs(block, size))
    for name, module in block.named_modules():
        if "Norm" in type(module).__name__:
            vectors = {"q_norm": heads, "k_norm": groups}.get(name.rpartition(".")[2], 1)
            of_slot += _norm(module, head * vectors if "_norm" in name else width, vectors, stream, size)
    mask = load.sequences * load.slots**2 * size
    return load.sequences * load.slots * of_slot + mask


def _norm(norm: nn.Module, width: int, vectors: int, stream: int, size: int | None = None) -> int:
    """Bytes of a slot that an RMSNorm keeps: its input in float32, factors, and what its weight is times."""
    normed = stream if vectors == 1 else size or stream
    return _FLOAT * (width + vectors) + (normed * width if _is_trained(norm) else 0)


def _inputs(block: nn.Module, size: int) -> Iterator[int]:
    """Bytes of a slot that linear layers keep as their inputs: of trained ones, of adapters in their place.

    In float32 layers that read the same keep it once; where autocast makes bfloat16 of it, each for itself.
    """
    seen = set[str]()
    for name, layer in block.named_modules():
        if not (isinstance(layer, nn.Linear) and layer.weight.requires_grad):
            continue
        parts, bytes_ = {*name.split(".")}, layer.in_features * size
        is_adapter = any(part.startswith("lora_") for part in parts)
        if "lora_B" in parts:
            yield bytes_
        elif parts & _ATTENTION:  # attention keeps its output
            yield bytes_ if is_adapter and size < _FLOAT else 0
        elif parts & _DOWN or size < _FLOAT:
            yield bytes_
        else:
            (kind,) = (str(sorted(names)) for names in _ONCE if parts & names)
            yield 0 if kind in seen else bytes_
            seen.add(kind)


def _encoder(model: Omni, load: Load, size: int, checkpointing: bool) -> tuple[int, int]:
    """Bytes that the encoder keeps for the backward pass, and the most while a block of it runs."""
    encoder: Any = model.speech_lm.encoder
    if not _is_trained(encoder):
        return 0, 0
    config, blocks = encoder.model.config, encoder.blocks()
    width, inner = config.d_model, config.encoder_ffn_dim
    positions = load.audio_tokens * model.speech_lm.frames_per_token * encoder.steps_per_frame // 2
    stream = max(size, encoder.model.embed_positions.weight.element_size())
    convolutions = size * (2 * config.num_mel_bins + 5 * width)  # two columns of features are a position
    norm = _FLOAT * (width + 2)  # its input, mean and deviation
    # Of queries, keys and values, and of the first layer: autocast makes a copy for each.
    inputs = width * (4 * size if size < _FLOAT else 2 * _FLOAT)
    attention = 5 * width * size + config.encoder_attention_heads * _FLOAT
    block = 2 * norm + inputs + attention + 2 * inner * size
    each, again = (width * stream, block) if checkpointing else (block, 0)
    kept = positions * (convolutions + norm + len(blocks) * each)
    return kept, positions * (again + _working(inner, width, size))
