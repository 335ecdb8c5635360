"""What the table of tasks promises: each line is one that the rest of the code can follow."""

import string

import pytest

from speechrows.tasks import TASKS
from speechrows.types import AUDIO_TOKEN

EACH = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


@EACH
def test_a_task_is_found_by_its_name(task):
    assert TASKS[task.name] is task


@EACH
def test_the_user_is_masked_and_hears_the_audio_once(task):
    user, assistant = task.segments
    assert (user.role, user.supervised) == ("user", False)
    assert user.text.count(AUDIO_TOKEN) == 1
    assert AUDIO_TOKEN not in assistant.text


@EACH
def test_the_assistant_is_supervised_on_the_field_that_its_pairing_gives(task):
    assistant = task.segments[1]
    assert (assistant.role, assistant.supervised) == ("assistant", True)
    (field,) = [name for _, name, _, _ in string.Formatter().parse(assistant.text) if name]
    assert field == ("answer" if task.pairing == "exchange" else "transcript")
    assert assistant.text == f"{{{field}}}"


@EACH
def test_only_a_task_of_whole_conversations_is_banded(task):
    assert task.whole or not task.banded
    assert task.pad_to_multiple_of >= 1


def test_ttt_is_padded_for_its_inner_loop_and_transcription_is_lower_case():
    assert TASKS["ttt"].pad_to_multiple_of == 64
    assert [task.name for task in TASKS.values() if task.lower_case] == ["transcription"]
    assert [task.name for task in TASKS.values() if task.whole] == ["ttt", "response"]
