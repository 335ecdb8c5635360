"""The preview without a browser: what it shows is what the rows hold, and nothing of it is markup."""

import base64
import io
import json
import re
import shutil
import urllib.error
import urllib.request
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytest.importorskip("gradio", reason="preview needs gradio: pip install 'speechrows[preview]'")

from huggingface_hub import HfApi
from huggingface_hub import constants
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient
from toys.building import build_rows
from toys.building import made_up
from toys.building import read_rows
from toys.examples import FEW
from toys.examples import MANY
from toys.preview_corpus import ATTACK
from toys.preview_corpus import hostile_corpus
from toys.processes import start_python
from toys.samples import SAMPLE_OF
from toys.samples import XTTS
from toys.timed_talks import EXACT
from toys.timed_talks import build_timed
from toys.tokenizer import bpe
from transformers import MimiConfig

import speechrows
from speechrows.card.bins import Bins
from speechrows.codec import CODECS
from speechrows.errors import ShortfallError
from speechrows.errors import UsageError
from speechrows.preview import decode
from speechrows.preview import find
from speechrows.preview import html
from speechrows.preview import pictures
from speechrows.preview import summary
from speechrows.preview.actions import ALL
from speechrows.preview.actions import Actions
from speechrows.preview.actions import step_from
from speechrows.preview.app import launch
from speechrows.preview.rows import Library
from speechrows.preview.rows import View
from speechrows.preview.rows import media_type
from speechrows.preview.sound import clip_url
from speechrows.preview.sound import decoded_url
from speechrows.preview.sound import routes
from speechrows.preview.tokens import counts
from speechrows.preview.tokens import spans
from speechrows.screening.screen import screen
from speechrows.types import AUDIO_TOKEN
from speechrows.types import IGNORE_INDEX


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Four conversations, each in a file of its own."""
    out = tmp_path_factory.mktemp("preview") / "deepdialogue_ttt"
    build_rows(XTTS, out, shard_bytes=1)
    build_rows(XTTS, out, "response")
    return out


@pytest.fixture(scope="module")
def library(folder) -> Library:
    return Library(str(folder))


@pytest.fixture(scope="module")
def omni(tmp_path_factory) -> Library:
    out = tmp_path_factory.mktemp("preview") / "omni_tasks"
    build_rows(SAMPLE_OF["omni_tasks"], out, "omni", builder="omni_tasks")
    return Library(str(out))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Library:
    corpus = hostile_corpus(tmp_path_factory.mktemp("hostile"))
    out = tmp_path_factory.mktemp("preview") / "hostile"
    build_rows(corpus, out)
    return Library(str(out))


# --- text of a corpus is never markup -------------------------------------------------------

TAGS = {
    *(
        "article",
        "audio",
        "b",
        "button",
        "dd",
        "details",
        "div",
        "dl",
        "dt",
        "figcaption",
        "figure",
        "footer",
    ),
    *("h1", "h2", "h3", "header", "i", "img", "kbd", "li", "mark", "ol", "p", "path", "section", "span"),
    *("summary", "svg", "table", "tbody", "td", "th", "thead", "tr", "ul"),
}


class Reader(HTMLParser):
    """Reads markup as a browser does: its tags, its attributes, its text."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags, self.attributes, self.text = set(), {}, ""
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        for name, value in attrs:
            self.attributes.setdefault(name, []).append(value)

    def handle_data(self, data):
        self.text += data


def everything_shown(library: Library) -> list[str]:
    view = library.view("ttt", "train")
    result = find.by_words(library, view, "onerror", 0)
    named = tuple((row, view.index.row_id(row)) for row in find.by_name(library, view, "<img"))
    assert result.hits
    assert named
    return [
        summary.head(library, view),
        summary.numbers(library, view),
        summary.ledger(library, view),
        html.hits(result, names=named, text=ATTACK, total=9),
        html.trouble(UsageError(ATTACK)),
        *(html.conversation(library, view, row) for row in range(view.stop)),
        *(html.turn(library, view, row) for row in range(view.stop)),
    ]


def test_text_and_names_of_a_corpus_never_become_markup(hostile):
    for markup in everything_shown(hostile):
        read = Reader(markup)
        assert read.tags <= TAGS
        assert not [name for name in read.attributes if name.startswith("on")]
        pictures_from = [src for src in read.attributes.get("src", []) if not src.startswith("speechrows/")]
        assert all(src.startswith("data:image/png;base64,") for src in pictures_from)


