"""What a build chooses about its templates; kept in its indexes, and read there without transformers."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DEFAULT_DATE = datetime.date(2024, 7, 26)


@dataclass(frozen=True, kw_only=True, slots=True)
class TemplateOptions:
    """A build's choices that templates are compiled with; its index keeps them.

    `date` is the one that chat templates write. `supervise_eos` is None in builders without that choice.
    `system` is the system prompt of conversations without one of their own.
    """

    date: datetime.date = DEFAULT_DATE
    supervise_eos: bool | None = None
    system: str | None = None

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "TemplateOptions":
        """Read the options among a config's values, or what `to_json` gave; other keys are passed over.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        date = datetime.date.fromisoformat(values["date"])
        system = values.get("system")
        if not isinstance(system, str | None):
            raise TypeError(f"system prompt: found {system!r:.80}, expected a text")
        return TemplateOptions(date=date, supervise_eos=values.get("supervise_eos"), system=system)

    def to_json(self) -> dict[str, Any]:
        """The options as plain values; those that a build does not have are left out."""
        others = {"supervise_eos": self.supervise_eos, "system": self.system}
        chosen = {name: value for name, value in others.items() if value is not None}
        return {"date": self.date.isoformat(), **chosen}
