"""What sessions of mode `lanes` promise, whatever the rows, the budgets and the ranks."""

from dataclasses import replace
from itertools import groupby

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys.examples import MANY

from speechrows.errors import UsageError
from speechrows.loader.plan.epoch import plan_epoch
from speechrows.loader.plan.values import MicroBatch
from speechrows.loader.plan.values import Plan
from speechrows.loader.plan.values import PlanOptions
from speechrows.loader.plan.values import PlanRows
from speechrows.loader.plan.windows import windows


def rows_of(conversations: list[tuple[int, list[int]]], *, whole=True) -> PlanRows:
    """Rows of conversations, each its source and the tokens of its turns; three are a row group."""
    turns = [tokens for _, tokens in conversations]
    tokens = np.array([n for turn in turns for n in turn], np.int32)
    numbers = np.repeat(np.arange(len(turns)), [len(turn) for turn in turns]).astype(np.int32)
    sources = np.array([source for source, _ in conversations], np.int32)
    return PlanRows(
        num_tokens=tokens,
        ticks=tokens,
        conversations=numbers,
        whole=whole,
        row_groups=numbers // 3,
        num_bytes=tokens * 2,
        sources=sources[numbers],
    )


CONVERSATIONS = st.tuples(st.integers(0, 3), st.lists(st.integers(1, 300), min_size=1, max_size=6))
ROWS = st.builds(rows_of, st.lists(CONVERSATIONS, max_size=40), whole=st.booleans())
OPTIONS = st.builds(
    PlanOptions,
    mode=st.just("lanes"),
    context=st.sampled_from([256, 320, 1024]),
    session_tokens=st.sampled_from([1, 300, 1000, 5000]),
    pad_to_multiple_of=st.sampled_from([1, 64]),
    close_on=st.sampled_from(["conversation", "turn"]),
    batch_size=st.sampled_from([None, 2]),
    micro_batches=st.sampled_from([1, 2, 3]),
    too_long=st.just("drop"),
    window_bytes=st.sampled_from([None, None, 5000]),
    seed=st.integers(0, 9),
)


def lanes_of(plan: Plan) -> list[list[tuple[int, int, int, bool]]]:
    """For each lane its rows in order: the number, the step, the first slot, and whether a state is reset."""
    lanes: dict[int, list[tuple[int, int, int, bool]]] = {}
    for batch in (batch for step in plan for batch in step):
        columns = (batch.sequence, batch.rows, batch.start, batch.reset)
        for sequence, row, start, reset in zip(*(column.tolist() for column in columns), strict=True):
            lanes.setdefault(batch.first_lane + sequence, []).append((row, batch.step, start, reset))
    return [*lanes.values()]


def sessions_of(plan: Plan) -> list[list[int]]:
    """The rows of each session."""
    sessions = list[list[int]]()
    for lane in lanes_of(plan):
        for row, _, _, reset in lane:
            if reset:
                sessions.append([])
            sessions[-1].append(row)
    return sessions