def test_a_transcript_is_read_as_it_was_said_whatever_it_spells(hostile):
    view = hostile.view("ttt", "train")
    row = find.by_words(hostile, view, "onerror", 0).hits[0].row
    assert ATTACK in Reader(html.conversation(hostile, view, row)).text
    assert ATTACK in Reader(html.turn(hostile, view, row)).text.replace("\n", " ")


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"])))
@MANY
def test_any_text_comes_back_from_the_markup(text):
    hit = find.Hit(row=0, row_id=text, before=text, match=text, after=text)
    result = find.Hits(text=text, hits=(hit,), searched=1, next_row=None)
    read = Reader(html.hits(result, names=[(1, text)], text=text, total=1))
    assert read.tags <= TAGS
    assert (text * 3 in read.text) or not text


# --- what is shown is what the rows hold ----------------------------------------------------


def test_a_conversation_shows_each_turn_with_its_words_and_its_player(library, folder):
    rows = read_rows(folder)
    view = library.view("ttt", "train")
    first = rows[5]["conversation_id"]
    turns = [row for row in rows if row["conversation_id"] == first]
    read = Reader(html.conversation(library, view, 5))
    assert all(row["transcript"] in read.text for row in turns)
    assert len(read.attributes["src"]) == len(turns)
    assert sum("turn" in name and "is-open" in name for name in read.attributes["class"]) == 1


def test_a_conversation_of_turns_shows_both_channels_and_their_tokens_on_frames(tmp_path):
    tokenizer = bpe()
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    build_timed(tmp_path, EXACT, tokenizer=str(tmp_path / "tokenizer"))
    timed = Library(str(tmp_path / "rows"))
    markup = html.conversation(timed, timed.view("ttt", "train"), 0)
    shown = re.findall(r'class="frame (\w+)" style="--at:(\d+)" title="[^"]*">([^<]*)<', markup)
    batch = next(
        iter(
            speechrows.load_duplex(
                str(tmp_path / "rows"), tokenizer=tokenizer, overflow="cut", batch_size=1, shuffle=False,
                config="ttt", source_sample_rate=16_000, target_sample_rate=16_000,
            )
        )
    )  # fmt: skip
    lines = batch["source_tokens"][0].tolist(), batch["target_tokens"][0].tolist()
    placed = [
        (frame, token)
        for line in lines
        for frame, token in enumerate(line)
        if token != tokenizer.pad_token_id
    ]
    assert [int(frame) for _, frame, _ in shown] == [frame for frame, _ in placed]
    special = {tokenizer.bos_token_id: "bos", tokenizer.eos_token_id: "eos"}
    assert [kind for kind, *_ in shown] == [special.get(token, "text") for _, token in placed]
    said = [unescape(text) for kind, _, text in shown if kind == "text"]
    assert said == [tokenizer.decode([token]) for _, token in placed if token not in special]
    assert "rows tell no times" not in markup


def test_a_tokenizer_that_does_not_fit_frames_is_said_and_exchanges_have_no_frames(library):
    markup = html.conversation(library, library.view("ttt", "train"), 0)
    assert "4 of 4 texts have more tokens than their turn has frames, and are shown cut." in markup
    assert "The tokenizer writes an id a byte" in markup
    assert "rows tell no times: one turn after another, 0.2 s apart" in markup
    assert "grid-scroll" not in html.conversation(library, library.view("response", "train"), 0)


def test_the_index_and_the_files_are_walked_in_one_order(library, folder):
    rows = read_rows(folder)
    view = library.view("ttt", "train")
    assert library.rows(view, range(view.stop)) == [
        {name: value for name, value in row.items() if name not in ("audio", "target_audio")}
        | {"audio": {"path": row["audio"]["path"]}, "target_audio": None}
        for row in rows
    ]


@pytest.mark.parametrize("config", ["ttt", "stage_1", "response"])
def test_a_clip_is_its_published_bytes(library, folder, config):
    view = library.view(config, "train")
    rows = read_rows(folder, "response" if config == "response" else "ttt")
    for number, row in enumerate(rows):
        assert library.clip(view, number, "audio") == row["audio"]["bytes"]
        expected = row["target_audio"]["bytes"] if row["target_audio"] else b""
        assert library.clip(view, number, "target_audio") == expected


def test_tokens_are_coloured_by_what_takes_loss(library, omni):
    for source, config in ((library, "ttt"), (omni, "omni")):
        view = source.view(config, "train")
        for row in source.rows(view, range(view.stop)):
            shown = spans(row, source.tokenizer)
            by_kind = counts(row, shown)
            assert by_kind["supervised"] == sum(label != IGNORE_INDEX for label in row["labels"])
            assert by_kind["padding"] == len(row["input_ids"]) - row["num_tokens"]
            assert sum(by_kind.values()) == len(row["input_ids"])
            target = "".join(span.text for span in shown if span.kind == "supervised")
            assert row["messages"][1]["content"] in target


