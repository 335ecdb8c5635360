"""`speechrows.load_duplex`: both sides of whole conversations in time, as NeMo's own data set gives them."""

import json
import pickle
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers import models
from toys.audio import wav
from toys.building import build_rows
from toys.corpus import write_corpus
from toys.examples import FEW
from toys.mini_hub import MiniHub
from toys.publishing import publish
from toys.samples import SAMPLE_OF
from toys.timed_talks import EXACT
from toys.timed_talks import ODD
from toys.timed_talks import RATE
from toys.timed_talks import Said
from toys.timed_talks import build_timed
from toys.timed_talks import channels_of
from toys.timed_talks import pcm
from toys.tokenizer import bpe
from transformers import PreTrainedTokenizerFast

import speechrows
from speechrows.errors import UsageError
from speechrows.loader.collate.resample import resampled

GOLDEN = json.loads((Path(__file__).parents[1] / "conversations/nemo_duplex.json").read_text("utf-8"))
RATES = {"source_sample_rate": RATE, "target_sample_rate": RATE}
KEYS = {
    "source_audio": torch.float32,
    "source_audio_lens": torch.int32,
    "target_audio": torch.float32,
    "target_audio_lens": torch.int32,
    "target_tokens": torch.int64,
    "target_token_lens": torch.int64,
    "source_tokens": torch.int64,
    "source_token_lens": torch.int64,
}


def letters() -> PreTrainedTokenizerFast:
    """One id a character, its own number; pad 0, bos 1, eos 2: the tokenizer of the golden values."""
    vocab = {"<pad>": 0, "<s>": 1, "</s>": 2, **{chr(code): code for code in range(32, 127)}}
    core = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


def opened(rows: Any, config: str = "ttt", **options: Any) -> Any:
    defaults = {**RATES, "tokenizer": letters(), "overflow": "cut", "batch_size": 2}
    return speechrows.load_duplex(rows, config, **{**defaults, **options})


def by_id(batches: Iterable[Any]) -> dict[str, dict[str, Any]]:
    """What each conversation has, without the padding of its batch."""
    talks = dict[str, dict[str, Any]]()
    for batch in batches:
        for row, name in enumerate(batch["conversation_ids"]):
            assert name not in talks
            talks[name] = {"target_texts": batch["target_texts"][row]}
            for key in ("source_audio", "target_audio", "source_tokens", "target_tokens"):
                lens = batch[f"{key.removesuffix('s')}_lens"]
                talks[name][key] = batch[key][row, : lens[row]]
                rest = batch[key][row, lens[row] :]
                assert (rest == 0).all()
                assert batch[key].shape[1] == lens.max()
    return talks


@pytest.fixture(scope="module")
def timed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Conversations with overlap, whose samples are known exactly."""
    return build_timed(tmp_path_factory.mktemp("timed"), EXACT)


@pytest.fixture(scope="module")
def talks(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Ten conversations of synthetic speech."""
    base = tmp_path_factory.mktemp("talks")
    build_rows(write_corpus(base / "corpus", dialogues=10, seconds=0.3), base / "rows")
    return str(base / "rows")


