"""Conversations as streams of text and codes: as moshi-finetune makes them, and as ratios lay them."""

import json
import pickle
from collections.abc import Iterable
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import sentencepiece
import torch
from hypothesis import given
from hypothesis import strategies as st
from toys import moshi_finetune
from toys.building import build_rows
from toys.building import read_rows
from toys.examples import FEW
from toys.mimi import tiny_mimi
from toys.samples import SAMPLE_OF
from toys.timed_talks import EXACT
from toys.timed_talks import RATE
from toys.timed_talks import build_timed
from toys.timed_talks import pcm
from toys.tokenizer import SPECIALS
from transformers import PreTrainedTokenizerFast

import speechrows
from speechrows.cli import main
from speechrows.codec import CODECS
from speechrows.codec import num_frames
from speechrows.conversations.patterns import GLM_4_VOICE
from speechrows.conversations.patterns import LLAMA_OMNI2
from speechrows.conversations.patterns import MOSHI_DELAYED
from speechrows.conversations.patterns import Parallel
from speechrows.conversations.patterns import Ratio
from speechrows.conversations.streams import MIMI_SILENCE
from speechrows.conversations.streams import StreamIds
from speechrows.errors import UsageError
from speechrows.generate.writer import SidecarWriter
from speechrows.loader.opened_folder import OpenedFolder
from speechrows.text.tokenizers import byte_level

MIMI = CODECS["mimi"]
CORPORA = ("dailytalk_usdm", "deepdialogue_ttt")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of two corpora and of talks in time, with the codes that a small Mimi makes of their clips."""
    folder = tmp_path_factory.mktemp("interleaved")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    mimi = tiny_mimi(folder / "mimi")
    for builder in CORPORA:
        build_rows(SAMPLE_OF[builder], folder / builder / "rows", builder=builder)
    build_timed(folder / "timed", EXACT)
    for name in (*CORPORA, "timed"):
        source, out = str(folder / name / "rows"), str(folder / name / "codes")
        assert main(["generate", "mimi", "--source", source, "--model", mimi, "--out", out]) == 0
    torch.set_num_threads(before)
    return folder


@pytest.fixture(scope="module")
def processor(base: Path) -> sentencepiece.SentencePieceProcessor:
    """A sentencepiece model of what is said, with Moshi's special ids."""
    texts = [row["messages"][1]["content"] for name in CORPORA for row in read_rows(base / name / "rows")]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_prefix=str(base / "spm"), vocab_size=300, hard_vocab_limit=False,
        unk_id=0, bos_id=1, eos_id=2, pad_id=3, byte_fallback=True, minloglevel=2,
        user_defined_symbols=["\n"],
    )  # fmt: skip
    return sentencepiece.SentencePieceProcessor(model_file=str(base / "spm.model"))


def opened(base: Path, name: str = "deepdialogue_ttt", **options: Any) -> Any:
    codes = {"codes": base / name / "codes"}
    return speechrows.load_interleaved(
        base / name / "rows", options.pop("config", "ttt"), **{**codes, "batch_size": 2, **options}
    )


def streams_of(batches: Iterable[Any]) -> dict[str, np.ndarray]:
    """The streams of each conversation, without what fills them up."""
    return {
        name: batch["codes"][row, :, : batch["lengths"][row]].numpy()
        for batch in batches
        for row, name in enumerate(batch["conversation_ids"])
    }


def codes_of(sidecar: Path) -> dict[str, np.ndarray]:
    """The codes of each clip."""
    tables = [pq.read_table(path).to_pylist() for path in sorted(sidecar.glob("*.parquet"))]
    return {row["clip_id"]: np.array(row["codes"]) for table in tables for row in table}


