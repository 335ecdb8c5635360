"""What `export usdm` writes is what USDM's own preprocessing writes, and its trainer reads.

USDM's way is written down here anew from its facts: the whole text tokenised at once, and the mask
found by the positions of line breaks and <|correspond|>.
"""

import json
import shutil
from collections.abc import Iterator
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from toys.building import build_rows
from toys.building import read_rows
from toys.samples import SAMPLES
from toys.tokenizer import toy_tokenizer
from transformers import PreTrainedTokenizerFast

from speechrows.cli import main
from speechrows.errors import UsageError
from speechrows.interop.usdm import export_usdm
from speechrows.rows.tasks import CORRESPOND
from speechrows.sidecar.columns import RECIPE
from speechrows.sidecar.columns import schema_of

SAMPLE = SAMPLES / "dailytalk"
LONGEST = 8192
UNITS = {
    f"{turn}_{turn % 2}_d{d}": [turn, 9999, 40 + d, 40 + d] for d, n in ((0, 4), (1, 2)) for turn in range(n)
}
FAMILY = ("metaspace_always", "metaspace_first")  # tokenizers such as USDM's


def founding_lines(
    phone_list: Path, units: Mapping[str, list[int]], tokenizer: PreTrainedTokenizerFast
) -> Iterator[str]:
    """The lines that USDM makes of a phone list, before it shuffles them."""
    by_dialogue: dict[str, list[tuple[int, str, str]]] = {}
    for line in phone_list.read_text().splitlines():
        name, *_, text, _ = line.split("|")
        turn, _, dialogue = name.split("_")
        by_dialogue.setdefault(dialogue, []).append((int(turn), name, text))
    for turns in by_dialogue.values():
        turns.sort()
        speakers = [name.split("_")[1] for _, name, _ in turns]
        if any(speakers[i] == speakers[i + 1] for i in range(len(turns) - 1)):
            continue
        for offset in (0, 1):
            for at in range(offset, len(turns) - 1, 2):
                ids = tokenizer(founding_text(turns[at], turns[at + 1], units)).input_ids
                if len(ids) <= LONGEST:
                    yield founding_line(ids, tokenizer)


def founding_text(
    user: tuple[int, str, str], agent: tuple[int, str, str], units: Mapping[str, list[int]]
) -> str:
    heard, spoken = ("".join(f"<|unit{unit}|>" for unit in units[name]) for _, name, _ in (user, agent))
    return (
        "Below is a conversation between the user and the agent. Each turn includes the user's speech and "
        "its corresponding transcript, along with the agent's response text and the corresponding speech.\n"
        f"\n### User\n{heard}<|correspond|>{user[2].lower()}"
        f"\n### Agent\n{agent[2].lower()}<|correspond|>{spoken}\n</s>"
    )


def founding_line(ids: list[int], tokenizer: PreTrainedTokenizerFast) -> str:
    (line_break,) = set(tokenizer("\n").input_ids[-1:])
    breaks = [at for at, token in enumerate(ids) if token == line_break]
    first = ids.index(tokenizer.convert_tokens_to_ids(CORRESPOND))
    taught = {*range(first + 1, breaks[3] + 1), *range(breaks[4] + 1, breaks[5])}
    labels = [token if at in taught else -100 for at, token in enumerate(ids)]
    return "|".join(" ".join(str(token) for token in tokens) for tokens in (ids, labels))


def save_units(folder: Path, units: Mapping[str, list[int]]) -> str:
    lines = [
        {"clip_id": f"dailytalk/{name.split('_d')[1]}/{name.split('_')[0]}", "units": of_split}
        for name, of_split in units.items()
    ]
    recipe = {RECIPE: json.dumps({"kind": "units", "codec": "xlsr2_1b_v2_10k"}).encode()}
    folder.mkdir()
    table = pa.Table.from_pylist(lines, schema=schema_of("units").with_metadata(recipe))
    pq.write_table(table, folder / "part-00000.parquet")
    return str(folder)


def build(
    data_dir: Path,
    tmp_path: Path,
    tokenizer: str | None,
    units: Mapping[str, list[int]] = UNITS,
    **options: Any,
) -> str:
    generated = (save_units(tmp_path / "units", units),)
    out = tmp_path / "rows"
    build_rows(
        data_dir, out, "usdm", builder="dailytalk_usdm", tokenizer=tokenizer, generated=generated, **options
    )
    return str(out)


@pytest.fixture(params=FAMILY)
def tokenizer_folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    toy_tokenizer(request.param).save_pretrained(tmp_path / request.param)
    return str(tmp_path / request.param)


def tokenizer_of(built: str) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast.from_pretrained(f"{built}/tokenizer")


