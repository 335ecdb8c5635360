"""A mix is loaded as a single folder is: exact counts, the same steps for any ranks, exact resume."""

import re
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import HfApi
from hypothesis import given
from hypothesis import strategies as st
from toys.building import build_rows
from toys.building import made_up
from toys.building import read_rows
from toys.corpus import write_corpus
from toys.examples import FEW
from toys.mini_hub import MiniHub
from toys.samples import SAMPLE_OF
from toys.tokenizer import bpe

import speechrows
from speechrows.cli import main
from speechrows.errors import UsageError
from speechrows.folder.joined import JoinedIndex
from speechrows.folder.rows_folder import RowsFolder
from speechrows.folder.scores import scores
from speechrows.loader import opened_mix
from speechrows.loader.batch import Batch
from speechrows.loader.collate.augment import Augment
from speechrows.loader.loader import Loader
from speechrows.loader.opened_mix import OpenedMix
from speechrows.mix import Mix
from speechrows.mix import Source
from speechrows.mix import Stage

MODES: dict[str, dict[str, Any]] = {
    "bucket": {"budget_seconds": 6},
    "pack": {"context": 1024, "batch_size": 2},
    "lanes": {"context": 512, "batch_size": 2},
}
modes = st.sampled_from(sorted(MODES))
worlds = st.sampled_from([1, 2, 3, 5])
amounts = st.one_of(
    st.fixed_dictionaries({"samples": st.integers(0, 70)}),
    st.fixed_dictionaries({"passes": st.sampled_from([0.4, 1, 2.5])}),
    st.fixed_dictionaries({"hours": st.sampled_from([0.001, 0.004])}),
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two folders of synthetic speech, 9 and 4 dialogues of 4 turns, each as ttt and transcription."""
    base = tmp_path_factory.mktemp("mix")
    for name, dialogues in (("a", 9), ("b", 4)):
        corpus = write_corpus(base / f"corpus-{name}", dialogues=dialogues, seconds=0.4)
        for config in ("ttt", "transcription"):
            build_rows(corpus, base / name, config)
    return {name: str(base / name) for name in ("a", "b")}


@pytest.fixture(scope="module")
def shared(folders: dict[str, str]) -> OpenedMix:
    """A mix of shares in stages: rows alone and whole conversations, a source filtered, one repeated."""
    sources = (
        Source(
            name="heard", path=folders["a"], config="transcription", weight=1, where=[["turn_number", ">", 0]]
        ),
        Source(name="talks", path=folders["b"], config="ttt", weight=2),
        Source(name="more", path=folders["a"], config="ttt", weight=3),
    )
    stages = (Stage(epochs=1), Stage(weight={"heard": 0}))
    return OpenedMix(Mix(by="tokens", epoch={"tokens": 4000}, sources=sources, stages=stages))


def opened(mix: Any, mode: str, **options: Any) -> Loader:
    return speechrows.load(mix, mode=mode, **{"sampling_rate": 24_000, **MODES[mode], **options})  # type: ignore[arg-type]


def heard(batches: Iterable[Batch]) -> Counter[tuple[int, str]]:
    """How often each row of each source came."""
    counts: Counter[tuple[int, str]] = Counter()
    for batch in batches:
        counts.update(zip(batch.source.tolist(), batch.row_ids, strict=True))
    return counts


def named(batches: Iterable[Batch]) -> list[tuple[int, int | None, tuple[str, ...], tuple[int, ...]]]:
    return [(b.step, b.number, b.row_ids, tuple(b.source.tolist())) for b in batches if b.number is not None]


@given(mode=modes, ways=st.lists(amounts, min_size=3, max_size=3).filter(lambda w: w != 3 * [{"samples": 0}]))
@FEW
def test_each_source_has_the_rows_that_it_says_and_none_is_heard_two_times_more_than_another(
    folders: dict[str, str], mode: str, ways: list[dict[str, Any]]
) -> None:
    kinds = (("a", "ttt"), ("b", "transcription"), ("b", "ttt"))
    sources = [
        Source(name=str(i), path=folders[folder], config=config, **way)
        for i, ((folder, config), way) in enumerate(zip(kinds, ways, strict=True))
    ]
    loader = opened(Mix(sources=sources), mode)
    sums, lengths = heard(()), {"a": 36, "b": 16}
    assert loader.sources == ("0", "1", "2")
    for epoch in range(1, 4):
        sums += heard(loader)
        for number, ((folder, config), way) in enumerate(zip(kinds, ways, strict=True)):
            counts = [count for (source, _), count in sums.items() if source == number]
            num_rows = lengths[folder]
            expected = way.get("samples", int(way.get("passes", 0) * num_rows + 0.5)) * epoch
            if "hours" not in way:
                slack = 4 if config == "ttt" else 1  # whole conversations of 4 turns
                assert expected - slack < sum(counts) <= expected or sum(counts) == expected
            least = min(counts, default=0) if len(counts) == num_rows else 0
            assert max(counts, default=0) - least <= 1


@given(mode=modes, world_size=worlds, epoch=st.integers(0, 3))
@FEW
def test_steps_are_the_same_on_any_number_of_ranks(
    shared: OpenedMix, mode: str, world_size: int, epoch: int
) -> None:
    alone = opened(shared, mode, micro_batches=4)
    alone.set_epoch(epoch)
    expected = sorted(named(alone), key=lambda step: step[:2])
    together = list[Any]()
    for rank in range(world_size):
        loader = opened(shared, mode, micro_batches=4, rank=rank, world_size=world_size)
        loader.set_epoch(epoch)
        together += named(loader)
    assert sorted(together, key=lambda step: step[:2]) == expected
    assert {source for *_, sources in expected for source in sources} == ({0, 1, 2} if not epoch else {1, 2})


@given(mode=modes, before=worlds, after=worlds, epoch=st.integers(0, 2), data=st.data())
@FEW
def test_a_state_goes_on_exactly_on_other_ranks(
    shared: OpenedMix, mode: str, before: int, after: int, epoch: int, data: st.DataObject
) -> None:
    def ranks(count: int, **options: Any) -> list[Loader]:
        return [opened(shared, mode, rank=rank, world_size=count, **options) for rank in range(count)]

    whole = opened(shared, mode, micro_batches=4)
    whole.set_epoch(epoch)
    expected = sorted(named(whole), key=lambda step: step[:2])
    first = ranks(before, micro_batches=4)
    for loader in first:
        loader.set_epoch(epoch)
    count = data.draw(st.integers(0, len(first[0]) - 1))
    done = [step for loader in first for step in named(islice(loader, count))]
    state = first[0].state_dict()
    assert all(loader.state_dict() == state for loader in first)
    second = ranks(after)
    for loader in second:
        loader.load_state_dict(state)
    done += [step for loader in second for step in named(loader)]
    assert sorted(done, key=lambda step: step[:2]) == expected


@pytest.mark.parametrize("mode", MODES)
def test_rows_are_those_that_their_folders_give_alone_and_conversations_stay_whole(
    shared: OpenedMix, folders: dict[str, str], mode: str
) -> None:
    alone: dict[str, tuple[list[int], int]] = {}
    for folder, config in (("a", "transcription"), ("a", "ttt"), ("b", "ttt")):
        for batch in speechrows.load(
            folders[folder], config, budget_tokens=2000, batch_size=1, sampling_rate=24_000
        ):
            sequence, start, stop = batch.row_spans[0].tolist()
            alone[batch.row_ids[0]] = (
                batch.labels[sequence, start + 1 : stop].tolist(),
                int(batch.speech_lengths[0]),
            )
    loader = opened(shared, mode)
    turns: dict[tuple[int, str], list[int]] = {}
    for batch in loader:
        lengths = dict(zip(batch.clip_row.tolist(), batch.speech_lengths.tolist(), strict=True))
        for row, (row_id, source) in enumerate(zip(batch.row_ids, batch.source.tolist(), strict=True)):
            sequence, start, stop = batch.row_spans[row].tolist()
            assert (batch.labels[sequence, start + 1 : stop].tolist(), lengths[row]) == alone[row_id]
            turns.setdefault((source, batch.conversation_ids[row]), []).append(batch.turn_numbers[row])
            assert (batch.turn_numbers[row] > 0 and batch.tasks[row] == "transcription") or source
    whole = {key: sorted(numbers) for key, numbers in turns.items() if key[0]}
    assert all(numbers == sorted([*range(4)] * (len(numbers) // 4)) for numbers in whole.values())
    if mode != "bucket":
        assert all(numbers[:4] == [0, 1, 2, 3] for key, numbers in turns.items() if key[0] == 1)


def test_a_state_names_every_source_with_its_digest_and_another_mix_is_refused_by_what_differs(
    folders: dict[str, str],
) -> None:
    sources = (Source(path=folders["a"], config="ttt"), Source(path=folders["b"], config="ttt", samples=8))
    loader = opened(Mix(sources=sources), "pack")
    state = loader.state_dict()
    digests = {name: source["rows"] for name, source in state["mix"]["sources"].items()}
    index = speechrows.load(folders["a"], "ttt", budget_tokens=2000).index
    assert digests["a"] == [index.digest]
    assert {*digests} == {"a", "b"}
    other = opened(
        Mix(sources=(sources[0], Source(path=folders["b"], config="transcription", name="b"))), "pack"
    )
    with pytest.raises(UsageError, match="of another plan: source b: "):
        other.load_state_dict(state)
    more = opened(Mix(sources=(sources[0], Source(path=folders["b"], config="ttt", samples=9))), "pack")
    with pytest.raises(UsageError, match="stages of the mix"):
        more.load_state_dict(state)
    with pytest.raises(UsageError, match="rows of a mix, here of one folder"):
        opened(folders["a"], "pack", config="ttt").load_state_dict(state)


def test_paths_are_a_mix_of_all_their_rows_and_a_mix_s_configs_are_its_own(
    folders: dict[str, str], tmp_path: Path
) -> None:
    loader = opened([*folders.values()], "bucket", config="transcription")
    assert loader.sources == ("a", "b")
    assert sum(len(batch) for batch in loader) == 52
    file = tmp_path / "my.yaml"
    file.write_text(f"defaults: {{config: ttt}}\nsources: [{{path: {folders['a']}, passes: 2}}]\n")
    assert sum(len(batch) for batch in opened(file, "lanes")) == 72
    with pytest.raises(UsageError, match="found config 'ttt' and split 'train' beside a mix"):
        opened(str(file), "lanes", config="ttt")
    file.write_text(f"sources: [{{path: {folders['a']}, config: tttt}}]")
    with pytest.raises(
        UsageError, match=r"my.yaml: line 1: source a: .* no config 'tttt'.* did you mean ttt"
    ):
        opened(file, "lanes")


WHERE = {
    "seconds": ([["seconds", "<=", 0.4]], lambda row: row["num_samples"] / row["sampling_rate"] <= 0.4),
    "a trait": ([["emotion", "in", ["happy", "sad"]]], lambda row: row["emotion"] in ("happy", "sad")),
    "null": ([["gender", "=", None]], lambda row: row["gender"] is None),
    "not null": ([["gender", "!=", None]], lambda row: row["gender"] is not None),
    "words": ([["transcript", "startswith", "T"]], lambda row: row["transcript"].startswith("T")),
    "an or": (
        [[["turn_number", "=", 0], ["num_turns", ">", 1]], [["turn_number", "not in", [0, 1]]]],
        lambda row: row["turn_number"] != 1,
    ),
    "ids": ([["conversation_id", "!=", "x"]], lambda row: row["conversation_id"] != "x"),
    "the task": ([["task", "=", "transcription"]], lambda row: row["task"] == "transcription"),
}


@pytest.mark.parametrize("name", WHERE)
def test_where_keeps_the_rows_that_it_holds_for(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    out = tmp_path_factory.getbasetemp() / "sampled"
    if not out.exists():
        build_rows(SAMPLE_OF["deepdialogue_ttt"], out, "transcription")
    where, holds = WHERE[name]
    expected = {row["row_id"] for row in read_rows(out, "transcription") if holds(row)}
    mix = Mix(sources=[Source(name="it", path=str(out), config="transcription", where=where)])
    if not expected:
        with pytest.raises(UsageError, match=r"source it is empty: of its .* rows where holds for none"):
            opened(mix, "bucket", budget_seconds=60)
        return
    loader = opened(mix, "bucket", budget_seconds=60)
    assert {row_id for _, row_id in heard(loader)} == expected


def test_where_takes_scores_of_screening_and_says_where_there_are_none(tmp_path: Path) -> None:
    build_rows(SAMPLE_OF["deepdialogue_ttt"], tmp_path / "rows", "transcription")
    source = Source(
        name="it", path=str(tmp_path / "rows"), config="transcription", where=[["snr_db", ">", 48]]
    )
    message = f"source it: {tmp_path}/rows: where: found no scores of transcription, train, for snr_db"
    with pytest.raises(UsageError, match=re.escape(message)):
        opened(Mix(sources=[source]), "bucket", budget_seconds=60)
    assert main(["screen", str(tmp_path / "rows")]) == 0
    loader = opened(Mix(sources=[source]), "bucket", budget_seconds=60)
    folder = RowsFolder.open(tmp_path / "rows")
    table = scores(folder, "transcription", "train", ["row_id", "snr_db"])
    assert table is not None
    expected = {row["row_id"] for row in table.to_pylist() if row["snr_db"] and row["snr_db"] > 48}
    assert 0 < len(expected) < len(table)
    assert {row_id for _, row_id in heard(loader)} == expected


def test_a_part_by_hash_is_stable_and_about_as_large_as_said(folders: dict[str, str]) -> None:
    def part(first: float, last: float) -> set[str]:
        where = [["hash", ">=", first], ["hash", "<", last]]
        source = Source(path=folders["a"], config="ttt", where=where)
        return {row_id for _, row_id in heard(opened(Mix(sources=[source]), "bucket"))}

    low, high = part(0, 0.5), part(0.5, 1)
    assert low == part(0, 0.5)
    assert not low & high
    assert len(low) + len(high) == 36
    assert all(len(rows) % 4 == 0 for rows in (low, high)), "conversations stay whole"


def test_a_source_under_another_tokenizer_and_rate_is_rendered_anew(
    folders: dict[str, str], tmp_path: Path
) -> None:
    corpus = write_corpus(tmp_path / "corpus", dialogues=2, seconds=0.4)
    bpe().save_pretrained(tmp_path / "tokenizer")
    build_rows(
        corpus, tmp_path / "other", "ttt", tokenizer=str(tmp_path / "tokenizer"), audio_tokens_per_second="25"
    )
    sources = [Source(path=folders["a"], config="ttt"), Source(path=str(tmp_path / "other"), config="ttt")]
    for batch in opened(Mix(sources=sources), "pack"):
        for row in range(len(batch)):
            sequence, start, stop = batch.row_spans[row].tolist()
            ids = batch.input_ids[sequence, start:stop]
            assert int((ids == ids.mode().values).sum()) >= 1
    mixed = opened(Mix(sources=sources), "bucket")
    one = opened(Mix(sources=sources[1:]), "bucket", tokenizer=mixed.tokenizer, audio_tokens_per_second=12.5)
    rows = {}
    for loader in (one, mixed):
        for batch in loader:
            for row, row_id in enumerate(batch.row_ids):
                sequence, start, stop = batch.row_spans[row].tolist()
                ids = batch.input_ids[sequence, start:stop].tolist()
                if batch.source[row] == len(loader.sources) - 1:
                    assert rows.setdefault(row_id, ids) == ids
    assert len(rows) == 8


def test_sources_on_disk_and_on_the_hub_mix_and_a_row_may_come_several_times(
    folders: dict[str, str], hub: MiniHub
) -> None:
    api = HfApi()
    api.create_repo("org/mixed", repo_type="dataset", exist_ok=True)
    api.upload_folder(
        repo_id="org/mixed", repo_type="dataset", folder_path=folders["b"], ignore_patterns=".build/**"
    )

    def speech(path: str, mode: str) -> dict[tuple[str, int], torch.Tensor]:
        sources = [
            Source(name="far", path=path, config="ttt", passes=3),
            Source(path=folders["a"], config="ttt"),
        ]
        clips: dict[tuple[str, int], torch.Tensor] = {}
        times: Counter[str] = Counter()
        for batch in opened(Mix(sources=sources), mode):
            for row, clip in zip(batch.clip_row.tolist(), batch.clips(), strict=True):
                row_id = batch.row_ids[row]
                clips[row_id, times[row_id]] = clip.flatten()[: int(batch.speech_lengths[row])]
                times[row_id] += 1
        return clips

    for mode in MODES:
        near, far = speech(folders["b"], mode), speech("org/mixed", mode)
        assert near.keys() == far.keys()
        assert len(far) == 3 * 16 + 36
        assert all(torch.equal(near[key], far[key]) for key in near)
    api.delete_repo("org/mixed", repo_type="dataset")


def test_bucket_keeps_one_codec_a_batch_and_the_other_modes_refuse_two(
    folders: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = write_corpus(tmp_path / "corpus", dialogues=4, seconds=0.4)
    build_rows(corpus, tmp_path / "rows", "transcription")
    codes = made_up(tmp_path / "rows", "mimi", tmp_path / "codes")
    build_rows(corpus, tmp_path / "rows", "s2s_mimi", generated=(codes,))
    sources = [
        Source(path=str(tmp_path / "rows"), config="s2s_mimi"),
        Source(path=folders["b"], config="ttt"),
    ]
    loader = opened(Mix(sources=sources), "bucket", budget_seconds=3)
    assert loader.codec() == "mimi"
    assert any({*batch.tasks} == {"s2s_mimi", "ttt"} for batch in loader), (
        "rows without codes may stand beside"
    )

    monkeypatch.setattr(opened_mix, "codecs_of", lambda part: [f"codec of {part.config}"] * len(part.shards))
    apart = opened(Mix(sources=sources), "bucket", budget_seconds=3)
    assert all(len({*batch.tasks}) == 1 for batch in apart)
    both = "codec of s2s_mimi in rows, codec of ttt in b"
    with pytest.raises(
        UsageError, match=f"codes of several codecs: {both}.* found mode pack, expected bucket"
    ):
        opened(Mix(sources=sources), "pack")
    with pytest.raises(
        UsageError, match=f"codes of several codecs: {both}; expected one, as a model has one"
    ):
        apart.codec()


def test_a_row_that_comes_again_is_augmented_otherwise_and_what_comes_once_as_without_a_mix(
    folders: dict[str, str],
) -> None:
    augment = Augment(gain_db=(-20.0, 0.0))

    def loudness(mix: Any, *config: str) -> dict[str, list[float]]:
        """How loud each row came, in order of loudness."""
        levels: dict[str, list[float]] = {}
        for batch in opened(mix, "bucket", augment=augment) if not config else speechrows.load(
            mix, *config, budget_seconds=6, sampling_rate=24_000, augment=augment
        ):  # fmt: skip
            for row, clip in zip(batch.clip_row.tolist(), batch.clips(), strict=True):
                levels.setdefault(batch.row_ids[row], []).append(round(float(clip.square().sum()), 6))
        return {row_id: sorted(values) for row_id, values in levels.items()}

    once = Source(path=folders["b"], config="transcription")
    thrice = Source(path=folders["b"], config="transcription", passes=3)
    alone, several = loudness(folders["b"], "transcription"), loudness(Mix(sources=[thrice]))
    assert loudness(Mix(sources=[once])) == alone
    assert {len({*values}) for values in several.values()} == {3}
    assert all(alone[row_id][0] in values for row_id, values in several.items())


def test_an_epoch_shorter_than_a_conversation_is_passed_over_and_not_the_end(folders: dict[str, str]) -> None:
    loader = opened(Mix(sources=[Source(path=folders["b"], config="ttt", samples=3)]), "lanes")
    assert not len(loader)  # of its conversations of 4 turns none is through
    batches = [*islice(loader.endless(), 3)]
    assert {row_id is not None for batch in batches for row_id in batch.row_ids} == {True}


def test_a_folder_that_is_not_there_is_named_with_its_source_and_both_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rows").mkdir()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").write_text("sources:\n  - {path: rows/none, config: ttt}")
    with pytest.raises(
        UsageError, match=r"my.yaml: line 2: source none: rows/none: no such folder in .*, nor beside"
    ):
        speechrows.load("my.yaml", budget_seconds=6)


def test_configs_of_a_source_that_have_the_same_rows_are_refused(folders: dict[str, str]) -> None:
    message = "source a: configs ttt and stage_1 have the same rows; keep one"
    with pytest.raises(UsageError, match=re.escape(message)):
        opened(Mix(sources=[Source(path=folders["a"], config=["ttt", "stage_1"])]), "bucket")


def test_a_mix_is_planned_once_and_what_it_takes_of_memory_is_one_index(shared: OpenedMix) -> None:
    first, second = (opened(shared, mode) for mode in ("bucket", "pack"))
    assert first.index is second.index
    joined = first.mix.index  # type: ignore[union-attr]
    for part in joined.parts:
        assert np.shares_memory(part.num_samples, joined.num_samples)


def test_a_row_of_any_folder_is_named_as_its_folder_names_it(shared: OpenedMix) -> None:
    index = shared.rendered().index
    assert isinstance(index, JoinedIndex)
    names = [part.row_id(row) for part in index.parts for row in range(len(part))]
    assert index.row_ids(range(len(index))) == names
    assert index.row_ids([len(index) - 1, 0]) == [names[-1], names[0]]