@pytest.mark.parametrize("name", [*CORPORA, "timed"])
def test_codes_of_both_sides_stand_where_their_clips_are_said(base: Path, name: str) -> None:
    codes, streams = codes_of(base / name / "codes"), streams_of(opened(base, name))
    rows = [row for row in read_rows(base / name / "rows") if "/train/" in row["row_id"]]
    assert {row["conversation_id"] for row in rows} == streams.keys()
    for conversation, stream in streams.items():
        turns = [row for row in rows if row["conversation_id"] == conversation]
        expected = {
            side: np.repeat(np.array(MIMI_SILENCE)[:, None], stream.shape[1], axis=1)
            for side in ("assistant", "user")
        }
        last, frames = 0, 0
        for row in sorted(turns, key=lambda row: row["start_s"] or 0.0):
            start = row["start_s"]
            first = round(start * row["sampling_rate"]) if start is not None else last
            last = first + row["num_samples"] + round(0.2 * row["sampling_rate"])
            at, clip = first * 25 // (2 * row["sampling_rate"]), codes[row["clip_id"]]
            expected[row["role"]][:, at : at + clip.shape[1]] = clip
            frames = max(frames, num_frames(first + row["num_samples"], row["sampling_rate"], MIMI))
        assert stream.shape == (17, frames)
        assert (stream[1:9] == expected["assistant"]).all()
        assert (stream[9:] == expected["user"]).all()


def test_a_batch_is_filled_up_with_what_takes_no_loss_and_has_moshi_s_shape(base: Path) -> None:
    batch = next(iter(opened(base, batch_size=9)))
    codes, lengths = batch["codes"], batch["lengths"]
    assert codes.dtype == lengths.dtype == torch.int64
    assert codes.shape == (len(batch["conversation_ids"]), 17, int(lengths.max()))
    assert len({*lengths.tolist()}) > 1
    for stream, length in zip(codes, lengths.tolist(), strict=True):
        assert (stream[:, length:] == -1).all()
        assert (stream[:, :length] >= 0).all()


@pytest.mark.interop
@pytest.mark.parametrize("keep_all", [False, True])
@pytest.mark.parametrize("text_roles", [("assistant",), ("assistant", "user")])
@pytest.mark.parametrize("name", [*CORPORA, "timed"])
def test_the_text_is_what_moshi_finetune_makes_of_our_export(
    base: Path, processor: Any, tmp_path: Path, name: str, text_roles: Sequence[Any], keep_all: bool
) -> None:
    interleaver = moshi_finetune.module("finetune.data.interleaver").Interleaver(
        processor,
        12.5,
        *moshi_finetune.MOSHI_IDS.values(),
        keep_main_only=len(text_roles) == 1,
        keep_and_shift=keep_all,
        device="cpu",
    )
    rows = base / name / "rows"
    assert main(["export", "moshi", str(rows), "--config", "ttt", "--out", str(tmp_path)]) == 0
    exported = dict[str, list[int]]()
    for lines in tmp_path.glob("*/*.jsonl"):
        for line in map(json.loads, lines.read_text("utf-8").splitlines()):
            alignments = json.loads((lines.parent / line["path"]).with_suffix(".json").read_text("utf-8"))
            said = [(word, (start, stop), who) for word, (start, stop), who in alignments["alignments"]]
            stream = interleaver.prepare_item(said, line["duration"])[0, 0].tolist()
            exported[" ".join(word for word, *_ in said)] = stream
    options = {"tokenizer": base / "spm.model", "text_roles": text_roles, "keep_all_text": keep_all}
    splits = {path.stem for path in (rows / "index/ttt").glob("*.parquet")}
    streams = [
        stream[0].tolist()
        for split in splits
        for stream in streams_of(opened(base, name, split=split, **options)).values()
    ]
    assert len(streams) > 1
    assert sorted(streams) == sorted(exported.values())


def test_words_stand_one_by_one_and_the_frame_before_them_ends_padding(base: Path, processor: Any) -> None:
    stream = streams_of(opened(base, "timed", tokenizer=base / "spm.model"))
    (text,) = (streams[0] for name, streams in stream.items() if name.endswith("answer only"))
    ids = [3] * 6 + processor.encode("answer") + processor.encode("only")
    assert text.tolist()[:5] == [3] * 5
    assert text[5] == 0
    assert text[6] == ids[6]


def test_moshi_s_own_delays_undone_are_the_streams(base: Path) -> None:
    plain, late = streams_of(opened(base)), streams_of(opened(base, pattern="moshi_delayed"))
    for name, stream in plain.items():
        assert (MOSHI_DELAYED.undo(late[name].astype(np.int32)) == stream).all()
        assert (late[name][2:9, 0] == 2048).all()
        assert (late[name][[0, 1, 9], -1] == -1).all()