def test_a_batch_has_nemos_keys_dtypes_and_shapes(timed: str) -> None:
    (batch,) = opened(timed, batch_size=3, target_sample_rate=22_050)
    assert {*batch} == {*KEYS, "target_texts", "conversation_ids"}
    assert {key: batch[key].dtype for key in KEYS} == KEYS
    seconds = [name.rpartition("/")[2] for name in batch["conversation_ids"]]
    lengths = {"overlap": 59_200, "deep": 38_400, "answer only": 12_800}
    assert batch["source_audio_lens"].tolist() == [lengths[name] for name in seconds]
    assert batch["target_audio_lens"].tolist() == [lengths[name] * 22_050 // RATE for name in seconds]
    frames = [(lengths[name] + 640) // 1280 for name in seconds]
    assert batch["source_token_lens"].tolist() == batch["target_token_lens"].tolist() == frames
    assert batch["source_tokens"].shape == batch["target_tokens"].shape == (3, max(frames))
    said = dict(zip(seconds, batch["target_texts"], strict=True))
    assert said == {"overlap": "overlap 1.", "deep": "deep 2.", "answer only": "answer only 0."}
    by_id([batch])


def golden_talks() -> dict[str, list[Said]]:
    """The golden cases as clips, but for those of a third speaker, of no text, and of a turn of no frame."""
    return {
        case["name"]: [
            ({"user": "user", "agent": "assistant"}[turn["speaker"]], turn["start"],
             pcm(16, turn["duration"]), "PCM_16", RATE)
            for turn in case["turns"]
        ]
        for case in GOLDEN["cases"]
        if not case["name"].startswith(("10_", "12_", "15_"))
    }  # fmt: skip


def test_the_whole_way_gives_the_tokens_that_nemo_gave(tmp_path: Path) -> None:
    (tmp_path / "talks").mkdir()
    cases = {case["name"]: case for case in GOLDEN["cases"]}
    rows = list[dict[str, Any]]()
    for name, turns in golden_talks().items():
        for number, (role, start, samples, *_) in enumerate(turns):
            (tmp_path / f"talks/{name}-{number}.wav").write_bytes(wav(samples, RATE, "PCM_16"))
            facts = {"conversation": name, "turn": number, "role": role, "speaker": role, "start": start}
            text = cases[name]["turns"][number]["text"]
            rows.append({"audio": f"{name}-{number}.wav", "text": text, **facts})
    (tmp_path / "talks/talks.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    build_rows(tmp_path / "talks", tmp_path / "rows", "ttt", builder="audio_table")
    given = by_id(opened(str(tmp_path / "rows"), target_sample_rate=22_050))
    for name in golden_talks():
        case, talk = cases[name], given[f"talks/train/{name}"]
        for key in ("source_tokens", "target_tokens"):
            num_frames = len(talk[key])  # ours end with the last turn, the cut may be longer
            assert talk[key].tolist() == case["stt"][key][:num_frames], name
            if case["ours"] == "same":
                assert talk[key].tolist() == case["nemo"][key][0][:num_frames]
        assert talk["target_texts"] == case["nemo"]["target_texts"][0]


def test_each_side_is_heard_where_it_speaks_sample_for_sample(timed: str) -> None:
    heard = by_id(opened(timed, batch_size=1))
    for name, turns in EXACT.items():
        channels = channels_of(turns, [turn[1] or 0.0 for turn in turns])
        for key, expected in zip(("source_audio", "target_audio"), channels, strict=True):
            exact = torch.from_numpy(expected.astype(np.float32))
            assert torch.allclose(heard[f"talks/train/{name}"][key], exact, atol=2**-15, rtol=0)


def test_a_channel_at_another_rate_is_the_whole_channel_resampled(timed: str) -> None:
    plain, other = by_id(opened(timed)), by_id(opened(timed, source_sample_rate=22_050))
    for name, talk in plain.items():
        whole = resampled(talk["source_audio"][None], RATE, 22_050)[0].clamp(-1, 1)
        got = other[name]["source_audio"]
        assert torch.allclose(got, whole[: len(got)], atol=1e-5)
        assert 0 <= len(whole) - len(got) <= 1


def test_roles_may_be_swapped_and_speakers_named(timed: str) -> None:
    plain = by_id(opened(timed))
    swapped = by_id(opened(timed, input_roles=("assistant",), output_roles=("user",)))
    named = by_id(opened(timed, input_roles=("Bob",), output_roles=("Ann",)))
    for name, talk in plain.items():
        for other in (swapped[name], named[name]):
            assert torch.equal(talk["source_audio"], other["target_audio"])
            assert torch.equal(talk["target_tokens"], other["source_tokens"])


def test_turns_without_times_follow_one_another_after_a_gap(talks: str) -> None:
    for gap in (0.0, 0.5):
        loader = opened(talks, gap=gap, batch_size=1)
        index = loader.index
        seconds = np.bincount(index.conversation, index.num_samples / index.sampling_rate)
        turns = np.bincount(index.conversation)
        expected = sorted((seconds + gap * (turns - 1)).tolist())
        given = sorted(len(talk["source_audio"]) / RATE for talk in by_id(loader).values())
        assert given == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("builder", ["deepdialogue_ttt", "multidialog_ttt", "dailytalk_usdm", "lhotse_cuts"])
def test_the_bundled_corpora_are_conversations_of_two_sides(builder: str, tmp_path: Path) -> None:
    options = {"assistant": "second"} if builder == "lhotse_cuts" else {}
    build_rows(SAMPLE_OF[builder], tmp_path, "ttt", builder=builder, **options)
    loader = opened(str(tmp_path), tokenizer=bpe(), batch_size=1)
    assert len(loader)
    for batch in loader:
        audio, lens = batch["source_audio"], batch["source_audio_lens"]
        assert abs(audio).max() > 0.01
        assert (batch["target_token_lens"] - lens / 1280).abs().max() <= 1
        assert abs(batch["target_audio"]).max() > 0.01 or batch["target_texts"] == [""]


def test_what_does_not_fit_is_an_error_that_names_it_or_cut_and_counted(tmp_path: Path) -> None:
    early = {"early": [("user", -0.25, pcm(16, 0.5), "PCM_16", RATE), *EXACT["answer only"]]}
    rows = build_timed(tmp_path, {"collide": ODD["collide"], "rates": ODD["rates"], **early})
    with pytest.raises(UsageError, match=r"^talks/train/\w+: the turn from .* an id a byte; .* word pieces"):
        [*opened(rows, overflow="error", batch_size=1)]
    with pytest.raises(UsageError, match=r"^talks/train/early: user's turn 'early 0.' begins at -0.25 s"):
        [*opened(rows, overflow="error", batch_size=1, shuffle=False, frame_length=0.01)]
    loader = opened(rows, frame_length=0.01)
    heard = by_id(loader)
    assert loader.changes == {
        "turns moved behind the one before of their side, which they overlapped": 1,
        "turns that began before 0 s: cut to what is after it": 1,
    }
    samples = torch.from_numpy(early["early"][0][2][4000:, 0].astype(np.float32))
    early_source = heard["talks/train/early"]["source_audio"]
    assert torch.allclose(early_source[:4000], samples, atol=2**-15)
    assert (len(early_source), int(early_source[4000:].count_nonzero())) == (12_800, 0)
    assert len(heard["talks/train/rates"]["source_audio"]) == RATE + 6400  # of 8 kHz, at its neighbour's
    cut = opened(rows)
    assert len(by_id(cut)) == 3
    assert cut.changes["texts cut to the frames of their turn"] > 0


def test_a_conversation_of_more_than_four_hours_is_refused_by_name(tmp_path: Path) -> None:
    rows = build_timed(tmp_path, {"five hours": ODD["five hours"]})
    with pytest.raises(UsageError, match=r"^talks/train/five hours: lasts 18,000 s; expected at most 14,400"):
        [*opened(rows)]


def test_wrong_calls_say_what_is_expected(timed: str, talks: str, tmp_path: Path) -> None:
    for options, words in (
        ({"tokenizer": None}, "no bos token"),
        ({"tokenizer": 5}, "tokenizer: found 5, expected a name"),
        ({"device": None}, "device: found None, expected cpu"),
        ({"device": "xpu"}, "device: found 'xpu', which is not here"),
        ({"output_roles": ("agnt",)}, "neither in input_roles"),
        ({"overflow": "drop"}, "overflow: found 'drop', expected error or cut"),
        ({"frame_length": 0}, "frame_length: found 0"),
        ({"frame_length": 1e-5}, "less than a sample at 16000 Hz"),
        ({"gap": -1}, "gap: found -1"),
        ({"source_sample_rate": 0}, "sample rates: found 0"),
        ({"source_sample_rate": 16_000.5}, "sample rates: found 16000.5, expected a whole number"),
        ({"batch_size": None}, "conversations take batch_size, budget_seconds, or both"),
        ({"shuffle": False, "budget_seconds": 9}, "budget_seconds sorts"),
        ({"budget_seconds": 1}, r"talks/.*: .* s, the longest of \d conversations too long"),
        ({"rank": 1}, "rank: found 1 of 1"),
        ({"config": "response"}, "it has ttt"),
    ):
        with pytest.raises(UsageError, match=words):
            [*opened(timed, **options)]
    with pytest.raises(UsageError, match=r"which are a view's; call speechrows.load_duplex"):
        speechrows.load(talks, "ttt", "train", "conversations", batch_size=2)  # type: ignore[arg-type]
    build_rows(SAMPLE_OF["deepdialogue_ttt"], tmp_path, "response")
    with pytest.raises(UsageError, match="rows of response are no turns with a clip each; expected a config"):
        opened(str(tmp_path), "response")


def contents(loader: Any) -> list[Any]:
    return [(batch["conversation_ids"], batch["source_tokens"].tolist()) for batch in loader]


@FEW
@given(
    st.sampled_from([{"batch_size": 2}, {"budget_seconds": 6, "too_long": "drop"}]), st.booleans(), st.data()
)
def test_an_epoch_has_each_conversation_once_wherever_it_was_stopped_on_any_ranks(
    talks: str, bounds: dict[str, Any], windowed: bool, data: st.DataObject
) -> None:
    options = {**bounds, "micro_batches": 3, "seed": data.draw(st.integers(0, 9))}
    if windowed:
        options["window_bytes"] = 100_000
    whole = contents(opened(talks, **options))
    names = [name for ids, _ in whole for name in ids]
    assert len({*names}) == len(names) == 10
    world_size = data.draw(st.sampled_from([1, 2, 3, 5]))
    ranks = [
        contents(opened(talks, rank=rank, world_size=world_size, **options)) for rank in range(world_size)
    ]
    rounds = -(-3 // world_size)
    shared = [
        batch
        for step in range(len(ranks[0]) // rounds)
        for turn in range(rounds)
        for rank in ranks
        if (batch := rank[step * rounds + turn])[0]
    ]
    assert shared == [batch for batch in whole if batch[0]]


def test_a_run_goes_on_from_any_batch_as_if_it_had_never_stopped(talks: str) -> None:
    options = {"batch_size": 3, "micro_batches": 2, "num_threads": 1}
    whole = contents(opened(talks, **options))
    assert len(whole) == len(opened(talks, **options)) == 4
    for stop in range(4):
        loader, resumed = opened(talks, **options), opened(talks, **options)
        seen = contents(islice(loader, stop))
        state = json.loads(json.dumps(loader.state_dict()))
        resumed.load_state_dict(state)
        assert seen + contents(pickle.loads(pickle.dumps(resumed))) == whole
    other = opened(talks, batch_size=2, micro_batches=2)
    with pytest.raises(UsageError, match="of another plan: batch_size 3, here 2"):
        other.load_state_dict(state)


def test_without_shuffle_conversations_come_in_file_order_and_epochs_differ_with_it(talks: str) -> None:
    in_order = opened(talks, shuffle=False, batch_size=4)
    names = [name for ids, _ in contents(in_order) for name in ids]
    ids = in_order.index.row_ids(np.flatnonzero(np.diff(in_order.index.conversation, prepend=-1)).tolist())
    assert [name in row_id for name, row_id in zip(names, ids, strict=True)] == [True] * 10
    shuffled = opened(talks, batch_size=4)
    first = contents(shuffled)
    assert contents(shuffled) != first  # the next epoch
    shuffled.set_epoch(0)
    assert contents(shuffled) == first


def test_rows_on_the_hub_give_the_same_batches_and_are_kept_by_a_cache(
    timed: str, hub: MiniHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(Path(timed), "org/duplex")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    for options in ({}, {"cache_bytes": 64 << 20}):
        assert contents(opened("org/duplex", **options)) == contents(opened(timed, window_bytes=512 << 20))
        assert any(tmp_path.rglob("shards/*-*")) == bool(options)


def test_memory_of_batches_that_are_gone_is_used_again_and_of_those_kept_never(talks: str) -> None:
    loader = opened(talks, batch_size=2, shuffle=False)
    kept = [*loader]
    audio = [batch["target_audio"].clone() for batch in kept]
    places = {batch["source_audio"].data_ptr() for batch in loader}
    assert len(places) < len(loader) == 5
    assert all(map(torch.equal, (batch["target_audio"] for batch in kept), audio))
