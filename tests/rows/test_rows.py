"""What rows.py promises: every item becomes a row, a fault or a rule; nothing is lost or doubled.

Over 300 lines, because the promises of one module stand in one file.
"""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume
from hypothesis import given
from hypothesis import strategies as st
from toys.dialogues import ToyClips
from toys.dialogues import clip_bytes
from toys.dialogues import toy_codes
from toys.dialogues import toy_dialogue
from toys.dialogues import toy_turn
from toys.examples import MANY
from toys.texts import TEXTS
from toys.tokenizer import toy_tokenizer

from speechrows.codec import num_audio_tokens
from speechrows.rows.conversation import split_of
from speechrows.rows.pairing import pair
from speechrows.rows.rows import RowSpec
from speechrows.rows.rows import load_clips
from speechrows.rows.rows import to_rows
from speechrows.rows.tasks import CORRESPOND
from speechrows.rows.tasks import NUM_UNITS
from speechrows.rows.tasks import TASKS
from speechrows.text.chat import ChatTemplate
from speechrows.text.chat import compile_chat
from speechrows.text.normalise import is_blank
from speechrows.text.normalise import normalise
from speechrows.text.options import TemplateOptions
from speechrows.text.template import compile_template
from speechrows.text.template import is_chat
from speechrows.types import AUDIO_TOKEN
from speechrows.types import IGNORE_INDEX
from speechrows.types import Codes
from speechrows.types import Dialogue
from speechrows.types import Fault
from speechrows.types import Reason
from speechrows.types import Row
from speechrows.types import Rule
from speechrows.types import Task
from speechrows.types import Traits
from speechrows.types import Turn

RATE = Fraction(25, 2)
TTT, TRANSCRIPTION, RESPONSE = TASKS["ttt"], TASKS["transcription"], TASKS["response"]
CHATS = [task for task in TASKS.values() if is_chat(task)]
EACH_TASK = pytest.mark.parametrize("task", CHATS, ids=[task.name for task in CHATS])
_chats: dict[tuple[str, str], ChatTemplate] = {}


def spec_of(task, *, tokenizer: str = "bpe", fraction: float = 0.0) -> RowSpec:
    key = (tokenizer, task.name)
    if key not in _chats:
        _chats[key] = compile_chat(toy_tokenizer(tokenizer, "chatml_with_default_system"), task)
    return RowSpec(
        builder="toy_builder",
        corpus="toy_corpus",
        task=task,
        template=_chats[key],
        tokens_per_second=RATE,
        validation_fraction=fraction,
    )


def build(dialogues: list[Dialogue], spec: RowSpec, clips: ToyClips | None = None):
    """Rows, skipped and left out of dialogues, and how many items there were."""
    clips = clips or ToyClips()
    loaded = [load_clips(dialogue, spec.task, clips) for dialogue in dialogues]
    rows, not_round_trip, too_long = to_rows(loaded, spec)
    skipped = [fault for dialogue in loaded for fault in dialogue.skipped] + not_round_trip
    left_out = [rule for dialogue in loaded for rule in dialogue.left_out] + too_long
    num_items = sum(
        len(items) + len(rules) for items, rules in (pair(dialogue, spec.task) for dialogue in dialogues)
    )
    return rows, skipped, left_out, num_items


def reasons(skipped) -> dict[str, Reason]:
    return {fault.clip_id.rpartition("/")[2]: fault.reason for fault in skipped}


def turns(number: int, needs: str | None = None) -> list[Turn]:
    return [toy_turn(i, f"text {i}", needs=needs) for i in range(number)]


def spoilt(at: int, number: int = 4, **change) -> Dialogue:
    """A dialogue of `number` turns of which one is bad."""
    changed = turns(number)
    changed[at] = toy_turn(at, **{"text": f"text {at}", **change})
    return toy_dialogue(*changed)


# --- what a row is --------------------------------------------------------------------------