def test_of_another_tokenizer_streams_have_ids_behind_its_own(base: Path) -> None:
    size = len(OpenedFolder(base / "deepdialogue_ttt/rows").tokenizer)
    for stream in streams_of(opened(base)).values():
        assert {size, size + 1} < {*stream[0].tolist()}
        assert stream[0].max() == size + 1
    own = StreamIds(text_padding=900, end_of_text_padding=901, zero=-5)
    batch = next(iter(opened(base, ids=own, batch_size=9)))
    assert {900, 901, -5} < {*batch["codes"][:, 0].flatten().tolist()}


def test_silence_is_what_is_given(base: Path) -> None:
    for stream in streams_of(opened(base, silence=(-1,) * 8)).values():
        assert (stream[1:9, :1] == -1).all() != (stream[9:, :1] == -1).all()


def test_rows_of_s2s_mimi_have_codes_of_their_own(base: Path, tmp_path: Path) -> None:
    codes = str(base / "deepdialogue_ttt/codes")
    build_rows(SAMPLE_OF["deepdialogue_ttt"], tmp_path / "rows", "s2s_mimi", generated=(codes,))
    built = speechrows.load_interleaved(tmp_path / "rows", "s2s_mimi", batch_size=2)
    streams, expected = streams_of(built), streams_of(opened(base))
    assert streams.keys() == expected.keys()
    for name, stream in streams.items():
        assert (stream[1:] == expected[name][1:]).all()


@given(world_size=st.sampled_from([1, 2, 3]), step=st.integers(0, 3), seed=st.integers(0, 9))
@FEW
def test_a_state_goes_on_exactly_on_any_number_of_ranks(
    base: Path, world_size: int, step: int, seed: int
) -> None:
    options: dict[str, Any] = {"batch_size": 1, "seed": seed, "micro_batches": 2}
    whole = [*opened(base, **options)]
    begun = opened(base, **options)
    taken = [*islice(begun, 2 * step)]
    state = begun.state_dict()
    ranks = [opened(base, rank=rank, world_size=world_size, **options) for rank in range(world_size)]
    rest = list[Any]()
    if state["epoch"] == 0:
        for loader in ranks:
            loader.load_state_dict(pickle.loads(pickle.dumps(state)))
            rest += [*loader]
    streams = streams_of([*taken, *rest])
    expected = streams_of(whole)
    assert streams.keys() == expected.keys()
    assert all((streams[name] == stream).all() for name, stream in expected.items())
    assert sum(len(batch["conversation_ids"]) for batch in [*taken, *rest]) == len(expected)


def test_a_rank_without_a_conversation_gets_a_batch_of_none(base: Path) -> None:
    loader = opened(base, batch_size=9, rank=1, world_size=2)
    (batch,) = loader
    assert batch["codes"].shape == (0, 17, 0)
    assert batch["conversation_ids"] == ()


def test_a_loader_is_pickled_and_goes_on_there(base: Path) -> None:
    loader = pickle.loads(pickle.dumps(opened(base)))
    assert streams_of(loader).keys() == streams_of(opened(base)).keys()


def test_what_found_no_frame_is_counted(base: Path) -> None:
    crowded, patient = opened(base), opened(base, keep_all_text=True)
    _ = [*crowded], [*patient]
    (count,) = crowded.changes.values()
    assert count > sum(patient.changes.values())


def voices() -> PreTrainedTokenizerFast:
    """A tokenizer with the tokens of both patterns."""
    tokenizer = byte_level()
    more = ["<|system|>", "<|user|>", "<|assistant|>", "<|begin_of_audio|>", "<|end_of_audio|>", "<sep>"]
    audio = [f"<|audio_{number}|>" for number in range(2048)]
    tokenizer.add_tokens([*SPECIALS, *more, *audio], special_tokens=True)
    return tokenizer