def slots_of(rows: PlanRows, options: PlanOptions, numbers: list[int]) -> int:
    """The slots of some rows, with the pads that close their segments."""
    multiple, total = options.pad_to_multiple_of, 0
    is_whole = rows.whole is True
    for _, of_one in groupby(numbers, lambda row: int(rows.conversations[row]) if is_whole else row):
        tokens = rows.num_tokens[[*of_one]]
        tokens = -(-tokens // multiple) * multiple if options.close_on == "turn" else tokens
        total += -(-int(tokens.sum()) // multiple) * multiple
    return total


@MANY
@given(ROWS, OPTIONS)
def test_a_session_has_whole_conversations_of_one_source_within_its_tokens(rows, options):
    plan, alone = plan_epoch(rows, options), plan_epoch(rows, replace(options, session_tokens=None))
    segments = rows.conversations if rows.whole is True else np.arange(len(rows))
    window_of = windows(rows, options, 0) if len(rows) else None
    sessions = sessions_of(plan)
    assert sorted(row for session in sessions for row in session) == sorted(alone.rows.tolist())
    assert plan.num_dropped == alone.num_dropped
    for session in sessions:
        assert len({*rows.sources[session].tolist()}) == 1
        names = [*dict.fromkeys(segments[session].tolist())]
        assert session == [row for name in names for row in np.flatnonzero(segments == name).tolist()]
        assert len(names) == 1 or slots_of(rows, options, session) <= options.session_tokens
        if window_of is not None:
            assert len({window_of[int(np.flatnonzero(segments == name)[0])] for name in names}) == 1


@MANY
@given(ROWS, OPTIONS)
def test_a_conversation_has_its_own_positions_in_a_session_and_the_lane_does_not_wait(rows, options):
    plan = plan_epoch(rows, options)
    alone = plan_epoch(rows, replace(options, session_tokens=None))
    positions = dict(zip(alone.rows.tolist(), alone.positions.tolist(), strict=True))
    assert dict(zip(plan.rows.tolist(), plan.positions.tolist(), strict=True)) == positions
    for lane in lanes_of(plan):
        assert lane[0][3]
        steps = [step for _, step, _, _ in lane]
        assert set(np.diff(steps)) <= {0, 1}


@MANY
@given(ROWS, OPTIONS)
def test_conversations_of_a_session_begin_on_a_boundary_of_what_their_lane_carries(rows, options):
    """Slots are counted since the session's first, in what is read: pads that were cut off are not there."""
    multiple = options.pad_to_multiple_of
    position_of = plan_positions(plan := plan_epoch(rows, options))
    for lane in lanes_of(plan):
        read, before = 0, None  # slots since the reset; the row before: its step, its end
        for row, step, start, reset in lane:
            if reset:
                read = 0
            elif before is not None:
                gap = start - before[1] if step == before[0] else 0
                if step != before[0] and position_of[row] == 0:
                    closing = -read % multiple  # pads that were read, since there is room
                    assert before[1] + closing <= options.context
                    gap = closing
                read += gap
            if position_of[row] == 0 and options.close_on == "conversation":
                assert read % multiple == 0
                assert step != (before or (-1,))[0] or start >= before[1]
            read += int(rows.num_tokens[row])
            before = step, start + int(rows.num_tokens[row])
            assert before[1] <= options.context


def plan_positions(plan: Plan) -> dict[int, int]:
    return dict(zip(plan.rows.tolist(), plan.positions.tolist(), strict=True))


def contents(batches: list[MicroBatch]) -> list[object]:
    return [
        (b.step, b.number, *(a.tolist() for a in (b.rows, b.sequence, b.start, b.position, b.reset)))
        for b in batches
        if b.number is not None
    ]


@MANY
@given(ROWS, OPTIONS, st.sampled_from([1, 2, 4]), st.data())
def test_sessions_are_the_same_on_any_ranks_and_after_a_resume(rows, options, world_size, data):
    plan = plan_epoch(rows, options)
    ranks = [[*plan.for_rank(rank, world_size)] for rank in range(world_size)]
    together = [batch for of_a_round in zip(*ranks, strict=True) for batch in of_a_round]
    every = [batch for step in plan for batch in step]
    assert contents(together) == contents(every)
    step = data.draw(st.integers(0, len(plan)))
    left = [batch for of_step in plan[step:] for batch in of_step]
    assert contents(left) == contents(every)[step * options.micro_batches :]
    assert plan_epoch(rows, options).digest == plan.digest


def test_sessions_are_filled_and_another_bound_is_another_plan() -> None:
    rows = rows_of([(source, [40, 60]) for source in (0, 1) for _ in range(10)])
    options = PlanOptions(mode="lanes", context=256, session_tokens=500)
    plan = plan_epoch(rows, options)
    assert sorted(map(len, sessions_of(plan))) == [10] * 4
    assert {*(rows.sources[session[0]] for session in sessions_of(plan)[:2])} in ({0, 1}, {0}, {1})
    digests = {plan_epoch(rows, replace(options, session_tokens=n)).digest for n in (None, 1, 300, 500)}
    assert len(digests) == 4


def test_a_session_ends_where_the_pads_of_a_row_that_fills_a_step_have_no_room() -> None:
    rows = rows_of([(0, [250]), (0, [250])])
    options = PlanOptions(mode="lanes", context=256, session_tokens=9999, pad_to_multiple_of=64)
    assert sorted(map(len, sessions_of(plan_epoch(rows, options)))) == [2]
    odd = rows_of([(0, [10, 255]), (0, [10, 255])])  # 265 slots: 55 pads, and a row of 255 with them is 310
    assert sorted(map(len, sessions_of(plan_epoch(odd, options)))) == [2, 2]


def test_pads_inside_a_session_are_not_cut_off() -> None:
    rows = rows_of([(0, [200, 120, 133]), (0, [50])])  # 453 tokens and 59 pads
    options = PlanOptions(mode="lanes", context=256, session_tokens=9999, pad_to_multiple_of=64)
    plans = (plan_epoch(rows, replace(options, seed=seed)) for seed in range(9))
    (lane,) = lanes_of(next(plan for plan in plans if plan.rows[0] == 0))
    assert [(step, start) for _, step, start, _ in lane] == [(0, 0), (1, 0), (2, 0), (2, 192)]


def test_sessions_outside_lanes_and_without_sources_are_refused() -> None:
    with pytest.raises(UsageError, match="session_tokens: found mode pack, expected lanes"):
        PlanOptions(mode="pack", context=64, session_tokens=64)
    with pytest.raises(UsageError, match="session_tokens: found 0, expected a whole number above 0"):
        PlanOptions(mode="lanes", context=64, session_tokens=0)
    rows = replace(rows_of([(0, [9])]), sources=None)
    with pytest.raises(UsageError, match="found rows without sources"):
        plan_epoch(rows, PlanOptions(mode="lanes", context=64, session_tokens=64))
