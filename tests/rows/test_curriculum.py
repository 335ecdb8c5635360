"""What budget.py and configs.py promise: stages are nested, bands partition, padding is least."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys.examples import MANY

from speechrows.errors import UsageError
from speechrows.rows.curriculum import NUM_BANDS
from speechrows.rows.curriculum import STAGE_LIMITS
from speechrows.rows.curriculum import band_of
from speechrows.rows.curriculum import bands_of
from speechrows.rows.curriculum import configs_of
from speechrows.rows.curriculum import padded_length
from speechrows.rows.curriculum import task_of
from speechrows.rows.tasks import TASKS


@MANY
@given(st.integers(0, 1 << 20), st.integers(1, 1024))
def test_a_padded_length_is_the_least_multiple_that_holds_the_tokens(num_tokens, multiple):
    padded = padded_length(num_tokens, multiple)
    assert padded % multiple == 0
    assert num_tokens <= padded < num_tokens + multiple


@MANY
@given(st.integers(0, 1 << 18))
def test_a_conversation_is_in_a_stage_exactly_when_it_fits_its_limit(tokens):
    for stage, limit in STAGE_LIMITS.items():
        assert (band_of(tokens) in bands_of(stage)) == (tokens <= limit)
    assert band_of(tokens) in bands_of("ttt")


@pytest.mark.parametrize(("stage", "limit"), STAGE_LIMITS.items())
def test_a_conversation_at_the_limit_is_in_and_one_token_more_is_out(stage, limit):
    assert band_of(limit) in bands_of(stage)
    assert band_of(limit + 1) not in bands_of(stage)


def test_the_limits_are_those_of_the_curriculum():
    assert [*STAGE_LIMITS.items()] == [(f"stage_{k}", 4096 * 2**k) for k in (1, 2, 3, 4)]
    assert NUM_BANDS == 5


def test_stages_are_nested_and_the_task_holds_all_bands():
    bands = [set(bands_of(stage)) for stage in STAGE_LIMITS]
    assert all(small < large for small, large in itertools.pairwise(bands))
    assert set(bands_of("ttt")) == set(range(1, NUM_BANDS + 1)) > bands[-1]


@pytest.mark.parametrize("stage", STAGE_LIMITS)
def test_every_stage_shows_ttt(stage):
    assert task_of(stage) is TASKS["ttt"]


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_shown_by_its_configs_and_by_no_other(name):
    configs = configs_of(TASKS[name])
    assert configs[0] == name
    every = [config for task in TASKS.values() for config in configs_of(task)]
    assert [config for config in every if task_of(config) is TASKS[name]] == list(configs)


def test_an_unknown_config_is_refused_with_the_names_that_there_are():
    with pytest.raises(UsageError, match="no config 'stage_5'") as refusal:
        task_of("stage_5")
    for name in (*TASKS, *STAGE_LIMITS):
        assert name in str(refusal.value)
