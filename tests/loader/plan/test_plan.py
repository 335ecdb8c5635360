"""What a plan promises, whatever the rows, the budgets and the ranks."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys.examples import MANY

from speechrows.errors import UsageError
from speechrows.loader.plan.epoch import plan_epoch
from speechrows.loader.plan.order import shuffled
from speechrows.loader.plan.order import stable_argsort
from speechrows.loader.plan.values import MicroBatch
from speechrows.loader.plan.values import Plan
from speechrows.loader.plan.values import PlanOptions
from speechrows.loader.plan.values import PlanRows
from speechrows.loader.plan.windows import windows

WORLDS = (1, 2, 3, 4, 8)


def rows_of(turns: list[list[int]], *, whole=True) -> PlanRows:
    """Rows of conversations, each a list of the tokens of its turns; 80 ms a token, and a tick more.

    A token is 2 bytes to read; three conversations are a row group.
    """
    tokens = np.array([n for turn in turns for n in turn], np.int32)
    conversations = np.repeat(np.arange(len(turns)), [len(turn) for turn in turns]).astype(np.int32)
    return PlanRows(
        num_tokens=tokens,
        ticks=tokens * 8 + 1,
        conversations=conversations,
        whole=whole,
        row_groups=conversations // 3,
        num_bytes=tokens * 2,
    )


CONVERSATIONS = st.lists(st.lists(st.integers(1, 300), min_size=1, max_size=8), max_size=40)
ROWS = st.builds(rows_of, CONVERSATIONS, whole=st.booleans())
COMMON = {
    "batch_size": st.sampled_from([None, 1, 2, 3]),
    "micro_batches": st.sampled_from([1, 2, 3, 5, 24]),
    "too_long": st.just("drop"),
    "window_bytes": st.sampled_from([None, None, 1, 5000, 20_000]),
    "seed": st.integers(-(2**40), 2**70),
}
BUCKETS = st.builds(PlanOptions, mode=st.just("bucket"), budget_tokens=st.integers(200, 2000), **COMMON) | (
    st.builds(PlanOptions, mode=st.just("bucket"), budget_seconds=st.floats(10, 200), **COMMON)
)
SEQUENCES = st.builds(
    PlanOptions,
    mode=st.sampled_from(["pack", "lanes"]),
    context=st.sampled_from([256, 512, 1024]),
    pad_to_multiple_of=st.sampled_from([1, 64]),
    close_on=st.sampled_from(["conversation", "turn"]),
    **COMMON,
)
OPTIONS = BUCKETS | SEQUENCES


def contents(batches) -> list[tuple[object, ...]]:
    """Everything there is in some micro-batches, as plain values; what idle ranks get is left out."""
    return [
        (b.step, b.number, b.num_sequences, *(a.tolist() for a in (b.rows, b.sequence, b.start, b.position)))
        for b in batches
        if b.number is not None
    ]


def every(plan: Plan) -> list[MicroBatch]:
    return [batch for step in plan for batch in step]


def segment_of(rows: PlanRows) -> np.ndarray:
    return rows.conversations if rows.whole is True else np.arange(len(rows))


@MANY
@given(ROWS, OPTIONS, st.integers(0, 5))
def test_every_row_comes_once_an_epoch_or_is_counted_as_dropped(rows, options, epoch):
    plan = plan_epoch(rows, options, epoch=epoch)
    seen = np.concatenate([np.empty(0, int), *(batch.rows for batch in every(plan))])
    assert len(set(seen.tolist())) == len(seen) == len(rows) - plan.num_dropped
    assert set(seen.tolist()) <= set(range(len(rows)))
    # Dropped is what can not fit, and nothing else.
    lost = np.setdiff1d(np.arange(len(rows)), seen)
    segments = segment_of(rows)
    if options.mode == "bucket":
        lengths = rows.ticks if options.budget_seconds else rows.num_tokens
        assert lost.tolist() == np.flatnonzero(lengths > options.budget).tolist()
    else:
        for segment in np.unique(segments):
            indices = np.flatnonzero(segments == segment)
            tokens = rows.num_tokens[indices]
            if options.close_on == "turn":
                tokens = -(-tokens // options.pad_to_multiple_of) * options.pad_to_multiple_of
            needed = tokens.sum() if options.mode == "pack" else tokens.max()
            assert set(indices) & set(lost) == (set(indices) if needed > options.context else set())


@MANY
@given(ROWS, OPTIONS, st.sampled_from(WORLDS))
def test_the_ranks_together_run_the_plan_in_order_and_equally_many_rounds(rows, options, world_size):
    plan = plan_epoch(rows, options)
    ranks = [list(plan.for_rank(rank, world_size)) for rank in range(world_size)]
    rounds = -(-options.micro_batches // world_size)
    assert {len(rank) for rank in ranks} == {len(plan) * rounds}
    together = [batch for of_a_round in zip(*ranks, strict=True) for batch in of_a_round]
    assert contents(together) == contents(every(plan))
    for batch in together:
        assert batch.number is not None or len(batch) == batch.num_sequences == 0
    steps = [[batch.step for batch in rank] for rank in ranks]
    assert all(numbers == sorted(numbers) == steps[0] for numbers in steps), (
        "a step's rounds are the same on all"
    )


@MANY
@given(ROWS, OPTIONS, st.data())
def test_a_run_stopped_at_any_step_goes_on_with_the_steps_that_were_left(rows, options, data):
    plan = plan_epoch(rows, options)
    step = data.draw(st.integers(0, len(plan)))
    before, after = data.draw(st.sampled_from(WORLDS)), data.draw(st.sampled_from(WORLDS))
    rounds = plan.num_rounds(before)
    done = [list(plan.for_rank(rank, before))[: step * rounds] for rank in range(before)]
    again = plan_epoch(rows, options)  # another process, another world
    assert again.digest == plan.digest
    remaining = [list(again.for_rank(rank, after, step)) for rank in range(after)]
    batches = [b for rank in done for b in rank] + [b for rank in remaining for b in rank]
    batches.sort(key=lambda b: (b.step, -1 if b.number is None else b.number))
    assert contents(batches) == contents(every(plan))
    assert contents(every(plan[step:])) == contents(every(plan))[step * options.micro_batches :]
    assert contents(plan[step:].for_rank(0, after)) == contents(remaining[0])


@MANY
@given(ROWS, OPTIONS)
def test_the_seed_and_the_epoch_alone_decide_the_order(rows, options):
    plan = plan_epoch(rows, options, epoch=1)
    assert plan_epoch(rows, options, epoch=1).digest == plan.digest
    if len(plan.rows) > 30:
        assert plan_epoch(rows, options, epoch=2).digest != plan.digest
        assert plan_epoch(rows, replace(options, seed=options.seed + 1), epoch=1).digest != plan.digest


@MANY
@given(ROWS, SEQUENCES)
def test_sequences_hold_rows_side_by_side_within_their_context(rows, options):
    for batch in every(plan_epoch(rows, options)):
        assert batch.num_sequences == (options.batch_size or 1)
        assert (np.diff(batch.sequence) >= 0).all()
        for sequence in range(batch.num_sequences):
            in_sequence = batch.sequence == sequence
            starts, tokens = batch.start[in_sequence], rows.num_tokens[batch.rows[in_sequence]]
            ends = starts + tokens
            assert not len(starts) or (starts[0] == 0 and ends[-1] <= options.context)
            gaps = starts[1:] - ends[:-1]
            begins = batch.reset[in_sequence][1:]
            assert ((gaps >= 0) & (gaps < options.pad_to_multiple_of)).all()
            if options.close_on == "conversation":
                assert not gaps[~begins].any(), "padding between two turns of a conversation"
            else:
                assert not (starts % options.pad_to_multiple_of).any()


def assert_positions(rows, options, parts: list[tuple[MicroBatch, np.ndarray]]) -> None:
    """Pieces of a conversation: all its turns, in order, one after another; a reset at turn 0 alone."""
    numbers = np.concatenate([batch.rows[in_sequence] for batch, in_sequence in parts])
    segment = segment_of(rows)[numbers[0]]
    assert numbers.tolist() == np.flatnonzero(segment_of(rows) == segment).tolist()
    tokens = rows.num_tokens[numbers]
    if options.close_on == "turn":
        tokens = -(-tokens // options.pad_to_multiple_of) * options.pad_to_multiple_of
    position = np.concatenate([batch.position[in_sequence] for batch, in_sequence in parts])
    assert position.tolist() == (np.cumsum(tokens) - tokens).tolist()
    reset = np.concatenate([batch.reset[in_sequence] for batch, in_sequence in parts])
    assert reset.tolist() == [True, *[False] * (len(numbers) - 1)]


@MANY
@given(ROWS, SEQUENCES.map(lambda options: replace(options, mode="pack")))
def test_packing_keeps_each_conversation_whole_in_one_sequence_from_a_boundary_on(rows, options):
    for batch in every(plan_epoch(rows, options)):
        for sequence in range(batch.num_sequences):
            places = np.flatnonzero(batch.sequence == sequence)
            begins = np.flatnonzero(batch.reset[places])
            assert not (batch.start[places][begins] % options.pad_to_multiple_of).any()
            for part in np.split(places, begins[1:]) if len(places) else []:
                assert_positions(rows, options, [(batch, part)])


@MANY
@given(ROWS, SEQUENCES.map(lambda options: replace(options, mode="lanes")))
def test_a_lane_continues_its_conversation_until_it_ends(rows, options):
    plan = plan_epoch(rows, options)
    lanes: dict[int, list[tuple[MicroBatch, int]]] = {}
    for batch in every(plan):
        for place, sequence in enumerate(batch.sequence.tolist()):
            lanes.setdefault(batch.first_lane + sequence, []).append((batch, place))
    assert not lanes or max(lanes) < options.micro_batches * (options.batch_size or 1)
    for places in lanes.values():
        begins = [i for i, (batch, place) in enumerate(places) if batch.reset[place]]
        assert begins[0] == 0
        for begin, end in zip(begins, [*begins[1:], len(places)], strict=True):
            parts = [(batch, np.array([place])) for batch, place in places[begin:end]]
            assert_positions(rows, options, parts)
            steps = [batch.step for batch, _ in parts]
            assert set(np.diff(steps)) <= {0, 1}, "a lane waited inside a conversation"


@MANY
@given(ROWS, SEQUENCES.map(lambda options: replace(options, mode="lanes", close_on="conversation")))
def test_conversations_begin_on_a_boundary_of_what_their_lane_carries(rows, options):
    """What the lane carries of a mini-batch, put before a step, makes every reset in it aligned."""
    for batch in every(plan_epoch(rows, options)):
        for sequence in range(batch.num_sequences):
            places = np.flatnonzero(batch.sequence == sequence)
            carried = batch.position[places[0]] if len(places) else 0
            begins = batch.start[places][batch.reset[places]]
            assert not ((carried + begins) % options.pad_to_multiple_of).any()


@MANY
@given(ROWS, SEQUENCES.map(lambda options: replace(options, mode="lanes")))
def test_a_step_ends_only_where_the_next_turn_has_no_room(rows, options):
    plan = plan_epoch(rows, options)
    slots = options.batch_size or 1
    ends: dict[int, int] = {}
    for batch in every(plan):
        for sequence in range(slots):
            in_sequence = batch.sequence == sequence
            lane = batch.first_lane + sequence
            if in_sequence.any() and ends.get(lane) is not None:
                first = int(rows.num_tokens[batch.rows[in_sequence][0]])
                assert ends[lane] + first > options.context
            if in_sequence.any():
                ends[lane] = int((batch.start[in_sequence] + rows.num_tokens[batch.rows[in_sequence]])[-1])
                if options.pad_to_multiple_of > 1:  # pads that follow are not known here: at most so many
                    ends[lane] += options.pad_to_multiple_of - 1


@MANY
@given(ROWS, BUCKETS)
def test_a_bucket_holds_what_its_budget_has_room_for_pads_counted(rows, options):
    plan = plan_epoch(rows, options)
    lengths = rows.ticks if options.budget_seconds else rows.num_tokens
    total = 0
    sizes = []
    for batch in every(plan):
        if len(batch):
            assert lengths[batch.rows].max() * len(batch) <= options.budget
            assert len(batch) <= (options.batch_size or len(batch))
            total += lengths[batch.rows].max() * len(batch)
            sizes.append((lengths[batch.rows].max(), lengths[batch.rows].min(), len(batch)))
        assert batch.num_sequences == len(batch)
        assert batch.sequence.tolist() == list(range(len(batch)))
        assert batch.reset.all()
        assert not batch.start.any()
    sizes.sort(reverse=True)
    for (longest, shortest, count), (next_longest, _, _) in (
        pairwise(sizes) if not options.window_bytes else ()
    ):
        assert shortest >= next_longest, "a batch of unlike lengths"
        assert count == min(options.budget // longest, options.batch_size or 10**9), "a batch not filled"
    assert (plan.num_total, plan.num_real) == (total, lengths[plan.rows].sum())


@MANY
@given(ROWS, SEQUENCES)
def test_fill_is_the_share_of_real_tokens(rows, options):
    plan = plan_epoch(rows, options)
    sequences = len(plan) * options.micro_batches * (options.batch_size or 1)
    if options.mode == "pack":
        sequences = sum(len(np.unique(batch.sequence)) for batch in every(plan))
    assert plan.num_real == rows.num_tokens[plan.rows].sum()
    assert plan.num_total == sequences * options.context
    assert 0 <= plan.fill <= 1
    if plan.num_total:
        assert plan.fill == pytest.approx(plan.num_real / plan.num_total)
        assert plan.padding == pytest.approx(1 / plan.fill)


WINDOWED = OPTIONS.map(lambda options: replace(options, window_bytes=options.window_bytes or 9000))
PACKED = SEQUENCES.map(
    lambda options: replace(options, mode="pack", window_bytes=options.window_bytes or 9000)
)


def unread_bytes(rows: PlanRows, plan: Plan) -> list[int]:
    """After each micro-batch, the bytes of row groups that were begun and of which rows are to come."""
    to_come = np.zeros(len(rows), bool)
    to_come[plan.rows] = True
    begun = np.zeros(rows.row_groups.max(initial=-1) + 1, bool)
    unread = []
    for batch in every(plan):
        to_come[batch.rows] = False
        begun[rows.row_groups[batch.rows]] = True
        unread.append(int(rows.num_bytes[to_come & begun[rows.row_groups]].sum()))
    return unread


@MANY
@given(ROWS, WINDOWED)
def test_windows_bound_what_is_still_to_be_read_of_row_groups_that_were_begun(rows, options):
    plan = plan_epoch(rows, options)
    largest = max(options.window_bytes, *np.bincount(rows.row_groups, rows.num_bytes), 0)
    at_once = {"bucket": 1, "pack": 2, "lanes": 1 + options.micro_batches * options.num_sequences}
    assert max(unread_bytes(rows, plan), default=0) <= largest * at_once[options.mode]


@MANY
@given(ROWS, WINDOWED)
def test_a_window_is_whole_row_groups_as_many_as_there_is_room_for(rows, options):
    if not len(rows):
        return
    window_of = windows(rows, options, 0)
    sizes = np.bincount(rows.row_groups, rows.num_bytes)
    windows_of_groups = [
        np.unique(window_of[rows.row_groups == group]).tolist() for group in range(len(sizes))
    ]
    assert all(len(numbers) == 1 for numbers in windows_of_groups)
    sizes_of_windows = np.bincount([numbers[0] for numbers in windows_of_groups], sizes)
    counts = np.bincount([numbers[0] for numbers in windows_of_groups])
    assert (counts > 0).all()
    assert ((sizes_of_windows <= options.window_bytes) | (counts == 1)).all()
    assert (sizes_of_windows[1:] + sizes_of_windows[:-1] > options.window_bytes).all(), (
        "two windows where one would do"
    )


@MANY
@given(ROWS, PACKED)
def test_a_sequence_has_rows_of_two_neighbouring_windows_at_most(rows, options):
    window_of = windows(rows, options, 0) if len(rows) else np.empty(0, int)
    plan = plan_epoch(rows, options)
    with_rows = np.unique(window_of[plan.rows])  # of a window, all may be too long
    opened = []
    for batch in every(plan):
        for sequence in np.unique(batch.sequence):
            window = np.searchsorted(with_rows, window_of[batch.rows[batch.sequence == sequence]])
            assert window.max() - window.min() <= 1
            opened.append(window.min())
    assert opened == sorted(opened)


def test_rows_of_one_length_meet_others_in_every_epoch():
    rows = rows_of([[50]] * 200)
    options = PlanOptions(mode="bucket", budget_tokens=400, micro_batches=1)
    plans = [plan_epoch(rows, options, epoch=epoch) for epoch in (0, 1)]
    first, second = ({frozenset(batch.rows.tolist()) for batch in every(plan)} for plan in plans)
    assert {len(batch) for batch in first | second} == {8}
    assert not first & second


def test_row_groups_come_in_another_order_each_epoch_and_rows_of_a_window_are_mixed():
    rows = like_deepdialogue(20_000)
    rows = replace(rows, row_groups=rows.conversations // 12, num_bytes=rows.ticks * 480)
    for options in (
        PlanOptions(budget_seconds=400, window_bytes=200 << 20),
        PlanOptions(mode="pack", context=8192, window_bytes=200 << 20, pad_to_multiple_of=64),
        PlanOptions(mode="lanes", context=8192, window_bytes=200 << 20, pad_to_multiple_of=64),
    ):
        orders = [
            list(dict.fromkeys(rows.row_groups[plan_epoch(rows, options, epoch=e).rows])) for e in (0, 1)
        ]
        assert orders[0] != orders[1]
        if options.mode != "lanes":
            batches = every(plan_epoch(rows, options))
            groups = [len(np.unique(rows.row_groups[batch.rows])) for batch in batches]
            assert np.median(groups) >= 4, "batches of one row group"


def test_windows_without_row_groups_are_refused():
    rows = replace(rows_of([[1]]), row_groups=None)
    with pytest.raises(UsageError, match="window_bytes: found rows without row groups and bytes"):
        plan_epoch(rows, PlanOptions(budget_tokens=10, window_bytes=5))


TOO_LONG = rows_of([[10, 20], [30, 2000, 40], [500], [1500, 5]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"mode": "bucket", "budget_tokens": 1000},
            "clip 3: 2000 tokens, the longest of 2 .* budget_tokens=2000;",
        ),
        ({"mode": "bucket", "budget_seconds": 100}, "clip 3: 160.01 s, .* budget_seconds=160.01;"),
        ({"mode": "lanes", "context": 1024}, "clip 3: a row of 2000 tokens, .* 2 .* context=2000;"),
        ({"mode": "pack", "context": 1024}, "clip 2: a conversation of 2070 tokens, .* context=2070;"),
        ({"mode": "pack", "context": 1024, "pad_to_multiple_of": 64}, "clip 2: .* 2112 .* context=2112;"),
    ],
)
def test_what_is_too_long_is_named_with_the_least_that_fits_which_then_does(options, message):
    with pytest.raises(UsageError, match=message) as refusal:
        plan_epoch(TOO_LONG, PlanOptions(**options), name=lambda row: f"clip {row}")
    option, value = str(refusal.value).split("fits is ")[1].split(";")[0].split("=")
    fitting = {**options, option: float(value) if "seconds" in option else int(value)}
    plan = plan_epoch(TOO_LONG, PlanOptions(**fitting))
    assert sorted(plan.rows) == list(range(len(TOO_LONG)))
    assert plan.num_dropped == 0


def test_a_row_too_long_for_a_lane_takes_its_whole_conversation_with_it():
    plan = plan_epoch(TOO_LONG, PlanOptions(mode="lanes", context=1024, too_long="drop"))
    assert sorted(plan.rows) == [0, 1, 5]
    assert plan.num_dropped == 5
    alone = replace(TOO_LONG, whole=False)
    plan = plan_epoch(alone, PlanOptions(mode="lanes", context=1024, too_long="drop"))
    assert (sorted(plan.rows), plan.num_dropped) == ([0, 1, 2, 4, 5, 7], 2)


def test_a_plan_of_nothing_has_no_steps():
    for options in (PlanOptions(budget_tokens=10), PlanOptions(mode="lanes", context=64)):
        assert len(plan_epoch(rows_of([]), options)) == 0
    for mode in ("pack", "lanes"):
        plan = plan_epoch(rows_of([[100], [200]]), PlanOptions(mode=mode, context=64, too_long="drop"))
        assert (len(plan), plan.num_dropped, plan.fill) == (0, 2, 1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "mode bucket takes budget_seconds or budget_tokens; found none"),
        ({"budget_seconds": 1, "budget_tokens": 1}, "found budget_seconds and budget_tokens"),
        ({"mode": "pack", "budget_tokens": 5}, "mode pack takes context, in tokens; found budget_tokens"),
        ({"mode": "lanes"}, "mode lanes takes context, in tokens; found none"),
        ({"mode": "lane", "context": 64}, "mode: found 'lane', expected bucket or pack or lanes"),
        ({"mode": "pack", "context": 9, "pad_to_multiple_of": 64}, "found 9, expected a multiple of 64"),
        ({"budget_tokens": 0}, "budget_tokens: found 0, expected a whole number above 0"),
        ({"budget_tokens": 9, "micro_batches": 0}, "micro_batches: found 0"),
    ],
)  # fmt: skip
def test_options_that_contradict_one_another_are_refused_with_what_is_expected(options, message):
    with pytest.raises(UsageError, match=message):
        PlanOptions(**options)


def test_a_rank_outside_its_world_is_refused_and_so_is_a_plan_cut_at_its_end():
    plan = plan_epoch(TOO_LONG, PlanOptions(budget_tokens=4000))
    with pytest.raises(UsageError, match="rank: found 2 of 2, expected 0 to 1"):
        list(plan.for_rank(2, 2))
    with pytest.raises(UsageError, match=r"a plan is cut as plan\[step:\]"):
        plan[:1]


def test_some_tasks_of_a_mix_are_whole_and_others_are_not():
    """Conversation 0 is of a whole task, conversation 1 of another: its rows stand alone."""
    rows = rows_of([[10, 10], [10, 10]], whole=np.array([True, True, False, False]))
    for mode in ("pack", "lanes"):
        (batch,) = every(plan_epoch(rows, PlanOptions(mode=mode, context=64)))
        assert dict(zip(batch.rows.tolist(), batch.reset.tolist(), strict=True)) == {
            0: True,
            1: False,
            2: True,
            3: True,
        }


# --- the order is the same under every numpy ---------------------------------------------------------


def test_the_order_of_a_seed_is_written_down_for_ever():
    assert shuffled(12, 0, 0, 0).tolist() == ORDER_OF_SEED_0
    rows = rows_of([[50, 60, 70], [80, 90], [100], [110, 120, 130, 140]])
    digests = {
        mode: plan_epoch(rows, PlanOptions(mode=mode, seed=7, micro_batches=2, **more)).digest
        for mode, more in (
            ("bucket", {"budget_tokens": 300}),
            ("pack", {"context": 512}),
            ("lanes", {"context": 256}),
        )
    }
    assert digests == DIGESTS_OF_SEED_7


ORDER_OF_SEED_0 = [0, 2, 11, 9, 1, 8, 5, 4, 3, 10, 6, 7]
DIGESTS_OF_SEED_7 = {
    "bucket": "57e60a029b0d56ba7e16c6820af02f31",
    "pack": "5b8793bb48905b6b2fe21ee53c22bc9c",
    "lanes": "d484916b0f91a0d03cdbb1aee7c4143d",
}


@MANY
@given(st.integers(0, 3000), st.integers(0, 2**70), st.integers(0, 9))
def test_a_shuffle_is_an_order_of_all_places(count, seed, epoch):
    order = shuffled(count, seed, epoch, 0)
    assert sorted(order.tolist()) == list(range(count))
    if count > 20:
        assert order.tolist() != shuffled(count, seed, epoch, 1).tolist()


def test_every_place_is_equally_likely_to_come_first():
    firsts = np.bincount([shuffled(8, seed, 0, 0)[0] for seed in range(4000)], minlength=8)
    assert abs(firsts - 500).max() < 5 * 500**0.5


@MANY
@given(st.lists(st.integers(0, 2**20) | st.integers(0, 3) | st.just(1 << 16), max_size=200))
def test_sorting_is_stable_beyond_16_bits(keys):
    expected = sorted(range(len(keys)), key=keys.__getitem__)
    assert stable_argsort(np.array(keys, np.int64)).tolist() == expected


# --- what padding costs, on turns as DeepDialogue's --------------------------------------------------


def like_deepdialogue(num_rows: int) -> PlanRows:
    """Lognormal turns of 7.7 s, 12.5 tokens a second and about 25 of text; 3 to 10 a conversation."""
    rng = np.random.default_rng(0)
    seconds = np.exp(rng.normal(np.log(7.7) - 0.125, 0.5, num_rows)).clip(0.3, 60)
    tokens = (np.ceil(seconds * 12.5) + rng.normal(25, 8, num_rows).clip(4)).astype(np.int32)
    turns = rng.integers(3, 11, num_rows // 3)
    conversations = np.repeat(np.arange(len(turns), dtype=np.int32), turns)[:num_rows]
    return PlanRows(
        num_tokens=tokens,
        ticks=np.ceil(seconds * 100).astype(np.int32),
        conversations=conversations,
        whole=True,
    )


def test_padding_is_low_on_turns_like_deepdialogues():
    rows = like_deepdialogue(300_000)
    context = {"context": 8192, "pad_to_multiple_of": 64}
    assert plan_epoch(rows, PlanOptions(budget_seconds=400)).padding < 1.01
    assert plan_epoch(rows, PlanOptions(mode="pack", **context)).fill > 0.96
    assert plan_epoch(rows, PlanOptions(mode="lanes", micro_batches=8, **context)).fill > 0.95
    turns = plan_epoch(rows, PlanOptions(mode="lanes", micro_batches=8, close_on="turn", **context))
    assert turns.fill < 0.8, "turn by turn, pads take a fifth"
    rows = replace(rows, row_groups=rows.conversations // 13, num_bytes=rows.ticks * 480)  # 24 kHz
    window = {"window_bytes": 512 << 20}
    assert plan_epoch(rows, PlanOptions(budget_seconds=400, **window)).padding < 1.06
    assert plan_epoch(rows, PlanOptions(mode="pack", **context, **window)).fill > 0.95
    assert plan_epoch(rows, PlanOptions(mode="lanes", micro_batches=8, **context, **window)).fill > 0.95
    short = plan_epoch(replace(rows, whole=False), PlanOptions(mode="pack", context=8192))
    assert short.fill > 0.99


def test_a_batch_mixes_conversations_as_a_shuffle_does():
    """Rows that stand side by side in the files do not meet again in a batch, in any mode."""
    rows = like_deepdialogue(20_000)
    for options in (
        PlanOptions(budget_seconds=400),
        PlanOptions(mode="pack", context=8192, batch_size=4, pad_to_multiple_of=64),
        PlanOptions(mode="lanes", context=8192, batch_size=4, micro_batches=2, pad_to_multiple_of=64),
    ):
        means = [
            np.mean(np.unique(rows.conversations[batch.rows]))
            for batch in every(plan_epoch(rows, options))
            if len(batch) > 20
        ]
        count = np.mean(
            [
                len(np.unique(rows.conversations[b.rows]))
                for b in every(plan_epoch(rows, options))
                if len(b) > 20
            ]
        )
        noise = rows.conversations.max() / 12**0.5 / count**0.5
        assert np.std(means) < 1.3 * noise, options.mode
