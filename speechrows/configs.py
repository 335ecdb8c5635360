"""Config names -> the task they show and the bands they hold."""

from speechrows.budget import NUM_BANDS
from speechrows.budget import STAGE_LIMITS
from speechrows.errors import UsageError
from speechrows.tasks import TASKS
from speechrows.types import Task

# Of every builder whose corpus is dialogues.
DIALOGUE_CONFIGS = (
    *("ttt", *STAGE_LIMITS, "transcription", "response"),
    *("sift_s", "sift_ssp", "sit_ssp", "s2s_mimi"),
)


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