def test_hovering_over_a_token_tells_its_id_and_its_piece(library):
    (row,) = library.rows(library.view("ttt", "train"), range(1))
    shown = [span for span in spans(row, library.tokenizer) if span.kind == "supervised"]
    ids = [
        token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label != IGNORE_INDEX
    ]
    for piece, token in zip(shown, ids, strict=True):
        assert piece.title == f"id {token} · {library.tokenizer.convert_ids_to_tokens(token)} · takes loss"


def test_a_label_that_is_another_token_and_a_pad_that_takes_loss_are_seen(library):
    (row,) = library.rows(library.view("ttt", "train"), range(1))
    last, labels = len(row["labels"]) - 1, list(row["labels"])
    place = next(i for i, label in enumerate(labels) if label != IGNORE_INDEX)
    labels[place] += 1
    labels[last] = row["input_ids"][last]
    by_kind = counts(row, shown := spans({**row, "labels": labels}, library.tokenizer))
    assert by_kind["wrong"] == 1
    assert shown[-1].kind == "supervised"


def test_a_page_reads_no_file_but_that_of_the_row(folder, tmp_path):
    copy = Path(shutil.copytree(folder, tmp_path / "rows"))
    kept, *others = sorted((copy / "data/ttt").rglob("*.parquet"))
    assert others
    for other in others:
        other.unlink()
    library = Library(str(copy))
    view = library.view("ttt", "train")
    assert read_rows(copy)[0]["transcript"] in html.conversation(library, view, 0)
    assert html.turn(library, view, 0)
    assert summary.head(library, view)
    with pytest.raises(ShortfallError, match="missing"):
        html.turn(library, view, view.stop - 1)
    kept.write_bytes(kept.read_bytes()[:-9])
    with pytest.raises(ShortfallError, match="is not the file"):
        html.turn(Library(str(copy)), view, 0)


@given(st.lists(st.integers(1, 250), min_size=1, max_size=4), st.data())
@FEW
def test_a_conversation_of_any_length_is_shown_around_the_open_turn(library, lengths, data):
    numbers = np.repeat(np.arange(len(lengths)), lengths).astype(np.int32)
    index = replace(library.index("ttt", "train"), conversation=numbers)
    view = View(index=index, task=None, start=0, stop=len(numbers))
    row = data.draw(st.integers(0, len(numbers) - 1))
    around, (number, start, stop) = view.turns_around(row), view.conversation(row)
    assert numbers[row] == number
    assert row in around
    assert range(start, stop)[0] <= around[0] <= around[-1] <= range(start, stop)[-1]
    assert len(around) == min(stop - start, 100)


def test_a_hub_dataset_is_shown_as_its_folder_is(folder, library, hub):
    name = "org/preview"
    api = HfApi()
    api.create_repo(name, repo_type="dataset")
    try:
        api.upload_folder(repo_id=name, repo_type="dataset", folder_path=folder, ignore_patterns=".build/**")
        remote, local = Library(name), library
        for config in ("ttt", "response"):
            local_view, remote_view = local.view(config, "train"), remote.view(config, "train")
            assert remote.clip(remote_view, 5, "audio") == local.clip(local_view, 5, "audio")
            markup = html.conversation(remote, remote_view, 5)
            assert markup.replace('preload="none"', 'preload="metadata"') == html.conversation(
                local, local_view, 5
            )
        assert remote.clip(remote_view, 5, "target_audio") == local.clip(local_view, 5, "target_audio")
        assert Reader(summary.head(remote, remote_view)).text.count(name) == 1
        turn = html.turn(remote, remote_view, 5)  # the answer's clip is played from afar, and not drawn
        assert (turn.count("<audio"), turn.count('class="lane wave"')) == (2, 1)
    finally:
        api.delete_repo(name, repo_type="dataset")


def test_a_union_is_shown_as_a_whole_or_task_by_task(omni):
    tasks = omni.tasks("omni", "train")
    whole = omni.view("omni", "train")
    parts = [omni.view("omni", "train", task) for task in tasks]
    assert len(tasks) > 1
    assert [part.start for part in parts] == [0, *(part.stop for part in parts[:-1])]
    assert parts[-1].stop == whole.stop
    for task, part in zip(tasks, parts, strict=True):
        assert {row["task"] for row in omni.rows(part, range(part.start, part.stop))} == {task}


# --- sound and pictures ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def client(library) -> TestClient:
    return TestClient(Starlette(routes=routes(library)))


