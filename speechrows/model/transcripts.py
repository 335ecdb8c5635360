"""Which tasks' decoded texts are transcripts."""

from speechrows.rows.tasks import TASKS

# Tasks of which what is decoded is a transcript: their first supervised text.
TRANSCRIBED = frozenset(
    name
    for name, task in TASKS.items()
    if next(segment.text for segment in task.segments if segment.supervised).strip() == "{transcript}"
)