def test_glm_4_voice_hears_the_user_and_answers_13_to_26(base: Path) -> None:
    tokenizer = voices()
    rows, codes = read_rows(base / "timed/rows"), codes_of(base / "timed/codes")
    batch = next(iter(opened(base, "timed", pattern="glm_4_voice", tokenizer=tokenizer, batch_size=9)))
    for number, name in enumerate(batch["conversation_ids"]):
        length = int(batch["lengths"][number])
        ids = batch["input_ids"][number, :length]
        turns = sorted(
            (row for row in rows if row["conversation_id"] == name), key=lambda row: row["start_s"]
        )
        expected, supervised = [GLM_4_VOICE.head], list[str]()
        for row in turns:
            audio = [f"<|audio_{code}|>" for code in codes[row["clip_id"]][0]]
            if row["role"] == "user":
                begin = "" if expected[-1] == "<|user|>" else "<|user|>"
                expected += [f"{begin}\n<|begin_of_audio|>", *audio, "<|end_of_audio|>"]
                continue
            text, answer = row["messages"][1]["content"], list[str]()
            for at in range(0, len(text), 13):
                is_last = at + 13 >= len(text)
                answer += [text[at : at + 13], *audio[at * 2 : None if is_last else at * 2 + 26]]
            expected += ["<|assistant|>streaming_transcription\n", *answer, "<|user|>"]
            supervised += [*answer, "<|user|>"]
        assert tokenizer.decode(ids) == "".join(expected)
        labels = batch["labels"][number, :length]
        assert tokenizer.decode(labels[labels >= 0]) == "".join(supervised)
        assert (ids[labels >= 0] == labels[labels >= 0]).all()
        speech = ids[batch["is_speech"][number, :length]].tolist()
        assert all("<|audio_" in str(token) for token in tokenizer.convert_ids_to_tokens(speech))
        assert len(speech) == sum(codes[row["clip_id"]].shape[1] for row in turns)
        assert not batch["attention_mask"][number, length:].any()
        assert batch["attention_mask"][number, :length].all()
        assert (batch["labels"][number, length:] == -100).all()


def test_llama_omni2_reads_3_of_text_for_10_of_speech_and_no_user(base: Path) -> None:
    tokenizer = voices()
    rows, codes = read_rows(base / "timed/rows"), codes_of(base / "timed/codes")
    batch = next(iter(opened(base, "timed", pattern="llama_omni2", tokenizer=tokenizer, batch_size=9)))
    (number,) = (i for i, name in enumerate(batch["conversation_ids"]) if name.endswith("overlap"))
    (row,) = (
        row for row in rows if row["conversation_id"].endswith("overlap") and row["role"] == "assistant"
    )
    text = np.array(tokenizer.encode(row["messages"][1]["content"]), np.int32)
    speech = (codes[row["clip_id"]][0] + len(tokenizer)).astype(np.int32)
    sep, end = tokenizer.convert_tokens_to_ids(["<sep>", "<|im_end|>"])
    ids, _ = LLAMA_OMNI2.apply(text, speech, [sep])
    length = int(batch["lengths"][number])
    assert batch["input_ids"][number, :length].tolist() == [*ids.tolist(), end]
    assert (batch["labels"][number, :length] == batch["input_ids"][number, :length]).all()


def test_several_codebooks_are_written_frame_by_frame_each_with_ids_of_its_own(base: Path) -> None:
    pattern = Ratio(text=1000, speech=1, codebooks=3)
    batch = next(iter(opened(base, "timed", pattern=pattern, batch_size=9)))
    size = len(OpenedFolder(base / "timed/rows").tokenizer)
    (number,) = (i for i, name in enumerate(batch["conversation_ids"]) if name.endswith("answer only"))
    codes = next(v for k, v in codes_of(base / "timed/codes").items() if "answer only" in k)
    speech = batch["input_ids"][number][batch["is_speech"][number]].reshape(-1, 3).numpy()
    assert (speech - size - [0, 2048, 4096] == codes[:3].T).all()


def test_codes_that_are_missing_are_refused_with_the_command_that_makes_them(
    base: Path, tmp_path: Path
) -> None:
    rows = base / "timed/rows"
    command = r"speechrows generate mimi --source .*timed/rows --out CODES, and give codes=CODES"
    with pytest.raises(UsageError, match=rf"timed/rows: rows of ttt have no codes; .*{command}"):
        speechrows.load_interleaved(rows, "ttt")
    with SidecarWriter.open(tmp_path / "some", {"kind": "mimi", "codec": "mimi"}) as writer:
        for clip_id, codes in [*codes_of(base / "timed/codes").items()][1:]:
            writer.add(clip_id, codes.astype(np.int16))
    with pytest.raises(UsageError, match=rf"/0: found no codes of it; .*{command}"):
        [*opened(base, "timed", codes=tmp_path / "some")]
    with SidecarWriter.open(tmp_path / "answers", {"kind": "sift_s"}) as writer:
        writer.add("x", "y")
    with pytest.raises(UsageError, match=r"^codes=nope: no such folder .*; expected a folder that"):
        opened(base, "timed", codes="nope")
    with pytest.raises(UsageError, match="answers: holds sift_s; expected codes or units"):
        opened(base, "timed", codes=tmp_path / "answers")


