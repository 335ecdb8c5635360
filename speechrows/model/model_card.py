"""The card of a model that is published: what it is, what it was trained on, and what it reached."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from speechrows.model.config import OmniConfig
from speechrows.model.model_folder import FLAGS
from speechrows.model.run_folder import RunFolder
from speechrows.storage.card_head import write_head

_SPEED = ("hours_per_hour", "waiting", "steps_per_second", "grad_norm", "learning_rate")


def model_card(config: OmniConfig, checkpoint: Path | None) -> str:
    """The card's text; of a model that is no checkpoint of a run, without what the run's files tell."""
    flags = {} if checkpoint is None else _json(checkpoint / FLAGS)
    reports = [] if checkpoint is None else [*RunFolder(checkpoint.parent).reports()]
    data = flags.get("data", "")
    paths: list[str] = [data] if isinstance(data, str) else [*data]
    named = config.shape.parts
    head: dict[str, Any] = {"library_name": "speechrows", "tags": ["speech", "speechrows"]}
    if repositories := [path for path in paths if _is_repository(path)]:
        head["datasets"] = repositories
    if base := [name for name in (named.lm, named.encoder) if isinstance(name, str) and _is_repository(name)]:
        head["base_model"] = base
    lines = ["---", write_head(head), "---", "", "# A model that hears", ""]
    layers = f", {len(config.shape.places)} TTT layers" if config.shape.places else ""
    voice = f", an audio head for {config.codec}" if config.codec else ""
    lines += [f"Preset `{config.shape.name}`{layers}{voice}; trained by speechrows' `train.py`.", ""]
    if config.rows is not None:
        name = ", ".join(_name(path) for path in paths if path) or "rows"
        of = f", config `{config.rows.config}`" if config.rows.config else ""  # a mix has none
        lines += [f"- Data: {name}{of} (tasks: {', '.join(config.rows.templates)})"]
    if reports:
        lines += [f"- Steps: {reports[-1].get('step')}"]
    trained = next((report for report in reversed(reports) if "text_loss" in report), {})
    for what, report in (("Losses", trained), ("Evaluation", _evaluation(reports))):
        values = [f"{name} {value:.4g}" for name, value in report.items() if _is_result(name, value)]
        lines += [f"- {what}: {', '.join(values) or 'none'}"]
    use = ["from speechrows.model.omni import Omni", "from speechrows.model.session import Session", ""]
    use += ['print(Session(Omni.load("…")).respond("a.wav").text)']
    return "\n".join([*lines, "", "```python", *use, "```", ""])


def _evaluation(reports: list[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The last line of metrics, where it is an evaluation's."""
    return reports[-1] if reports and "text_loss" not in reports[-1] else {}


def _is_result(name: str, value: Any) -> bool:
    return isinstance(value, float) and name not in _SPEED


def _name(path: str) -> str:
    return f"`{path}`" if _is_repository(path) else f"rows `{Path(path).name}`"


def _is_repository(name: str) -> bool:
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return "/" in name and not Path(name).exists()


def _json(path: Path) -> Mapping[str, Any]:
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}