def test_a_dialogue_of_ttt_is_a_row_a_turn_in_order_with_its_columns():
    dialogue = toy_dialogue(toy_turn(0, " the inn "), toy_turn(1, "A thé", audio="24000@24000"))
    (first, second), skipped, left_out, _ = build([dialogue], spec_of(TTT))
    assert not skipped
    assert not left_out
    assert first.row_id == "toy_builder/train/corpus/one/0/ttt"
    assert (first.clip_id, second.clip_id) == ("corpus/one/0", "corpus/one/1")
    assert (first.turn_number, second.turn_number, first.num_turns) == (0, 1, 2)
    assert (first.speaker, first.role, second.role) == ("the user", "user", "assistant")
    assert first.transcript == "the inn"
    assert second.messages == (("user", AUDIO_TOKEN), ("assistant", "A thé"))
    assert second.clip.num_samples == 24000
    assert (first.source, first.domain, first.target_clip) == ("toy_corpus/16000@16000", "toys", None)
    assert first.text.startswith("<|im_start|>system")
    assert second.text.startswith("<|im_start|>user\n<audio>")


def test_a_conversation_has_its_own_system_prompt_or_the_builds_and_its_first_row_is_written_with_it():
    own = replace(toy_dialogue(*turns(3)), system=" Be cafe\u0301. ")
    plain, blank = toy_dialogue(*turns(2), name="corpus/two"), replace(own, system=" \n")
    for task, spec in ((TTT, spec_of(TTT)), (TRANSCRIPTION, spec_of(TRANSCRIPTION))):
        rows, skipped, *_ = build([own, plain, blank], replace(spec, system="Be brief."))
        assert not skipped
        assert [row.system for row in rows] == ["Be caf\u00e9."] * 3 + ["Be brief."] * 5
        expected = [row.turn_number == 0 or task is TRANSCRIPTION for row in rows]
        assert [str(row.system) in row.text for row in rows] == expected
        assert all(row.messages[0] == ("user", spec.template.user) for row in rows)
        before, *_ = build([own, plain, blank], spec)
        assert [row.system for row in before] == ["Be caf\u00e9."] * 3 + [None] * 5
    rows, *_ = build([replace(toy_dialogue(*turns(2, "units")), system="Be brief.")], usdm_spec())
    assert [row.system for row in rows] == [None]
    bad = replace(own, system="\ud800")
    assert {*reasons(build([bad], spec_of(TTT))[1]).values()} == {Reason.BAD_TEXT, Reason.DIALOGUE_INCOMPLETE}


