"""What of a model is trained, how its weights are held, and how fast its parts learn."""

import re
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from speechrows.errors import UsageError
from speechrows.flags import flag
from speechrows.model.lora import add_adapters
from speechrows.model.model_folder import read_flags
from speechrows.model.omni import Omni
from speechrows.model.recompute import recompute

_PARTS = {"encoder": "speech_lm.encoder.", "lm": "speech_lm.lm."}  # by the beginning of a parameter's name


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What of a model is trained, and at what cost of memory. Each field is a flag."""

    train: tuple[str, ...] = flag((), "regex of parameters' names: train these alone; repeatable")
    freeze: tuple[str, ...] = flag((), "regex of parameters' names: leave these as they are; repeatable")
    freeze_encoder: bool = flag(False, "leave the speech encoder as it is")
    lora_rank: int = flag(0, "train adapters of the language model in its place (peft); 0: none", least=0)
    lora_alpha: int = flag(0, "adapters count alpha / rank times; 0: twice", least=0)
    lora_target: tuple[str, ...] = flag(
        (), "linear layers with adapters, such as q_proj; repeatable; else all"
    )
    encoder_lr_scale: float = flag(1.0, "of the learning rate, for the speech encoder", least=0)
    lm_lr_scale: float = flag(1.0, "of it, for the language model and its adapters", least=0)
    new_lr_scale: float = flag(1.0, "of it, for the projector, TTT layers and the audio head", least=0)
    weight_decay: float = flag(0.01, "of AdamW; norms and biases have none", least=0)
    dtype: str = flag(
        "float32",
        "of weights that are not trained; bfloat16: --mixed-precision bf16, too",
        choices=["float32", "bfloat16"],
    )
    mixed_precision: str = flag("no", "bf16 computes in it, and halves what is kept", choices=["no", "bf16"])
    gradient_checkpointing: bool = flag(False, "keep less for the backward pass, and compute it again")
    shard: bool = flag(False, "divide weights, gradients and moments among the ranks (FSDP2)")

    @property
    def is_half(self) -> bool:
        """Whether a step is computed in bfloat16, as weights that are held in it need."""
        return self.mixed_precision == "bf16" or self.dtype == "bfloat16"

    @property
    def alpha(self) -> int:
        """LoRA's alpha."""
        return self.lora_alpha or 2 * self.lora_rank

    @property
    def lora_scale(self) -> float:
        """What adapters are multiplied by; 0 where there are none."""
        return self.alpha / self.lora_rank if self.lora_rank else 0.0

    @property
    def adapters(self) -> str:
        """The flags that say how large adapters are, how much they count, and what has them."""
        if not self.lora_rank:
            return "--lora-rank 0"
        targets = [f"--lora-target {target}" for target in sorted({*self.lora_target})]
        return " ".join((f"--lora-rank {self.lora_rank} --lora-alpha {self.alpha}", *targets))

    def check_adapters(self, folder: Path) -> None:
        """Check that adapters are those that a checkpoint has, which is gone on from.

        Raises:
            UsageError: they are not, as the flags of its run tell.
        """
        flags = read_flags(folder)
        given = {name: flags[name] for name in ("lora_rank", "lora_alpha", "lora_target") if name in flags}
        before = Tuning(**given).adapters
        if flags and self.adapters != before:
            raise UsageError(
                f"{folder}: can not be gone on from with {self.adapters}: expected {before}, as its run had; "
                "--init-from begins another run with its weights"
            )

    def prepare(self, model: Omni) -> None:
        """Give a model its adapters, choose what is trained of it, and how it is held.

        Raises:
            UsageError: a pattern matches no parameter, or none is left to train; adapters are described, and
                have no rank; see also add_adapters.
        """
        if not self.lora_rank and (self.lora_alpha or self.lora_target):
            raise UsageError(
                "--lora-alpha, --lora-target: found no --lora-rank; expected one, such as 16: without it "
                "there are no adapters, and all of the language model is trained"
            )
        if self.lora_rank:
            add_adapters(model.speech_lm.lm, rank=self.lora_rank, alpha=self.alpha, targets=self.lora_target)
        self._choose(model)
        if self.dtype == "bfloat16":
            hold(model, torch.bfloat16)
        if self.gradient_checkpointing:
            for block in model.speech_lm.blocks():
                recompute(block)

    def _choose(self, model: nn.Module) -> None:
        # By all its names: a head that is tied to the embeddings is one parameter with two.
        every = [*model.named_parameters(remove_duplicate=False)]
        names = {name: parameter for name, parameter in every if parameter.requires_grad}
        chosen = _matching(names, self.train, "--train") if self.train else {*names.values()}
        chosen -= _matching(names, self.freeze, "--freeze") if self.freeze else set()
        if self.freeze_encoder:
            chosen -= {names[name] for name in names if name.startswith(_PARTS["encoder"])}
        if not chosen:
            raise UsageError("--train, --freeze: found no parameter that is left to train; expected some")
        for _, parameter in every:
            parameter.requires_grad_(parameter in chosen)

    def optimizer(self, model: nn.Module) -> torch.optim.AdamW:
        """AdamW of what is trained, in groups: each has its `scale` of the learning rate, decay or none.

        Raises:
            UsageError: a scale is 0.
        """
        scales = {"encoder": self.encoder_lr_scale, "lm": self.lm_lr_scale, "new": self.new_lr_scale}
        groups = dict[tuple[str, bool], list[nn.Parameter]]()
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                part = next((part for part, begin in _PARTS.items() if name.startswith(begin)), "new")
                groups.setdefault((part, _decays(name, parameter)), []).append(parameter)
        for part in {part for part, _ in groups}:
            if not scales[part]:
                raise UsageError(
                    f"--{part}-lr-scale: found 0, expected more; --freeze leaves parts as they are"
                )
        options: list[dict[str, Any]] = [
            {"params": parameters, "scale": scales[part], "weight_decay": self.weight_decay * decays}
            for (part, decays), parameters in groups.items()
        ]
        return torch.optim.AdamW(options, lr=1.0)


def hold(model: nn.Module, dtype: torch.dtype) -> None:
    """Hold the matrices that are not trained in a type.

    What is trained stays as it is: its steps are smaller than bfloat16 can tell. So do norms and biases,
    which are small, and some kernels want with their input.
    """
    for parameter in model.parameters():
        if not parameter.requires_grad and parameter.dim() > 1:
            parameter.data = parameter.data.to(dtype)


def _matching(names: Mapping[str, nn.Parameter], patterns: Sequence[str], flag: str) -> set[nn.Parameter]:
    matching = set[nn.Parameter]()
    for pattern in patterns:
        try:
            of_pattern = {parameter for name, parameter in names.items() if re.search(pattern, name)}
        except re.error as error:
            raise UsageError(
                f"{flag} {pattern}: found no regular expression ({error}), expected one of parameters' names"
            ) from error
        if not of_pattern:
            parts = {".".join(name.split(".")[: 1 + name.startswith("speech_lm")]): None for name in names}
            raise UsageError(
                f"{flag} {pattern}: matches no parameter that may be trained; expected a regular expression "
                f"that is found in some of their names, such as {', '.join(parts)}"
            )
        matching |= of_pattern
    return matching


def _decays(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay is for a parameter: norms and biases, of heads too, have none."""
    last = name.rpartition(".")[2]
    return parameter.dim() > 1 and "bias" not in last and "norm" not in last
