"""What the table of tasks promises: each line is one that the rest of the code can follow."""

import string

import pytest

from speechrows.rows.tasks import TASKS
from speechrows.text.template import is_chat
from speechrows.types import AUDIO_TOKEN
from speechrows.types import PROMPT

CHATS = [task for task in TASKS.values() if is_chat(task)]
EACH_CHAT = pytest.mark.parametrize("task", CHATS, ids=[task.name for task in CHATS])
EACH = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


@EACH
def test_a_task_is_found_by_its_name(task):
    assert TASKS[task.name] is task


@EACH_CHAT
def test_the_user_is_masked_and_hears_the_audio_once_or_says_what_the_corpus_has(task):
    user, assistant = task.segments
    assert (user.role, user.supervised) == ("user", False)
    assert user.text == PROMPT if task.takes_text else user.text.count(AUDIO_TOKEN) == 1
    assert task.takes_text == (task.name == "chat")
    assert AUDIO_TOKEN not in assistant.text


@EACH_CHAT
def test_the_assistant_is_supervised_on_the_field_that_its_pairing_gives(task):
    assistant = task.segments[1]
    assert (assistant.role, assistant.supervised) == ("assistant", True)
    (field,) = [name for _, name, _, _ in string.Formatter().parse(assistant.text) if name]
    assert field == ("answer" if task.pairing == "exchange" or task.needs == "answer" else "transcript")
    assert assistant.text == f"{{{field}}}"


@EACH
def test_only_a_task_of_whole_conversations_is_banded(task):
    assert task.whole or not task.banded
    assert task.pad_to_multiple_of >= 1


@EACH
def test_a_task_needs_what_its_segments_and_codec_targets_hold(task):
    fields = {
        name for segment in task.segments for _, name, _, _ in string.Formatter().parse(segment.text) if name
    }
    assert ("units" in fields) == (task.needs == "units")
    assert task.codec_targets or task.needs != "codes"


def test_usdm_supervises_what_it_is_to_write_and_not_what_it_hears():
    """The regions of the published template of USDM, and the end, which it leaves out."""
    assert [
        (segment.text.replace("\n", " ")[:14], segment.supervised) for segment in TASKS["usdm"].segments
    ] == [
        ("Below is a con", False),
        ("{units}<|corre", False),
        ("{transcript} ", True),
        ("### Agent ", False),
        ("{answer}<|corr", True),
        (" ", True),
    ]


def test_ttt_is_padded_for_its_inner_loop_and_transcription_is_lower_case():
    assert TASKS["ttt"].pad_to_multiple_of == 64
    lower = [task.name for task in TASKS.values() if task.lower_case]
    assert lower == ["transcription", "answer_extraction", "usdm"]
    assert [task.name for task in TASKS.values() if task.whole] == ["ttt", "response", "chat"]
