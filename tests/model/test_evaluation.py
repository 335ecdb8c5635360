"""Evaluation: what is measured is right, and on rows that a model has not heard."""

import math
from collections import Counter
from itertools import takewhile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from toys.building import build_rows
from toys.building import made_up
from toys.samples import XTTS
from toys.training import run

import speechrows
from speechrows.loader.batch import Batch
from speechrows.model.codes import CodeSums
from speechrows.model.evaluation import Evaluation
from speechrows.model.evaluation import decoded
from speechrows.model.lanes import Lanes
from speechrows.model.omni import omni
from speechrows.model.shape import ModelShape
from speechrows.text.word_errors import errors


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluation")
    build_rows(XTTS, out / "heard", "transcription")
    codes = made_up(out / "heard", "mimi", out / "codes")
    build_rows(XTTS, out / "rows", "ttt")
    build_rows(XTTS, out / "rows", "s2s_mimi", generated=(codes,))
    return out / "rows"


class Parrot:
    """A model that says what a row says, but for its second token; it keeps the batches that it is given."""

    audio_head = None

    def __init__(self) -> None:
        self.asked: list[Batch] = []
        self.speech_lm = self

    def eval(self) -> None: ...

    def train(self) -> None: ...

    def generate(self, batch: Batch, *, max_new_tokens: int, end_ids: set[int], rows: slice) -> Any:
        self.asked.append(batch)
        said = list[list[int]]()
        for sequence, start, stop in batch.row_spans[rows].tolist():
            first = start + int((batch.labels[sequence, start:stop] >= 0).nonzero()[0])
            ids = batch.input_ids[sequence, first:stop].tolist()
            said.append([*takewhile(lambda token: token not in end_ids, ids)])
        return SimpleNamespace(tokens=[[*tokens[:1], *tokens[2:]] for tokens in said])


def evaluation(
    model: Any, rows: Any, share: tuple[int, int] = (0, 1), total: Any = lambda x: x, decode: int = 5
) -> Evaluation:
    return Evaluation(
        model=model, sets={"held-out": rows}, decode=decode, training=None, decode_training=0, share=share,
        total=total, tell=print,
    )  # fmt: skip


def test_errors_are_counted_over_all_texts_in_lower_case_without_punctuation() -> None:
    expected, said = ["Yes.", "one two, three four"], ["no", "One two three five six"]
    words, num_words, characters, num_characters = errors(expected, said)
    assert (words, num_words) == (1 + 2, 1 + 4)  # a mean of the rates of texts would be 0.75
    assert num_characters == len("yes") + len("one two three four")
    assert characters > 0
    assert errors(["Well, hello!"], ["well hello"])[::2] == (0, 0)
    assert errors([""], ["a b"])[:2] == (2, 0)


def test_a_row_is_decoded_after_what_stands_before_it_in_its_conversation_as_far_as_it_fits(
    rows: Path,
) -> None:
    loader = speechrows.load(str(rows), "ttt", mode="lanes", context=512)
    index = loader.index
    for batch, number in zip(
        loader.batches(loader.with_rows_before([*range(len(index))])), range(len(index)), strict=True
    ):
        assert batch.row_ids[-1] == index.row_id(number)
        turns = [*batch.turn_numbers]
        assert turns == [*range(turns[0], int(index.turn_number[number]) + 1)]
        assert {*batch.conversation_ids} == {batch.conversation_ids[-1]}
        first = number - len(turns)
        if turns[0] > 0:  # another would not fit
            assert index.num_tokens[first : number + 1].sum() > 512
        assert batch.attention_mask.sum() == index.num_tokens[first + 1 : number + 1].sum()


