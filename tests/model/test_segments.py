"""Language models whose segments see one another when they are packed are refused, by their architecture."""

from copy import deepcopy
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from transformers import AutoModelForCausalLM
from transformers import PreTrainedModel

from speechrows.errors import UsageError
from speechrows.model.segments import check_language_model

torch.set_num_threads(1)

SIZES: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16, "vocab_size": 40, "pad_token_id": 0, "eos_token_id": 2,
}  # fmt: skip
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
STATE = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8}
SLIDING = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 8}
CAPPED = {"query_pre_attn_scalar": 16, "final_logit_softcapping": 0.1}

PACKED: dict[str, dict[str, Any]] = {
    "Llama": SIZES,
    "Qwen2": SIZES,
    "Qwen3": SIZES,
    "Mistral": {**SIZES, "sliding_window": 8},
    "Gemma3Text": {**SIZES, **SLIDING, "query_pre_attn_scalar": 16},
    "SmolLM3": {**SIZES, "no_rope_layers": [1, 0]},
    "Phi3": SIZES,
    "Olmo2": SIZES,
    "Glm4": SIZES,
    "OPT": {"hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2, "vocab_size": 40,
            "num_attention_heads": 2, "word_embed_proj_dim": 32},
    "GPT2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": 40, "eos_token_id": 2},
    "Qwen3Moe": {**SIZES, **EXPERTS},
    "Mixtral": {**SIZES, "num_local_experts": 4},
}  # fmt: skip
CHANGES = "the second segment of a packed sequence changes with the first; expected causal attention"
HEAD = "its logits are scaled or capped, .* expected a plain head"
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "Lfm2": ({**SIZES, "layer_types": ["conv", "full_attention"]}, CHANGES),
    "FalconH1": ({**SIZES, **STATE, "mamba_d_ssm": 64}, CHANGES),
    "Bamba": ({**SIZES, **STATE, "attn_layer_indices": [1]}, CHANGES),
    "Mamba2": ({"hidden_size": 32, "num_hidden_layers": 1, "vocab_size": 40, "head_dim": 16, "num_heads": 4,
                "state_size": 8, "n_groups": 1}, CHANGES),
    "Rwkv": ({"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 40}, CHANGES),
    "Granite": ({**SIZES, "logits_scaling": 8.0}, HEAD),
    "Cohere": ({**SIZES, "logit_scale": 0.5}, HEAD),
    "Gemma2": ({**SIZES, **SLIDING, **CAPPED}, HEAD),
    "Bloom": ({"hidden_size": 32, "n_layer": 1, "n_head": 2, "vocab_size": 40}, "does not run on packed"),
}  # fmt: skip


def made(name: str, options: dict[str, Any], dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**deepcopy(options))
    return AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


@pytest.mark.parametrize("name", PACKED)
def test_segments_of_attention_do_not_see_one_another(name: str) -> None:
    lm: Any = made(name, PACKED[name])
    state = torch.get_rng_state()
    check_language_model(lm)
    assert torch.equal(torch.get_rng_state(), state), "the run's random numbers stay as they were"
    assert all(parameter.grad is None for parameter in lm.parameters())
    check_language_model(lm.to(torch.bfloat16).train())
    assert lm.training


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", REFUSED)
def test_a_model_whose_segments_see_one_another_or_that_has_more_than_a_head_is_refused(
    name: str, dtype: torch.dtype
) -> None:
    options, message = REFUSED[name]
    with pytest.raises(UsageError, match=f"language model {name}ForCausalLM: {message}"):
        check_language_model(made(name, options, dtype))


class NoBackward(torch.autograd.Function):
    """What has no gradient, as flex_attention on a CPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()


@pytest.mark.parametrize("name", ["Llama", "Qwen3Moe", "Lfm2"])
def test_segments_are_compared_where_attention_has_no_gradient(name: str) -> None:
    lm = made(name, PACKED[name] if name in PACKED else REFUSED[name][0])
    body: Any = lm.base_model
    norm = body.norm if hasattr(body, "norm") else body.embedding_norm
    norm.register_forward_hook(lambda _module, _inputs, output: NoBackward.apply(output))
    if name != "Lfm2":
        check_language_model(lm)
    else:
        with pytest.raises(UsageError, match=CHANGES):
            check_language_model(lm)