def test_a_clip_is_served_with_its_true_type_and_not_kept(library, client):
    view = library.view("ttt", "train")
    answer = client.get("/" + clip_url(view, 3))
    assert answer.content == library.clip(view, 3, "audio")
    assert answer.headers["content-type"] == "audio/wav"
    assert answer.headers["x-content-type-options"] == "nosniff"


@given(start=st.integers(0, 200_000), length=st.none() | st.integers(0, 200_000))
@FEW
def test_any_range_of_a_clip_can_be_asked_for(library, client, start, length):
    view = library.view("ttt", "train")
    data = library.clip(view, 0, "audio")
    last = "" if length is None else start + length
    answer = client.get("/" + clip_url(view, 0), headers={"Range": f"bytes={start}-{last}"})
    if start >= len(data):
        assert answer.status_code == 416
        return
    expected = data[start:] if length is None else data[start : start + length + 1]
    assert (answer.status_code, answer.content) == (206, expected)
    assert answer.headers["content-range"] == f"bytes {start}-{start + len(expected) - 1}/{len(data)}"


@pytest.mark.parametrize(
    "asked", ["row=17", "row=-1", "row=x", "row=1&column=text", "row=1&split=none", "row=1&config=<b>", ""]
)
def test_what_is_no_clip_is_refused_in_plain_text(client, asked):
    answer = client.get("/speechrows/clip?config=ttt&split=train&" + asked)
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/plain")


def test_a_type_is_told_by_the_bytes(omni):
    view = omni.view("omni", "train")
    names = [row["audio"]["path"] for row in omni.rows(view, range(view.stop))]
    ends = {".wav": "audio/wav", ".flac": "audio/flac", ".opus": "audio/ogg", ".mp3": "audio/mpeg"}
    for row, name in enumerate(names):
        assert media_type(omni.clip(view, row, "audio")) == ends[Path(name).suffix]


def levels(uri: str) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_a_higher_tone_lies_higher_in_the_mel_and_silence_is_dark(rate):
    times = np.arange(rate) / rate
    heights = []
    for hertz in (300, 3000):
        tone = (0.5 * np.sin(2 * np.pi * hertz * times)).astype(np.float32)
        heights.append(int(pictures.log_mel(tone, rate).sum(axis=1, dtype=int).argmax()))
    assert heights[0] > heights[1] + 10  # rows count from the top
    assert not pictures.log_mel(np.zeros(rate, np.float32), rate).any()