def test_the_sample_is_spread_over_a_set_the_same_each_time_and_shared_by_ranks(rows: Path) -> None:
    loader = speechrows.load(str(rows), "ttt", mode="pack", context=4096)
    parrot = Parrot()
    one = evaluation(parrot, loader)._of_texts(loader)
    asked = [batch.row_ids[-1] for batch in parrot.asked]
    assert asked == loader.index.row_ids([len(loader.index) * i // 5 for i in range(5)])
    loader.set_epoch(3)
    assert evaluation(Parrot(), loader)._of_texts(loader) == one
    sums, of_ranks = list[torch.Tensor](), [Parrot(), Parrot()]
    for rank, model in enumerate(of_ranks):
        evaluation(model, loader, (rank, 2), lambda x: sums.append(x) or x)._of_texts(loader)
    assert [[batch.row_ids[-1] for batch in model.asked] for model in of_ranks] == [asked[::2], asked[1::2]]
    assert evaluation(parrot, loader, total=lambda _: sums[0] + sums[1])._of_texts(loader) == one
    assert {*one} == {"ttt/wer", "ttt/cer"}
    assert 0 < one["ttt/cer"] < 1


def test_a_model_does_not_see_what_it_is_to_decode(rows: Path) -> None:
    torch.manual_seed(0)
    loader = speechrows.load(str(rows), "ttt", mode="lanes", context=512, mel=80)
    model = omni(ModelShape(ttt_layers=1, ttt_mini_batch=16), loader.tokenizer).speech_lm
    (batch,) = loader.batches(loader.with_rows_before([3]))
    sequence, start, stop = batch.row_spans[-1].tolist()
    supervised = [slot for slot in range(start, stop) if batch.labels[sequence, slot] >= 0]
    end, last = {int(batch.labels[sequence, supervised[-1]])}, slice(len(batch) - 1, None)
    before = model.generate(batch, max_new_tokens=6, end_ids=end, rows=last).tokens
    batch.input_ids[sequence, supervised] = 7
    assert model.generate(batch, max_new_tokens=6, end_ids=end, rows=last).tokens == before
    (row,) = decoded(model, loader, np.array([3], np.int32))
    assert row.tokens[:6] == before[0]


def test_codes_are_judged_by_codebook_beside_their_entropy(rows: Path) -> None:
    torch.manual_seed(0)
    loader = speechrows.load(str(rows), "s2s_mimi", budget_seconds=60, mel=80)
    model = omni(ModelShape(), loader.tokenizer, loader.codec())
    head = model.audio_head
    assert head is not None
    with torch.no_grad():  # of codebook 0 every code has the same chance, and code 0 is chosen
        head.semantic.weight.zero_()
        head.semantic.bias.zero_()
    sums, codes, losses, counts = CodeSums(head), list[list[int]](), torch.zeros(3), torch.zeros(3)
    model.eval()
    for batch in loader:
        with torch.no_grad():
            output = model(batch)
            sums.add(output.text.hidden_states, batch)
        assert output.codec is not None
        assert batch.codec_targets is not None
        losses += output.losses()
        counts += torch.tensor([1, output.codec.num_semantic, output.codec.num_depth])
        for targets, length in zip(batch.codec_targets, batch.codec_lengths, strict=True):
            codes.append(targets[0, :length].tolist())
    report = sums.report(lambda x: x)
    _, semantic, depth = (losses / counts).tolist()
    assert report["s2s_mimi/codec_loss"] == pytest.approx(semantic + depth, rel=1e-4)
    assert report["s2s_mimi/codebook_0_bits"] == pytest.approx(math.log2(head.spec.cardinality + 1))
    times = Counter(code for clip in codes for code in clip)
    assert report["s2s_mimi/codebook_0_accuracy"] == pytest.approx(times[0] / times.total())
    entropy = -sum(count / times.total() * math.log2(count / times.total()) for count in times.values())
    assert report["s2s_mimi/codebook_0_entropy"] == pytest.approx(entropy)
    bits = [report[f"s2s_mimi/codebook_{k}_bits"] for k in range(1, head.spec.num_codebooks)]
    assert sum(bits) / len(bits) * math.log(2) == pytest.approx(depth, rel=1e-4)


def test_the_names_of_a_report_are_known_before_it(rows: Path) -> None:
    torch.manual_seed(0)
    loader = speechrows.load(str(rows), "s2s_mimi", budget_seconds=60, mel=80)
    model = omni(ModelShape(), loader.tokenizer, "mimi")
    judged = evaluation(model, loader, decode=1)
    report = judged.report(Lanes((), 1))
    assert sorted(report) == sorted(judged.names())
    assert {"held-out/s2s_mimi/wer", "held-out/s2s_mimi/codebook_7_entropy"} <= {*report}


def test_a_run_is_judged_on_what_it_decodes(rows: Path, tmp_path: Path, capsys: Any) -> None:
    flags = ["--steps", "1", "--eval", f"heard={rows}:ttt:train", "--eval-decode", "2"]
    *_, last = run(rows, tmp_path, *flags)
    assert {"heard/ttt/text_loss", "heard/ttt/wer", "heard/ttt/cer"} <= {*last}
    assert "heard/ttt/wer" in capsys.readouterr().out.splitlines()[-1]
