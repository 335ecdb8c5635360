"""Mode `conversations`: whole conversations, each once, within the bounds of a micro-batch."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys.examples import MANY

from speechrows.errors import UsageError
from speechrows.loader.plan.epoch import plan_epoch
from speechrows.loader.plan.values import PlanOptions
from speechrows.loader.plan.values import PlanRows

talk_lists = st.lists(st.lists(st.integers(0, 900), min_size=1, max_size=5), max_size=20)


def rows_of(talks: list[list[int]], *, whole: bool = True) -> PlanRows:
    ticks = [tick for talk in talks for tick in talk]
    numbers = np.repeat(np.arange(len(talks), dtype=np.int32), [len(talk) for talk in talks])
    return PlanRows(
        num_tokens=np.ones(len(ticks), np.int32),
        ticks=np.array(ticks, np.int32),
        conversations=numbers,
        whole=whole,
        row_groups=numbers // 3,
        num_bytes=np.array(ticks, np.int32),
    )


@MANY
@given(
    talk_lists,
    st.none() | st.integers(1, 4),
    st.none() | st.integers(45, 90),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_micro_batches_hold_whole_conversations_each_once_within_their_bounds(
    talks: list[list[int]],
    batch_size: int | None,
    budget_seconds: int | None,
    windowed: bool,
    whole: bool,
    shuffle: bool,
) -> None:
    if batch_size is None and budget_seconds is None:
        budget_seconds = 45
    shuffle = shuffle or budget_seconds is not None
    options = PlanOptions(
        mode="conversations", batch_size=batch_size, budget_seconds=budget_seconds, micro_batches=2,
        window_bytes=1500 if windowed else None, shuffle=shuffle,
    )  # fmt: skip
    rows = rows_of(talks, whole=whole)
    plan = plan_epoch(rows, options, epoch=3)
    firsts = np.cumsum([0, *map(len, talks)])
    taken = list[int]()
    padded = 0
    for step in plan:
        for batch in step:
            numbers = list[int]()
            for sequence in range(batch.num_sequences):
                own = batch.rows[batch.sequence == sequence]
                number = int(rows.conversations[own[0]])
                assert own.tolist() == list(range(firsts[number], firsts[number + 1]))
                assert batch.position[batch.sequence == sequence].tolist() == list(range(len(own)))
                numbers.append(number)
            longest = max((max(1, sum(talks[number])) for number in numbers), default=0)
            padded += max((sum(talks[number]) for number in numbers), default=0) * len(numbers)
            assert len(numbers) <= (batch_size or len(talks))
            assert budget_seconds is None or longest * len(numbers) <= budget_seconds * 100
            taken += numbers
    assert sorted(taken) == list(range(len(talks)))
    assert shuffle or taken == sorted(taken)
    assert (plan.num_dropped, plan.num_real, plan.num_total) == (0, sum(map(sum, talks)), padded)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "conversations take batch_size, budget_seconds, or both; found none"),
        ({"batch_size": 2, "context": 64}, "conversations take batch_size"),
        ({"budget_seconds": 9, "shuffle": False}, "sorts conversations by length; found shuffle=False"),
    ],
)
def test_bounds_that_contradict_each_other_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        PlanOptions(mode="conversations", **options)


def test_a_conversation_that_is_too_long_is_named_or_dropped_and_counted() -> None:
    rows, options = rows_of([[100, 200], [50]]), {"mode": "conversations", "budget_seconds": 2}
    with pytest.raises(UsageError, match=r"^row 0: 3 s, the longest of 1 conversations too long; "):
        plan_epoch(rows, PlanOptions(**options))  # type: ignore[arg-type]
    plan = plan_epoch(rows, PlanOptions(**options, too_long="drop"))  # type: ignore[arg-type]
    assert plan.num_dropped == 2
    assert [batch.rows.tolist() for step in plan for batch in step] == [[2]]
