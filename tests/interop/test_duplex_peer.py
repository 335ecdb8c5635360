"""`load_duplex` gives what NeMo's own data set gives of the same rows, exported: sound, tokens, texts."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from toys.building import read_rows
from toys.nemo import nemo
from toys.nemo import read
from toys.peer_turns import CORPORA
from toys.peer_turns import build_corpus
from toys.peer_turns import export
from transformers import PreTrainedTokenizerFast

from speechrows.views.duplex import load_duplex

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}


class Words:
    """A tokenizer as NeMo has one: an id a word, so that every text fits its frames."""

    def __init__(self, texts: list[str]) -> None:
        words = dict.fromkeys([*SPECIAL.values(), *(word for text in texts for word in text.split())])
        model = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, "<unk>"))
        model.pre_tokenizer = WhitespaceSplit()
        self.ours = PreTrainedTokenizerFast(tokenizer_object=model, **SPECIAL)
        self.bos, self.eos = self.ours.bos_token_id, self.ours.eos_token_id
        self.pad = self.pad_id = self.ours.pad_token_id

    def text_to_ids(self, text: str) -> list[int]:
        return self.ours.encode(text, add_special_tokens=False)


@pytest.mark.parametrize("corpus", CORPORA)
def test_a_duplex_batch_is_nemos_own(corpus: str, tmp_path: Path) -> None:
    rows, _ = build_corpus(tmp_path, corpus)
    read_back = read_rows(rows)
    tokenizer = Words([row["transcript"] for row in read_back])
    out = export("nemo", rows, "--form", "duplex")
    lhotse, num_made = pytest.importorskip("lhotse"), 0
    data_set = nemo("collections.speechlm2.data.s2s_dataset").DuplexS2SDataset
    for cfg in sorted(out.glob("*.yaml")):
        with contextlib.chdir(out):
            cuts = read(yaml.safe_load(cfg.read_text("utf-8")))
        rate = cuts[0].sampling_rate
        ours = batches_of(rows, cfg.stem, rate, tokenizer.ours)
        for cut in cuts:
            theirs = data_set(tokenizer, 0.08, rate, rate)[lhotse.CutSet.from_cuts([cut])]
            batch = ours[cut.id]
            assert {*batch} == {*theirs, "conversation_ids"}
            for name, value in theirs.items():
                if isinstance(value, torch.Tensor):
                    assert batch[name].dtype == value.dtype, name
                    assert torch.equal(batch[name], value), name
                else:
                    assert batch[name] == value, name
            num_made += 1
    assert num_made == len({row["conversation_id"] for row in read_back})


def batches_of(rows: Path, split: str, rate: int, tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """Our batches of a split, each of one conversation."""
    loader = load_duplex(
        rows,
        "ttt",
        split,
        source_sample_rate=rate,
        target_sample_rate=rate,
        tokenizer=tokenizer,
        batch_size=1,
        shuffle=False,
    )
    return {batch["conversation_ids"][0]: batch for batch in loader}
