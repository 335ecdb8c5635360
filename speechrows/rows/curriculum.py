"""The curriculum: padded lengths, stage limits, bands, and which config shows which of them.

Stages are nested (all of stage_1 is in stage_2), so rows are written once, in bands between
the limits, and a stage is a list of bands.
"""

from speechrows.errors import UsageError
from speechrows.rows.tasks import TASKS
from speechrows.types import Task
from speechrows.types import Tokens

STAGE_LIMITS = {  # tokens a conversation, at most
    "stage_1": Tokens(8192),
    "stage_2": Tokens(16384),
    "stage_3": Tokens(32768),
    "stage_4": Tokens(65536),
}
NUM_BANDS = len(STAGE_LIMITS) + 1  # the last holds what is above every stage
# Of every builder whose corpus is dialogues.
DIALOGUE_CONFIGS = (
    *("ttt", *STAGE_LIMITS, "transcription", "response"),
    *("sift_s", "sift_ssp", "sit_ssp", "s2s_mimi"),
)


def padded_length(num_tokens: int, multiple: int) -> int:
    """The next multiple of `multiple`, at or above `num_tokens`."""
    return -(-num_tokens // multiple) * multiple


def band_of(conversation_tokens: int) -> int:
    """The band, from 1, of a conversation with so many padded tokens."""
    return 1 + sum(conversation_tokens > limit for limit in STAGE_LIMITS.values())


def task_of(config_name: str) -> Task:
    """The task that a config shows: `stage_1`…`stage_4` show ttt, any other its namesake."""
    name = "ttt" if config_name in STAGE_LIMITS else config_name
    if name not in TASKS:
        expected = ", ".join([*TASKS, *STAGE_LIMITS])
        raise UsageError(f"no config {config_name!r}; expected one of {expected}")
    return TASKS[name]


def bands_of(config_name: str) -> range:
    """The bands that make up a config: 1..k for stage_k, all of them for any other."""
    stages = list(STAGE_LIMITS)
    return range(1, (stages.index(config_name) + 1 if config_name in stages else NUM_BANDS) + 1)


def configs_of(task: Task) -> tuple[str, ...]:
    """The configs that show a task's rows, the plain one first."""
    return (task.name, *STAGE_LIMITS) if task.banded else (task.name,)
