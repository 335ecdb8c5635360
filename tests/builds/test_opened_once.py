"""What a build reads is opened once: the corpus is listed once, the tokenizer loaded once."""

import json
from pathlib import Path

from toys.processes import run_python
from toys.samples import XTTS

from speechrows.text import tokenizers

# A corpus module whose Corpus notes each listing, and a run of `speechrows build` that notes each opening
# of the tokenizer's files. In a process of its own: what was hooked stays hooked.
MODULE = """
from speechrows.builder import DIALOGUE_CONFIGS
from speechrows.builder import Corpus
from deepdialogue_ttt import DeepDialogueTTT

listings = []


class CountedCorpus(Corpus):
    def list(self):
        listings.append(self.root)
        return super().list()


class CountedConfig(DeepDialogueTTT.BUILDER_CONFIG_CLASS):
    def open_corpus(self):
        return CountedCorpus(**vars(super().open_corpus()))


class CountedTTT(DeepDialogueTTT):
    BUILDER_CONFIG_CLASS = CountedConfig
    BUILDER_CONFIGS = [CountedConfig(name=name) for name in DIALOGUE_CONFIGS]
"""
RUN = """
import json, os, sys
from speechrows.cli import main
from speechrows.text import tokenizers

module, corpus, tokenizer, out, *configs = sys.argv[1:]
opened = []


def note(event, args):
    if event == "open" and str(args[0]).startswith(tokenizer):
        opened.append(args[0])


sys.addaudithook(note)
tokenizers.open_tokenizer(tokenizer)
once, counts = len(opened), []
for config in configs:
    opened.clear()
    command = ["build", module, config, "--data-dir", corpus, "--tokenizer", tokenizer, "--out", out]
    assert main(command) == 0
    listings = sys.modules["counted_ttt"].listings
    counts.append({"listings": len(listings), "tokenizers": len(opened) / once})
    listings.clear()
print(json.dumps(counts))
"""


def test_a_build_lists_its_corpus_once_and_loads_its_tokenizer_once(tmp_path: Path) -> None:
    module = tmp_path / "counted_ttt.py"
    module.write_text(MODULE, "utf-8")
    tokenizers.save(tokenizers.byte_level(), tmp_path / "tokenizer")
    arguments = [module, XTTS, tmp_path / "tokenizer", tmp_path / "rows", "ttt", "transcription"]
    printed = run_python(RUN, *arguments)
    once = {"listings": 1, "tokenizers": 1}
    assert json.loads(printed.splitlines()[-1]) == [once, once]
