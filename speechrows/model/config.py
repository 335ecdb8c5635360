"""config.json of a trained model: what it is made of, and how the rows were that it was trained on.

With the weights and the tokenizer beside it, it is enough to use the model: no rows, and no other download.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoConfig
from transformers import PreTrainedConfig

import speechrows
from speechrows.errors import UsageError
from speechrows.errors import first_line
from speechrows.loader.loader import Loader
from speechrows.model.presets import Preset
from speechrows.model.shape import ModelShape
from speechrows.rows.tasks import TASKS
from speechrows.text.options import TemplateOptions

CONFIG = "config.json"
_FORMAT = 1  # of the file; raised when an earlier version would misread it


@dataclass(frozen=True, kw_only=True)
class RowsFacts:
    """How the rows of a model were: enough to write a prompt as they have it.

    `carries` is true where a model read the turns of a conversation one after another (modes lanes and pack),
    and false where each row stood alone (mode bucket). `longest` is the most tokens that it read together.
    """

    config: str
    carries: bool
    templates: Mapping[str, TemplateOptions]  # of each task
    longest: int

    @staticmethod
    def of(loader: Loader) -> "RowsFacts":
        """The facts of a loader's rows."""
        index, options = loader.index, loader.options
        lengths, carries = index.num_tokens, options.mode != "bucket"
        if carries and len(index):
            lengths = np.bincount(index.conversation, lengths).clip(max=options.num_slots)
        return RowsFacts(
            config=index.config,
            carries=carries,
            templates={task: facts.template_options for task, facts in index.facts.items()},
            longest=int(lengths.max(initial=0)),
        )


@dataclass(frozen=True, kw_only=True)
class OmniConfig:
    """What a model is made of: `preset` has configs in the place of names, so that nothing is downloaded.

    `lora_scale` is what adapters beside its weights are multiplied by; 0 where there are none.
    """

    shape: ModelShape
    preset: Preset
    codec: str | None
    mel: int | None = None
    rows: RowsFacts | None = None
    lora_scale: float = 0.0

    def write(self, folder: Path) -> None:
        """Write config.json into a folder."""
        preset, rows = self.preset, self.rows
        assert isinstance(preset.encoder, PreTrainedConfig)
        assert isinstance(preset.lm, PreTrainedConfig)
        values = {
            "format": _FORMAT,
            "speechrows": speechrows.__version__,
            "shape": asdict(self.shape),
            "encoder": _to_json(preset.encoder),
            "normalize": preset.normalize,
            "lm": _to_json(preset.lm),
            "audio_tokens_per_second": str(preset.audio_tokens_per_second),
            "head_size": preset.head_size,
            "depth_size": preset.depth_size,
            "codec": self.codec,
            "mel": self.mel,
            "lora_scale": self.lora_scale,
            "rows": rows
            and {
                "config": rows.config,
                "carries": rows.carries,
                "templates": {task: options.to_json() for task, options in rows.templates.items()},
                "longest": rows.longest,
            },
        }
        (folder / CONFIG).write_text(json.dumps(values, indent=1) + "\n", "utf-8")

    @staticmethod
    def read(folder: Path) -> "OmniConfig":
        """Read config.json of a folder.

        Raises:
            UsageError: it is not what this version of speechrows writes.
        """
        try:
            values = json.loads((folder / CONFIG).read_text("utf-8"))
            if (version := values["format"]) != _FORMAT:
                writer = f"speechrows {values.get('speechrows')}"
                raise ValueError(
                    f"format {version!r} of {writer}, expected {_FORMAT}; "
                    "install the version that wrote it, or train again"
                )
            preset = Preset(
                encoder=_from_json(values["encoder"]),
                normalize=values["normalize"],
                lm=_from_json(values["lm"]),
                audio_tokens_per_second=Fraction(values["audio_tokens_per_second"]),
                head_size=values["head_size"],
                depth_size=values["depth_size"],
            )
            return OmniConfig(
                shape=ModelShape(**values["shape"]),
                preset=preset,
                codec=values["codec"],
                mel=values["mel"],
                lora_scale=float(values.get("lora_scale", 0.0)),
                rows=_rows(values["rows"]),
            )
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            what = (
                f"found {first_line(error)}" if isinstance(error, OSError | ValueError) else f"{error!r:.200}"
            )
            raise UsageError(
                f"{folder / CONFIG}: is not the config of a model of train.py: {what}"
            ) from error


def _rows(values: Mapping[str, Any] | None) -> RowsFacts | None:
    if values is None:
        return None
    templates = {task: TemplateOptions.from_json(options) for task, options in values["templates"].items()}
    if unknown := {*templates} - {*TASKS}:
        raise ValueError(f"tasks {sorted(unknown)}, expected some of {', '.join(TASKS)}")
    return RowsFacts(
        config=str(values["config"]),
        carries=bool(values["carries"]),
        templates=templates,
        longest=int(values["longest"]),
    )


def _to_json(config: PreTrainedConfig) -> dict[str, Any]:
    """A config as plain values, without a path of this machine."""
    values: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    return {name: value for name, value in values.items() if name not in ("_name_or_path", "auto_map")}


def _from_json(values: Mapping[str, Any]) -> PreTrainedConfig:
    """The config of one of transformers' own classes: no code of anybody's is run."""
    values = {**values, **({"decoder_layers": 0} if "decoder_layers" in values else {})}  # it is not used
    return AutoConfig.for_model(**values)
