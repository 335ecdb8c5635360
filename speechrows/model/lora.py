"""LoRA adapters in a language model (peft's), and weights with adapters as those of a model without."""

from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence

from torch import Tensor
from torch import nn
from transformers import PreTrainedModel

from speechrows.errors import UsageError

_A, _B, _BASE = ".lora_A.default.weight", ".lora_B.default.weight", ".base_layer."


def add_adapters(lm: PreTrainedModel, *, rank: int, alpha: int, targets: Sequence[str]) -> None:
    """Give linear layers of a language model adapters, which are then all that is trained of it.

    Args:
        lm: the language model, which is changed.
        rank: of an adapter.
        alpha: what an adapter adds is multiplied by alpha / rank.
        targets: how names of the layers end, such as q_proj; none for all linear layers but the head.

    Raises:
        UsageError: a target is the name of no linear layer, or there is none, as in GPT-2; or the rank is
            that of no layer.
    """
    from peft import LoraConfig  # noqa: PLC0415  # a second, and what reads weights with adapters needs none
    from peft import inject_adapter_in_model  # noqa: PLC0415

    head = lm.get_output_embeddings()
    linear = {
        name: min(layer.in_features, layer.out_features)
        for name, layer in lm.named_modules()
        if isinstance(layer, nn.Linear) and layer is not head
    }
    if not linear:
        raise UsageError(
            f"--lora-rank: found no linear layer (torch.nn.Linear) in {type(lm).__name__}, expected some: "
            "train it without adapters, all of it or what --train names"
        )
    chosen = _chosen(linear, targets, type(lm).__name__)
    most = max(linear[name] for name in chosen)
    if rank > most:
        raise UsageError(
            f"--lora-rank: found {rank}, expected at most {most}, the rank of the largest layer that has an "
            "adapter: 8 to 128 is usual, and more is no smaller than to train the layers themselves"
        )
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, target_modules=chosen), lm)


def _chosen(linear: Collection[str], targets: Sequence[str], kind: str) -> list[str]:
    """The linear layers whose names end as targets say, or all."""
    for target in targets:
        if not any(f".{name}".endswith(f".{target}") for name in linear):
            kinds = sorted({name.rpartition(".")[2] for name in linear})
            raise UsageError(
                f"--lora-target {target}: found no such linear layer of {kind}, expected some "
                f"of {', '.join(kinds)}"
            )
    return [name for name in linear if not targets or any(f".{name}".endswith(f".{end}") for end in targets)]


def merged(weights: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """Weights by name without adapters: what one adds, multiplied by `scale`, is added to its layer."""
    plain = dict[str, Tensor]()
    for name, weight in weights.items():
        if name.endswith((_A, _B)):
            continue
        layer, _, kind = name.rpartition(_BASE)
        if layer and kind == "weight":
            added = weights[layer + _B].float() @ weights[layer + _A].float()
            weight = weight.float() + scale * added  # noqa: PLW2901
        plain[f"{layer}.{kind}" if layer else name] = weight
    return plain