def check_row(row: Row, spec: RowSpec, target: str) -> None:
    """Every promise of a row that its own columns can show."""
    chat, multiple = spec.template, spec.task.pad_to_multiple_of
    supervised = row.labels[row.labels != IGNORE_INDEX]
    decoded = chat.tokenizer.decode(
        supervised.tolist(), skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    assert decoded == target
    assert len(row.input_ids) == len(row.labels) == math.ceil(row.num_tokens / multiple) * multiple
    assert ((row.labels == IGNORE_INDEX) | (row.labels == row.input_ids)).all()
    assert (row.input_ids[row.num_tokens :] == chat.pad_id).all()
    assert (row.labels[row.num_tokens :] == IGNORE_INDEX).all()
    num_audio = num_audio_tokens(row.clip.num_samples, row.clip.sampling_rate, spec.tokens_per_second)
    assert (row.input_ids == chat.audio_id).sum() == num_audio
    assert supervised[-1] == chat.last.end_ids[0]
    assert row.text.count(AUDIO_TOKEN) == 1 + target.count(AUDIO_TOKEN)
    assert row.text.index(AUDIO_TOKEN) < row.text.rindex(target)
    assert row.messages[1] == ("assistant", target)
    assert row.messages[0][1].count(AUDIO_TOKEN) == 1


@EACH_TASK
def test_every_row_keeps_every_promise_for_any_text(task):
    spec = spec_of(task)

    @MANY
    @given(st.lists(TEXTS, min_size=2, max_size=4), st.integers(1, 50_000))
    def check(texts: list[str], num_samples: int) -> None:
        texts = texts[: len(texts) // 2 * 2]
        assume(not any(map(is_blank, texts)))
        dialogue_turns = [
            toy_turn(i, text, audio=f"{num_samples}@16000", needs=task.needs) for i, text in enumerate(texts)
        ]
        rows, skipped, _, _ = build([toy_dialogue(*dialogue_turns)], spec)
        assert not skipped
        targets = texts[1::2] if task.pairing == "exchange" else texts
        for row, target in zip(rows, targets, strict=True):
            check_row(row, spec, normalise(target, lower_case=task.lower_case))
            assert row.conversation_tokens == sum(len(other.input_ids) for other in rows)

    check()


def test_transcription_is_lower_case_and_keeps_the_transcript_as_it_is_written():
    (row,), *_ = build([toy_dialogue(toy_turn(0, "The Inn. İ"))], spec_of(TRANSCRIPTION))
    assert row.transcript == "The Inn. İ"
    assert row.messages[1][1] == normalise("The Inn. İ", lower_case=True)


def test_ttt_rows_are_padded_to_64_and_other_rows_are_not():
    for task in CHATS:
        (row, *_), *_ = build([toy_dialogue(*turns(2, task.needs))], spec_of(task))
        assert len(row.input_ids) == (64 if task is TTT else row.num_tokens)
        assert row.num_tokens % 64


# --- what a clip brings besides its text -----------------------------------------------------

SIFT, MIMI, USDM = TASKS["sift_ssp"], TASKS["s2s_mimi"], TASKS["usdm"]


def usdm_spec() -> RowSpec:
    tokenizer = toy_tokenizer("byte_level", None)
    tokenizer.add_tokens([CORRESPOND, *(f"<|unit{i}|>" for i in range(NUM_UNITS))], special_tokens=True)
    template = compile_template(tokenizer, USDM, TemplateOptions())
    return RowSpec(builder="b", corpus="c", task=USDM, template=template, tokens_per_second=RATE)


def test_a_clip_without_answer_or_codes_is_left_out_and_an_empty_answer_is_a_fault():
    dialogue = toy_dialogue(toy_turn(0, answer="Well."), toy_turn(1), toy_turn(2, answer=" "))
    rows, skipped, left_out, num_items = build([dialogue], spec_of(SIFT))
    assert [(row.clip_id, row.transcript, row.messages[1][1]) for row in rows] == [
        ("corpus/one/0", "hello", "Well.")
    ]
    assert (reasons(skipped), num_items) == ({"2": Reason.EMPTY_TEXT}, 3)
    assert [(item.clip_id, item.rule) for item in left_out] == [("corpus/one/1", Rule.NO_ANSWER)]
    _, _, left_out, _ = build([toy_dialogue(*turns(2))], spec_of(MIMI))
    assert [item.rule for item in left_out] == [Rule.NO_CODES] * 2


def test_an_answer_that_was_cut_teaches_its_words_and_no_ending():
    dialogue = toy_dialogue(
        toy_turn(0, answer="Well the"), toy_turn(1, answer="Well the", answer_is_cut=True)
    )
    (whole, cut), *_ = build([dialogue], spec_of(SIFT))
    assert whole.input_ids.tolist() == cut.input_ids.tolist()
    (place,) = np.flatnonzero(whole.labels != cut.labels)
    assert (cut.labels[place], whole.labels[place]) == (IGNORE_INDEX, spec_of(SIFT).template.last.end_ids[0])


def test_a_turn_that_its_reader_leaves_out_is_counted_under_its_rule():
    dialogue = toy_dialogue(toy_turn(0, left_out=Rule.OTHER_MODE), toy_turn(1))
    rows, skipped, left_out, _ = build([dialogue], spec_of(TRANSCRIPTION))
    assert (len(rows), skipped, [item.rule for item in left_out]) == (1, [], [Rule.OTHER_MODE])


def test_codes_that_are_no_mimi_codes_are_a_fault_of_their_clip():
    bad = Codes(codec="mimi", values=np.full((8, 2), 2048, np.int16))
    dialogue = toy_dialogue(toy_turn(0, needs="codes"), toy_turn(1, codes=bad))
    rows, skipped, *_ = build([dialogue], spec_of(MIMI))
    assert [row.codes.values.shape for row in rows] == [(8, 3)]
    assert reasons(skipped) == {"1": Reason.BAD_CODES}
    assert "2048" in skipped[0].detail


def test_a_response_carries_the_codes_of_its_answer():
    dialogue = toy_dialogue(toy_turn(0, needs="codes"), toy_turn(1, needs="codes"))
    ((row,), *_) = build([dialogue], spec_of(RESPONSE))
    assert row.codes.values.tolist() == toy_codes("codes", 1).values.tolist()


def test_both_pairing_makes_every_turn_a_user_and_every_next_one_its_answer():
    rows, skipped, left_out, _ = build([toy_dialogue(*turns(4, "units"))], usdm_spec())
    assert not skipped
    assert [(row.turn_number, row.role, row.transcript, row.messages[1][1]) for row in rows] == [
        (i, "user", f"text {i}", f"text {i + 1}") for i in range(3)
    ]
    assert [row.codes.values[0, 0] for row in rows] == [100, 200, 300]
    assert all(row.target_clip for row in rows)
    assert [item.rule for item in left_out] == [Rule.NO_ANSWER]


def test_a_dialogue_in_which_one_speaks_twice_in_a_row_is_left_out_of_usdm():
    dialogue = toy_dialogue(*turns(2, "units"), toy_turn(2, role="assistant", needs="units"))
    rows, _, left_out, _ = build([dialogue], usdm_spec())
    assert rows == []
    assert [item.rule for item in left_out] == [Rule.SAME_SPEAKER, Rule.SAME_SPEAKER, Rule.NO_ANSWER]


def test_a_usdm_row_of_more_than_8192_tokens_is_left_out_and_the_others_stay():
    long = toy_turn(1, "text 1", codes=toy_codes("units", frames=8100))
    dialogue = toy_dialogue(toy_turn(0, needs="units"), long, *turns(4, "units")[2:])
    rows, skipped, left_out, num_items = build([dialogue], usdm_spec())
    assert [row.turn_number for row in rows] == [2]
    assert sorted(item.rule for item in left_out) == [Rule.NO_ANSWER, Rule.TOO_LONG, Rule.TOO_LONG]
    assert num_items == len(rows) + len(skipped) + len(left_out)


# --- pairing --------------------------------------------------------------------------------


def test_response_pairs_a_user_with_the_answer_of_the_next_speaker():
    dialogue = toy_dialogue(*turns(4))
    rows, skipped, left_out, num_items = build([dialogue], spec_of(RESPONSE))
    assert [(row.transcript, row.messages[1][1]) for row in rows] == [
        ("text 0", "text 1"),
        ("text 2", "text 3"),
    ]
    assert [(row.turn_number, row.num_turns, row.clip_id) for row in rows] == [
        (0, 2, "corpus/one/0"),
        (1, 2, "corpus/one/2"),
    ]
    assert all(row.target_clip is not None for row in rows)
    assert rows[1].text.startswith("<|im_start|>user")
    assert (skipped, left_out, num_items) == ([], [], 2)


def test_a_user_without_an_answer_is_left_out_and_exchanges_are_counted_without_it():
    roles = ["user", "user", "assistant", "assistant", "user", "assistant", "user"]
    dialogue = toy_dialogue(*(toy_turn(i, f"text {i}", role=role) for i, role in enumerate(roles)))
    rows, _, left_out, _ = build([dialogue], spec_of(RESPONSE))
    assert [(item.clip_id, item.rule) for item in left_out] == [
        ("corpus/one/0", Rule.NO_ANSWER),
        ("corpus/one/6", Rule.NO_ANSWER),
    ]
    assert [(row.turn_number, row.messages[1][1]) for row in rows] == [(0, "text 2"), (1, "text 5")]
    assert rows[0].text.startswith("<|im_start|>system")


def test_an_answer_of_text_alone_is_a_row_without_target_audio():
    dialogue = toy_dialogue(toy_turn(0), toy_turn(1, "fine", audio=None))
    (row,), skipped, _, _ = build([dialogue], spec_of(RESPONSE))
    assert row.target_clip is None
    assert not skipped


# --- faults ---------------------------------------------------------------------------------

BAD = {
    "missing clip": ({"audio": "missing"}, Reason.MISSING),
    "truncated clip": ({"audio": "truncated"}, Reason.TRUNCATED),
    "empty text": ({"text": "\u200b\n"}, Reason.EMPTY_TEXT),
    "text without end": ({"text": "a" * 2_000_001}, Reason.BAD_TEXT),
    "speaker without end": ({"speaker": "a" * 5000}, Reason.BAD_SPEAKER),
    "lone surrogate": ({"text": "caf\udce9"}, Reason.BAD_TEXT),
    "no round trip": ({"text": "snow\u2603man"}, Reason.NOT_ROUND_TRIP),
}


@pytest.mark.parametrize(("change", "reason"), BAD.values(), ids=BAD)
@pytest.mark.parametrize("at", [0, 1, 3])
def test_one_fault_drops_the_whole_dialogue_where_the_task_is_whole(at, change, reason):
    clips = ToyClips()
    spec = spec_of(TTT, tokenizer="metaspace_unk")
    rows, skipped, _, num_items = build([spoilt(at, **change)], spec, clips)
    assert rows == []
    assert num_items == 4
    expected = {str(i): Reason.DIALOGUE_INCOMPLETE for i in range(4)}
    assert reasons(skipped) == expected | {str(at): reason}
    assert all(
        f"/{at} is skipped" in item.detail for item in skipped if item.reason is Reason.DIALOGUE_INCOMPLETE
    )
    assert clips.used == 0 or reason is Reason.NOT_ROUND_TRIP


@pytest.mark.parametrize(("change", "reason"), BAD.values(), ids=BAD)
@pytest.mark.parametrize("at", [0, 1, 3])
def test_one_fault_drops_its_own_turn_alone_elsewhere(at, change, reason):
    spec = spec_of(TRANSCRIPTION, tokenizer="metaspace_unk")
    rows, skipped, _, _ = build([spoilt(at, **change)], spec)
    assert reasons(skipped) == {str(at): reason}
    assert [row.turn_number for row in rows] == [i for i in range(4) if i != at]
    assert all(row.num_turns == 4 for row in rows)
    assert {row.conversation_tokens for row in rows} == {sum(row.num_tokens for row in rows)}


@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_a_lost_clip_of_a_question_or_an_answer_drops_all_exchanges(at):
    rows, skipped, _, _ = build([spoilt(at, audio="missing")], spec_of(RESPONSE))
    assert rows == []
    lost, other = str(at // 2 * 2), str(2 - at // 2 * 2)
    assert reasons(skipped) == {lost: Reason.MISSING, other: Reason.DIALOGUE_INCOMPLETE}
    (fault,) = [item for item in skipped if item.reason is Reason.MISSING]
    assert fault.file == "missing"


def test_a_fault_of_one_dialogue_leaves_the_others():
    whole = [toy_dialogue(*turns(2), name=name) for name in ("a", "c")]
    bad = toy_dialogue(toy_turn(0), toy_turn(1, audio="empty"), name="b")
    clips = ToyClips()
    rows, skipped, _, _ = build([whole[0], bad, whole[1]], spec_of(TTT), clips)
    assert [row.clip_id for row in rows] == ["a/0", "a/1", "c/0", "c/1"]
    assert [item.clip_id for item in skipped] == ["b/0", "b/1"]
    assert clips.used == sum(row.clip.stop - row.clip.start for row in rows)


@EACH_TASK
def test_a_fault_that_the_reader_found_is_told_as_it_stands(task):
    fault = Fault(reason=Reason.BAD_SPEAKER, detail="speaker 'LLM3'", file="one.json")
    bad = Turn(number=2, speaker="LLM3", role=None, text="hm", audio=None, fault=fault)
    dialogue = toy_dialogue(*turns(2, task.needs), bad, toy_turn(3, needs=task.needs))
    rows, skipped, left_out, num_items = build([dialogue], spec_of(task))
    (skip,) = [item for item in skipped if item.reason is not Reason.DIALOGUE_INCOMPLETE]
    assert (skip.clip_id, skip.reason, skip.detail, skip.file) == (
        "corpus/one/2",
        Reason.BAD_SPEAKER,
        "speaker 'LLM3'",
        "one.json",
    )
    assert len(rows) + len(skipped) + len(left_out) == num_items
    assert rows == [] if task.whole else len(rows) == 3


@pytest.mark.parametrize("numbers", [(0, 1, 3), (1, 2, 3), (0, 1, 1), (0, 2, 1), (0, -1, 2)])
@pytest.mark.parametrize("task", [TTT, RESPONSE], ids=["ttt", "response"])
def test_a_gap_or_repeat_in_the_numbers_drops_the_dialogue_where_the_task_is_whole(numbers, task):
    roles = ("user", "assistant", "user")
    dialogue_turns = [toy_turn(n, f"t {i}", role=roles[i]) for i, n in enumerate(numbers)]
    rows, skipped, left_out, num_items = build([toy_dialogue(*dialogue_turns)], spec_of(task))
    assert rows == []
    skip_reasons = [item.reason for item in skipped]
    assert skip_reasons.count(Reason.BAD_NUMBER) == 1
    assert set(skip_reasons) <= {Reason.BAD_NUMBER, Reason.DIALOGUE_INCOMPLETE}
    assert len(skipped) + len(left_out) == num_items


def test_gaps_are_allowed_elsewhere_and_a_repeat_is_its_own_fault():
    dialogue_turns = [toy_turn(n, f"t {i}") for i, n in enumerate((0, 4, 4, 9))]
    rows, skipped, _, _ = build([toy_dialogue(*dialogue_turns)], spec_of(TRANSCRIPTION))
    assert [row.turn_number for row in rows] == [0, 4, 9]
    assert reasons(skipped) == {"4": Reason.BAD_NUMBER}


FAULTY = st.sampled_from(["missing", "empty", "truncated", "undecodable", "zero_samples"])
CLIPS = st.one_of(st.just("800@8000"), st.integers(1, 40_000).map(lambda n: f"{n}@16000"), FAULTY)


@st.composite
def any_dialogue(draw, task: Task) -> Dialogue:
    """Dialogues as corpora have them: mostly well, some with gaps, repeats, faults, no answer."""
    dialogue_turns = []
    for i in range(draw(st.integers(0, 6))):
        number = draw(st.sampled_from([i, i, i, i, i, i, i, i + 1, 0]))
        text = draw(
            st.one_of(st.just("the inn"), st.sampled_from(["", "\u2603", "\udce9", "</s>", "<audio>"]))
        )
        role = draw(st.sampled_from([("user", "assistant")[i % 2]] * 8 + ["user", "assistant", None]))
        audio = draw(st.one_of(st.just("800@8000"), st.just("800@8000"), CLIPS, st.none()))
        turn = toy_turn(number, text, audio=audio)
        fault = Fault(reason=Reason.BAD_SPEAKER, detail="who", file="f") if role is None else None
        dialogue_turns.append(
            Turn(
                number=number,
                speaker="x",
                role=role,
                text=turn.text,
                audio=turn.audio,
                fault=fault,
                traits=Traits(),
                answer=draw(st.sampled_from(["Well."] * 2 + [" ", None])) if task.needs == "answer" else None,
                codes=toy_codes("codes") if task.needs == "codes" and draw(st.booleans()) else None,
                # No reader leaves a turn out where whole conversations are promised.
                left_out=None if task.whole else draw(st.sampled_from([None] * 8 + [Rule.OTHER_MODE])),
            )
        )
    return toy_dialogue(*dialogue_turns, name=draw(st.sampled_from(["a", "b"])))


@EACH_TASK
def test_items_are_rows_and_skipped_and_left_out_whatever_the_dialogues(task):
    spec = spec_of(task, tokenizer="metaspace_unk")

    @MANY
    @given(st.lists(any_dialogue(task), max_size=4))
    def check(dialogues: list[Dialogue]) -> None:
        clips = ToyClips()
        rows, skipped, left_out, num_items = build(dialogues, spec, clips)
        assert num_items == len(rows) + len(skipped) + len(left_out)
        for row in rows:
            paths = {turn.audio.path for dialogue in dialogues for turn in dialogue.turns if turn.audio}
            if row.clip is not None:  # a row may be text alone
                assert clips.array[row.clip.start : row.clip.stop].tobytes() in map(clip_bytes, paths)
        for dialogue in dialogues:
            dialogue_rows, faults, *_ = build([dialogue], spec)
            if task.whole:
                assert [row.turn_number for row in dialogue_rows] == list(range(len(dialogue_rows)))
                assert not (dialogue_rows and faults)
                assert all(row.num_turns == len(dialogue_rows) for row in dialogue_rows)
            assert len({row.row_id for row in dialogue_rows}) == len(dialogue_rows)

    check()


# --- splits ---------------------------------------------------------------------------------


@MANY
@given(st.text(st.characters(exclude_categories=["Cs"])), st.floats(0, 1))
def test_twins_are_in_the_same_split_and_a_larger_fraction_only_adds(twin, fraction):
    first = toy_dialogue(*turns(2), name="xtts/a", twin=twin)
    second = toy_dialogue(*turns(4), name="orpheus/a", twin=twin)
    assert split_of(first, fraction) == split_of(second, fraction)
    if split_of(first, fraction / 2) == "validation":
        assert split_of(first, fraction) == "validation"
    assert split_of(first, 0) == "train"
    assert split_of(first, 1) == "validation"


def test_the_split_is_the_same_on_every_machine_and_holds_the_share_asked_for():
    splits = [split_of(toy_dialogue(twin=f"education/{i}"), 0.1) for i in range(2000)]
    assert 150 < splits.count("validation") < 250
    assert [i for i in range(40) if splits[i] == "validation"] == [0, 12, 18, 21, 27, 28, 31, 32, 35]


def test_a_split_of_the_publisher_is_kept():
    assert split_of(toy_dialogue(split="test"), 1.0) == "test"
    assert split_of(toy_dialogue(split="validation"), 0.0) == "validation"


def test_the_split_stands_in_the_row_and_its_name():
    rows, *_ = build([toy_dialogue(*turns(2))], spec_of(TTT, fraction=1.0))
    assert {row.split for row in rows} == {"validation"}
    assert rows[0].row_id == "toy_builder/validation/corpus/one/0/ttt"


def test_rows_do_not_depend_on_what_they_are_tokenised_with():
    spec = spec_of(TTT)
    dialogues = [toy_dialogue(*turns(n), name=f"d{n}") for n in (2, 3, 1)]
    together, *_ = build(dialogues, spec)
    apart = [row for dialogue in dialogues for row in build([dialogue], spec)[0]]
    assert [row.row_id for row in together] == [row.row_id for row in apart]
    for row, alone in zip(together, apart, strict=True):
        assert np.array_equal(row.input_ids, alone.input_ids)
        assert np.array_equal(row.labels, alone.labels)
        assert row.conversation_tokens == alone.conversation_tokens