def test_lines_are_those_of_usdm_byte_for_byte(tmp_path: Path, tokenizer_folder: str) -> None:
    corpus = Path(shutil.copytree(SAMPLE, tmp_path / "dailytalk"))
    lines = (corpus / "train.txt").read_text()  # the list's texts are not metadata's, and are taken
    (corpus / "train.txt").write_text(lines.replace("along the river", "for 2 miles"))
    units = dict(UNITS)
    built = build(corpus, tmp_path, tokenizer_folder, units, as_listed=True, supervise_eos=False)
    assert export_usdm(built, tmp_path / "out") == {"test.txt": 1, "train.txt": 3}
    for name in ("train.txt", "test.txt"):
        ours = (tmp_path / "out" / name).read_bytes()
        assert not ours.endswith(b"\n")
        theirs = list(founding_lines(corpus / name, units, tokenizer_of(built)))
        assert sorted(ours.decode("ascii").split("\n")) == sorted(theirs)


@pytest.mark.parametrize(("num_tokens", "lines"), [(LONGEST, 1), (LONGEST + 1, 0)])
def test_the_cut_at_8192_tokens_is_theirs(
    tmp_path: Path, tokenizer_folder: str, num_tokens: int, lines: int
) -> None:
    tokenizer = toy_tokenizer(Path(tokenizer_folder).name)
    tokenizer.add_tokens([CORRESPOND, *(f"<|unit{i}|>" for i in range(10_000))], special_tokens=True)
    (line,) = founding_lines(SAMPLE / "test.txt", UNITS, tokenizer)
    more = num_tokens - len(line.partition("|")[0].split(" "))
    units = UNITS | {"1_1_d1": UNITS["1_1_d1"] + [5] * more}
    assert len(list(founding_lines(SAMPLE / "test.txt", units, tokenizer))) == lines
    built = build(SAMPLE, tmp_path, tokenizer_folder, units, as_listed=True, supervise_eos=False)
    rows = [row for row in read_rows(Path(built), "usdm") if row["clip_id"] == "dailytalk/1/0"]
    assert [row["num_tokens"] for row in rows] == [num_tokens] * lines


def test_what_is_written_is_what_the_trainer_reads(tmp_path: Path) -> None:
    built = build(SAMPLE, tmp_path, None)
    export_usdm(built, tmp_path / "out")
    files = {split: str(tmp_path / f"out/{split}.txt") for split in ("train", "test")}
    read = load_dataset("text", data_files=files, cache_dir=str(tmp_path / "cache"))
    rows = read_rows(Path(built), "usdm")
    for split in ("train", "test"):
        expected = [(row["input_ids"], row["labels"]) for row in rows if row["row_id"].split("/")[1] == split]
        exported = [
            tuple([int(number) for number in part.split(" ")] for part in line["text"].split("|"))
            for line in read[split]
        ]
        assert exported == expected


def test_lines_stand_in_the_order_of_the_rows_however_many_shards(tmp_path: Path) -> None:
    for name, shard_bytes in (("one", 1 << 30), ("many", 1)):
        (tmp_path / name).mkdir()
        built = build(SAMPLE, tmp_path / name, None, shard_bytes=shard_bytes)
        export_usdm(built, tmp_path / name / "out")
    single, many = ((tmp_path / name / "out/train.txt").read_bytes() for name in ("one", "many"))
    assert single == many
    assert single.count(b"\n") == 2


def test_the_command_says_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    built = build(SAMPLE, tmp_path, None)
    capsys.readouterr()
    assert main(["export", "usdm", built, "--out", str(tmp_path / "out")]) == 0
    assert f"{tmp_path / 'out/train.txt'}: 3 lines" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["test.txt", "train.txt"]
    assert main(["export", "usdm", built, "--out", str(tmp_path / "out")]) == 0
    assert "there already, as this command writes it" in capsys.readouterr().out


def test_files_that_are_there_are_not_written_over(tmp_path: Path) -> None:
    """The corpus' own lists bear these names."""
    built = build(SAMPLE, tmp_path, None)
    corpus = Path(shutil.copytree(SAMPLE, tmp_path / "dailytalk"))
    with pytest.raises(UsageError, match=r"train.txt: there already"):
        export_usdm(built, corpus)
    assert (corpus / "train.txt").read_bytes() == (SAMPLE / "train.txt").read_bytes()


def test_a_folder_without_usdm_rows_is_refused_with_what_it_has(tmp_path: Path) -> None:
    build_rows(SAMPLE, tmp_path / "rows", "transcription", builder="dailytalk_usdm")
    with pytest.raises(UsageError, match="has rows of transcription; expected usdm"):
        export_usdm(str(tmp_path / "rows"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