def test_the_waveform_and_the_mel_span_the_whole_clip():
    samples = np.zeros((48_000, 2), np.float32)
    samples[24_000:] = 0.5
    drawn = pictures.draw(samples, 16_000)
    heights = [float(pair.partition(",")[2]) for pair in drawn.wave[1:-1].split()][: drawn.columns]
    assert set(heights[: drawn.columns // 2]) == {1.0}
    assert max(heights[drawn.columns // 2 + 1 :]) < 0.1
    bright = np.flatnonzero(levels(drawn.mel).max(axis=0))
    assert abs(bright.min() / levels(drawn.mel).shape[1] - 0.5) < 0.02
    assert (drawn.seconds, drawn.channels, drawn.peak_db) == (3.0, 2, -6.0)
    assert pictures.draw(samples[:9], 16_000).peak_db is None


def test_codes_are_a_pixel_a_frame_and_as_wide_as_their_time(omni):
    view = omni.view("s2s_mimi", "train")
    (row,) = omni.rows(view, range(1))
    codes = np.array(row["codec_targets"], np.int16)
    shown = html.turn(omni, view, 0)
    picture = levels(re.search(r'class="lane codes"[^>]*src="([^"]+)"', shown)[1])
    assert picture.shape == codes.shape
    order = np.argsort(codes.ravel(), kind="stable")
    assert (np.diff(picture.ravel()[order].astype(int)) >= 0).all()
    widths = [rf'class="lane {lane}" style="width:([\d.]+)%' for lane in ("wave", "codes")]
    wave, code = (float(re.search(width, shown)[1]) for width in widths)
    seconds = row["num_samples"] / row["sampling_rate"]
    assert wave / code == pytest.approx(seconds / (codes.shape[1] / 12.5), rel=1e-3)
    assert max(wave, code) == 100


def test_codes_can_be_heard_only_where_the_weights_are_and_else_the_page_says_why(omni):
    view = omni.view("s2s_mimi", "train")
    client = TestClient(Starlette(routes=routes(omni)))
    assert "hf download kyutai/mimi" in html.turn(omni, view, 0)
    assert client.get("/" + decoded_url(view, 0)).status_code == 404
    assert "no decoder for cosyvoice2" in decode.why_not("cosyvoice2")


def test_codes_are_decoded_by_weights_that_are_here(omni):
    torch = pytest.importorskip("torch")
    from transformers import MimiModel  # noqa: PLC0415  # it needs torch

    config = MimiConfig(
        hidden_size=32, num_filters=4, codebook_dim=16, vector_quantization_hidden_dimension=16,
        num_hidden_layers=1, intermediate_size=64, num_attention_heads=2, num_key_value_heads=2,
        num_quantizers=9, upsample_groups=32, sliding_window=25,
    )  # fmt: skip
    repo = Path(constants.HF_HUB_CACHE) / "models--kyutai--mimi"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs/main").write_text("0" * 40)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        torch.manual_seed(0)
        MimiModel(config).save_pretrained(repo / "snapshots" / ("0" * 40))
        view = omni.view("s2s_mimi", "train")
        (row,) = omni.rows(view, range(1))
        assert "Decoded back" in (shown := html.turn(omni, view, 0))
        assert decoded_url(view, 0).replace("&", "&amp;") in shown
        answer = TestClient(Starlette(routes=routes(omni))).get("/" + decoded_url(view, 0))
    finally:
        torch.set_num_threads(threads)
        shutil.rmtree(repo)
        decode._model.cache_clear()
    samples, rate = soundfile.read(io.BytesIO(answer.content))
    assert rate == CODECS["mimi"].sampling_rate
    assert len(samples) == len(row["codec_targets"][0]) * CODECS["mimi"].frame_size


@given(st.floats(0, 20_000))
@MANY
def test_an_axis_has_a_few_marks_in_the_clip(seconds):
    marks = html.ticks(seconds)
    assert marks[0] == 0
    assert marks[-1] <= seconds
    assert len(marks) <= 11


# --- finding --------------------------------------------------------------------------------


def test_a_row_a_conversation_and_a_part_of_a_name_are_found(library):
    view = library.view("ttt", "train")
    names = view.index.row_ids(range(view.stop))
    for row, name in enumerate(names):
        assert find.by_name(library, view, name) == [row]
    talk = names[4].rsplit("/", 2)[0].split("/", 2)[2]
    assert find.by_name(library, view, talk) == [row for row, name in enumerate(names) if f"/{talk}/" in name]
    assert find.by_name(library, view, "no such") == []


@given(st.data())
@FEW
def test_a_part_of_a_name_finds_the_rows_of_the_view_that_contain_it(omni, data):
    task = data.draw(st.sampled_from([None, *omni.tasks("omni", "train")]))
    view = omni.view("omni", "train", task)
    names = view.index.row_ids(range(len(view.index)))
    name = data.draw(st.sampled_from(names))
    start = data.draw(st.integers(0, len(name) - 1))
    part = name[start : data.draw(st.integers(start + 1, len(name)))]
    inside = [row for row in range(view.start, view.stop) if part in names[row]]
    exact = [row for row in inside if f"/{part.strip('/')}/" in f"/{names[row]}/"]
    assert find.by_name(omni, view, part) == (exact or inside)


@pytest.mark.parametrize("from_row", [0, 7, 16])
def test_a_search_finds_what_is_said_in_any_case_wherever_it_begins(library, folder, from_row):
    view = library.view("ttt", "train")
    result = find.by_words(library, view, "THAT", from_row)
    expected = [row for row, cells in enumerate(read_rows(folder)) if "that" in cells["transcript"].lower()]
    assert sorted(hit.row for hit in result.hits) == expected
    assert (result.searched, result.next_row) == (17, None)
    assert all(hit.match.lower() == "that" for hit in result.hits)


@pytest.mark.parametrize("from_row", [0, 7, 16])
def test_a_search_out_of_time_says_so_and_goes_on_until_each_row_was_seen_once(library, from_row):
    view = library.view("ttt", "train")
    result = find.by_words(library, view, "e", from_row, seconds=0)
    rows, searched, rounds = [hit.row for hit in result.hits], result.searched, 1
    while result.next_row is not None and rounds < 9:
        result = find.by_words(library, view, "e", result.next_row, seconds=0, stop_row=from_row)
        rows += [hit.row for hit in result.hits]
        searched, rounds = searched + result.searched, rounds + 1
    assert rounds == 4
    assert searched == 17
    assert sorted(rows) == sorted(hit.row for hit in find.by_words(library, view, "e", 0).hits)


def test_answers_are_searched_too(omni):
    view = omni.view("omni", "train")
    hit = find.by_words(omni, view, "William Shakespeare", 0).hits[0]
    assert hit.match == "william shakespeare"


def test_traits_are_counted_and_each_opens_a_row_of_its_kind(library, folder):
    rows = read_rows(folder)
    traits = find.traits(library, library.view("ttt", "train"))
    assert (traits.sampled, traits.total) == (17, 17)
    for value, count, row in traits.counts["emotion"]:
        assert count == sum(cells["emotion"] == value for cells in rows)
        assert rows[row]["emotion"] == value
    few = find.traits(library, library.view("ttt", "train"), seconds=0)
    assert few.sampled < few.total
    assert "spread over the files" in summary.render(
        "numbers.html", charts=[], worst=None, extremes=[], traits=few
    )


# --- all rows at a glance -------------------------------------------------------------------


@given(st.lists(st.integers(0, 300), min_size=1) | st.lists(st.floats(0, 60), min_size=1))
@MANY
def test_each_row_is_in_one_bar_and_a_bar_opens_one_of_its_rows(values):
    array = np.array(values)
    rows = np.arange(len(values)) + 100
    bars = summary.histogram(array, rows, "s", Bins.of(array))
    assert len(bars) <= 2 * len(values) ** (1 / 3) + 3
    assert sum(bar.count for bar in bars) == len(values)
    assert all((bar.row is None) == (bar.count == 0) for bar in bars)
    first = [values[bar.row - 100] for bar in bars if bar.row is not None]
    assert first == sorted(first)
    for bar, value in zip([bar for bar in bars if bar.count], first, strict=True):
        ends = bar.title.partition(" s:")[0].replace(" or more", " to inf").split(" to ")
        if array.dtype.kind == "i":
            assert float(ends[0]) <= value <= float(ends[-1])


def test_charts_have_axes_that_count_in_whole_numbers(library):
    view = library.view("ttt", "train")
    shown = summary.numbers(library, view)
    chart = shown[shown.index("Rows of a conversation") :].partition("</figure>")[0]
    text = "".join(Reader(chart).text.split())
    turns = np.diff(np.append(view.conversations, view.stop))
    assert sorted(turns.tolist()) == [3, 4, 4, 6]
    assert text.endswith("conversations" + "012" + "3456" + "rows")


def test_the_ledger_shows_each_fault_with_its_reason(hostile):
    view = hostile.view("ttt", "train")
    lines = (Path(hostile.folder.root) / "skipped.jsonl").read_text("utf-8").splitlines()
    faults = [json.loads(line) for line in lines]
    read = Reader(summary.ledger(hostile, view))
    assert faults
    assert all(fault["clip_id"] in read.text and fault["detail"] in read.text for fault in faults)
    assert set(summary.reasons(view)) == {fault["reason"] for fault in faults}
    only = Reader(summary.ledger(hostile, view, "truncated")).text
    assert "the file is truncated" in only
    assert "promises whole conversations" not in only


def test_the_extremes_are_the_longest_and_the_shortest(library):
    view = library.view("ttt", "train")
    seconds = summary.seconds_of(view)
    read = Reader(summary.numbers(library, view))
    for row in (seconds.argmax(), seconds.argmin()):
        assert view.index.row_id(int(row)) in read.text


def test_rows_that_were_screened_are_shown_the_worst_first_with_their_clips(library, folder, tmp_path):
    assert "The worst first" not in summary.numbers(library, library.view("ttt", "train"))
    shutil.copytree(folder, tmp_path / "rows")
    screen(str(tmp_path / "rows"), languages=["ru"])
    screened = Library(str(tmp_path / "rows"))
    view = screened.view("ttt", "train")
    worst = summary.worst(screened, view)
    assert worst is not None
    assert [bad.badness for bad in worst] == [1.0] * len(worst), "English is in another script than Russian"
    assert [bad.row_id for bad in worst] == view.index.row_ids([bad.row for bad in worst])
    shown = summary.numbers(screened, view)
    assert "100% of the letters are of another script" in Reader(shown).text
    assert shown.count("<audio") == len(worst) == min(view.stop, 40)
    assert all(bad.url == clip_url(view, bad.row) for bad in worst)


def test_the_pace_leaves_out_the_tokens_of_audio_where_there_are_any(library, tmp_path):
    corpus, builder = SAMPLE_OF["dailytalk_usdm"], "dailytalk_usdm"
    build_rows(corpus, tmp_path / "heard", "transcription", builder=builder)
    units = made_up(tmp_path / "heard", "units", tmp_path / "units")
    build_rows(corpus, tmp_path / "rows", "usdm", builder=builder, generated=(units,))
    unheard = Library(str(tmp_path / "rows"))
    for source, config in ((library, "ttt"), (unheard, "usdm")):
        audio_id = source.tokenizer.get_vocab()[AUDIO_TOKEN]
        view = source.view(config, "train")
        num_text_tokens = summary.pace(view) * summary.seconds_of(view)
        texts = [row["input_ids"][: row["num_tokens"]] for row in source.rows(view, range(view.stop))]
        expected = [sum(token != audio_id for token in text) for text in texts]
        assert num_text_tokens.round(6).tolist() == expected


# --- walking --------------------------------------------------------------------------------


def test_steps_stay_inside_the_view_and_the_conversation(library):
    view = library.view("ttt", "train")
    starts = view.conversations.tolist()
    assert [step_from(view, row, "next") for row in starts] == [*starts[1:], starts[-1]]
    assert [step_from(view, row + 1, "before") for row in starts] == [starts[0], *starts[:-1]]
    for row in range(view.stop):
        _, start, stop = view.conversation(row)
        assert step_from(view, row, "next_turn") == min(row + 1, stop - 1)
        assert step_from(view, row, "turn_before") == max(row - 1, start)
        assert view.start <= step_from(view, row, "random") < view.stop


def test_another_config_keeps_what_of_the_choice_still_fits(omni):
    act = Actions(omni)
    values = act.choose("omni", "validation", "transcription", "listen")
    assert (values["split"]["value"], values["task"]["value"]) == ("validation", "transcription")
    values = act.choose("s2s_mimi", "validation", "transcription", "listen")
    assert (values["split"]["value"], values["task"]["value"]) == ("train", "s2s_mimi")
    assert act.choose("omni", None, None, "listen")["task"]["choices"][0] == (ALL)


def test_the_task_is_a_choice_only_where_there_are_several(omni):
    act = Actions(omni)
    assert act.choose("omni", "train", None, "listen")["task"]["visible"]
    assert not act.choose("s2s_mimi", "train", None, "listen")["task"]["visible"]


def test_an_address_opens_its_row_and_what_is_not_there_is_told(omni):
    act, name = Actions(omni), omni.view("omni", "train").index.row_id(12)
    for row in (name, "12"):
        values = act.open_address("omni", "listen", {"config": "omni", "split": "train", "row": row})
        assert (values["config"], values["split"]["value"], values["task"]["value"]) == ("omni", "train", ALL)
        assert values["at"] == 12
        assert name in values["turn"]
        assert values["hits"] == ""
    first = next(iter(omni.splits))
    assert act.open_address(first, "listen", {"__theme": "dark"})["config"] == first
    missing = {"config": "<b>", "split": "test", "row": "no such"}
    for key, value in missing.items():
        values = act.open_address("omni", "listen", {"config": "omni", key: value})
        assert values["at"] == 0
        assert f"{key}={value}" in Reader(values["hits"]).text
        assert "<b><" not in values["hits"]
    for number in ("99", "-1", "1.5", "²"):
        assert "row=" in act.open_address("omni", "listen", {"config": "omni", "row": number})["hits"]


def test_find_opens_what_has_that_name_and_lists_what_is_said(library):
    act, view = Actions(library), library.view("ttt", "train")
    assert act.search("ttt", "train", ALL, 0, f" {view.index.row_id(9)} ")["at"] == 9
    values = act.search("ttt", "train", ALL, 0, "that")
    assert values["at"] == values["search"].result.hits[0].row
    assert "<mark>" in values["hits"]
    assert act.search("ttt", "train", ALL, 0, " ")["hits"] == ""
    assert "Nothing has this" in act.search("ttt", "train", ALL, 3, "zebra")["hits"]


def test_no_answer_changes_the_tab_so_what_is_slow_brings_nobody_back(library):
    act, name = Actions(library), library.view("ttt", "train").index.row_id(9)
    all_values = [
        act.search("ttt", "train", ALL, 0, name),
        act.search("ttt", "train", ALL, 0, "that"),
        act.select("ttt", "train", ALL, 3),
        act.step("ttt", "train", ALL, 3, step="next"),
    ]
    assert all("chat" in values and not {"tab", "tabs"} & values.keys() for values in all_values)


# --- the server -----------------------------------------------------------------------------


def get(url: str, data: bytes | None = None, **headers: str) -> tuple[int, str]:
    """The status and policy of an answer; of a POST, where there is `data`."""
    request = urllib.request.Request(url, data, {name.replace("_", "-"): headers[name] for name in headers})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, str(answer.headers["Content-Security-Policy"])
    except urllib.error.HTTPError as error:
        return error.code, ""


FORM = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\nhi\r\n--x--\r\n'


def assert_closed_to_strangers(url: str) -> None:
    """No page of another server may ask, nobody may upload, no file of this machine is served."""
    api, here = f"{url}gradio_api", url.rstrip("/")
    assert get(url, Origin=here, Sec_Fetch_Site="same-origin")[0] == 200
    assert (
        get(url, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate")[0] == 200
    )  # a link that is followed
    for origin in ("http://evil.example", "null", f"{here}0", here.replace("127.0.0.1", "localhost")):
        assert get(url, Origin=origin)[0] == 403
        assert get(f"{api}/queue/join", b"{}", Origin=origin, Content_Type="text/plain")[0] == 403
    assert get(f"{url}speechrows/clip?config=ttt&split=train&row=0", Sec_Fetch_Site="cross-site")[0] == 403
    kind = "multipart/form-data; boundary=x"
    for path in ("upload", "upload/", "component_server", "process_recording", "stream/x", "vibe-edit"):
        assert get(f"{api}/{path}", FORM, Content_Type=kind)[0] == 403
        assert get(f"{api}/{path}", FORM, Content_Type=kind, Origin=here)[0] == 403
    for path in ("file=/etc/hostname", "file/etc/hostname", "proxy=https://evil.example", "upload_progress"):
        assert get(f"{api}/{path}")[0] == 403
    assert get(f"{api}/queue/join", b"{}", Content_Type="application/json", Origin=here)[0] == 422  # Gradio's


def test_with_a_model_the_page_itself_uploads_and_gets_what_was_uploaded_and_no_other_does(folder, tmp_path):
    page = launch(str(folder), only_here=True, wait=False, open_talk=lambda: None)  # type: ignore[arg-type]
    api, here, kind = (
        f"{page.local_url}gradio_api",
        page.local_url.rstrip("/"),
        "multipart/form-data; boundary=x",
    )
    (outside := tmp_path / "outside.wav").write_bytes(b"of this machine")
    try:
        for more in ({}, {"Origin": "http://evil.example"}, {"Origin": here, "Sec_Fetch_Site": "cross-site"}):
            assert get(f"{api}/upload", FORM, Content_Type=kind, **more)[0] == 403
        request = urllib.request.Request(f"{api}/upload", FORM, {"Content-Type": kind, "Origin": here})
        with urllib.request.urlopen(request, timeout=20) as answer:
            (uploaded,) = json.loads(answer.read())
        assert get(f"{api}/file={uploaded}")[0] == 200
        uploads = Path(uploaded).parents[1]
        ways_out = (str(outside), "/etc/hostname", f"{uploads}/../../etc/hostname", "https://evil.example")
        for path in (*ways_out, f"{uploads}x/a.wav"):
            assert get(f"{api}/file={path}")[0] == 403
        assert get(f"{api}/file={uploaded}", Origin="http://evil.example")[0] == 403
        for path in (
            "component_server",
            "process_recording",
            "stream/x",
            "vibe-edit",
            "proxy=https://evil.example",
        ):
            assert get(f"{api}/{path}", FORM, Content_Type=kind, Origin=here)[0] == 403
    finally:
        page.close(verbose=False)


def test_the_page_is_served_to_loopback_under_its_own_name_alone(folder):
    page = launch(str(folder), only_here=True, wait=False)
    try:
        assert page.local_url.startswith("http://127.0.0.1:")
        assert page.server.config.host == "127.0.0.1"
        status, policy = get(page.local_url)
        assert status == 200
        assert "default-src 'self'" in policy
        assert get(page.local_url, Host="evil.example")[0] == 400
        assert_closed_to_strangers(page.local_url)
        with pytest.raises(UsageError, match="give another"):
            launch(str(folder), port=page.server_port, only_here=True, wait=False)
    finally:
        page.close()


def test_a_space_shows_it_under_its_own_name_and_in_a_frame(folder):
    page = launch(str(folder), wait=False)
    try:
        name = "org-name.hf.space"
        assert get(page.local_url, Host=name) == (200, "None")
        assert get(page.local_url, Origin=f"https://{name}", X_Forwarded_Host=name)[0] == 200
        assert_closed_to_strangers(page.local_url)
    finally:
        page.close()


def test_without_gradio_the_command_says_what_to_install(folder):
    script = "import sys; sys.modules['gradio'] = None; from speechrows.cli import main; sys.exit(main())"
    process = start_python(script, "preview", folder)
    output, errors = process.communicate(60)
    assert process.returncode == 2
    assert output == ""
    assert errors.count("\n") == 2
    assert errors.startswith("opening ")  # before gradio, which takes long
    assert "pip install 'speechrows[preview]'" in errors