def test_codes_of_another_clip_or_codec_are_refused(base: Path, tmp_path: Path) -> None:
    clips = codes_of(base / "timed/codes")
    with SidecarWriter.open(tmp_path / "long", {"kind": "mimi", "codec": "mimi"}) as writer:
        for clip_id in clips:
            writer.add(clip_id, np.zeros((8, 99), np.int16))
    with pytest.raises(UsageError, match=r"turn '.*' has 99 frames of mimi; expected \d+ for its \d+ s"):
        [*opened(base, "timed", codes=tmp_path / "long")]
    with SidecarWriter.open(tmp_path / "units", {"kind": "units", "codec": "glm_4_voice"}) as writer:
        for clip_id, codes in clips.items():
            writer.add(clip_id, codes[0].astype(np.int32))
    with pytest.raises(UsageError, match="glm_4_voice, of 1 codebooks a side; expected a pattern of 3"):
        [*opened(base, "timed", codes=tmp_path / "units")]
    three = streams_of(opened(base, "timed", codes=tmp_path / "units", pattern=Parallel(delays=(0, 0, 1))))
    assert {stream.shape[0] for stream in three.values()} == {3}
    with SidecarWriter.open(tmp_path / "unknown", {"kind": "units", "codec": "hubert_500"}) as writer:
        for clip_id, codes in clips.items():
            writer.add(clip_id, codes[0].astype(np.int32))
    with pytest.raises(UsageError, match="has codes of hubert_500; expected one of mimi, "):
        [*opened(base, "timed", codes=tmp_path / "unknown")]


def test_options_that_are_wrong_are_named_with_what_is_expected(base: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="pattern: found 'moshy', expected one of moshi"):
        opened(base, pattern="moshy")
    with pytest.raises(UsageError, match=r"silence: found \[1, 2\], expected 8 codes of mimi"):
        [*opened(base, silence=(1, 2))]
    with pytest.raises(UsageError, match=r"silence: found \[2048, .*\], expected .*, below 2048, or -1"):
        [*opened(base, silence=(2048,) * 8)]
    for roles in (("agent",), "assistant"):
        with pytest.raises(UsageError, match=r"text_roles: found .*, expected some of assistant, user"):
            opened(base, text_roles=roles)
    with pytest.raises(UsageError, match="has codes of mimi; expected glm_4_voice, as codec= says"):
        [*opened(base, codec="glm_4_voice")]
    with pytest.raises(UsageError, match=r"has no token <\|user\|>, which the pattern writes"):
        opened(base, pattern="glm_4_voice")
    with pytest.raises(UsageError, match="pattern: found 9 codebooks, expected 8 of mimi at most"):
        [*opened(base, pattern=Ratio(text=1, speech=1, codebooks=9))]
    with pytest.raises(UsageError, match=r"no.model: .*expected a sentencepiece model"):
        opened(base, tokenizer=tmp_path / "no.model")
    with pytest.raises(UsageError, match=r"gap: found -1, expected seconds from 0 on"):
        opened(base, gap=-1)


def test_a_turn_that_begins_before_its_conversation_is_refused_by_name(tmp_path: Path) -> None:
    rows = build_timed(tmp_path, {"early": [("assistant", -0.5, pcm(16, 0.5), "PCM_16", RATE)]})
    with SidecarWriter.open(tmp_path / "codes", {"kind": "mimi", "codec": "mimi"}) as writer:
        for row in read_rows(Path(rows)):
            writer.add(row["clip_id"], np.zeros((8, 7), np.int16))
    with pytest.raises(UsageError, match=r"early: assistant's turn 'early 0\.' begins at -0\.5 s"):
        [*speechrows.load_interleaved(rows, "ttt", codes=tmp_path / "codes", batch_size=1)]


def test_patterns_of_text_and_speech_want_a_tokenizer_of_transformers(base: Path, processor: Any) -> None:
    with pytest.raises(UsageError, match="found a SentencePieceProcessor, expected one of transformers"):
        opened(base, pattern="llama_omni2", tokenizer=processor)
