"""A loader's state as it comes back: plain values, that may have been changed on the way."""

from collections.abc import Mapping
from dataclasses import asdict
from dataclasses import fields
from typing import Any

from speechrows.errors import UsageError
from speechrows.loader.plan.values import PlanOptions

_TEXT, _COUNT = (str,), (int,)
_KINDS: Mapping[str, tuple[type, ...]] = {
    "path": _TEXT, "revision": (str, type(None)), "config": _TEXT, "split": _TEXT, "options": (Mapping,),
    "epoch": _COUNT, "step": _COUNT, "micro_batch": _COUNT, "digest": _TEXT, "rows": _TEXT,
    "mix": (Mapping,),
}  # fmt: skip
# Options that states had not from the first: there where they are given alone.
_LATER = {
    field.name: field.default for field in fields(PlanOptions) if field.name in ("session_tokens", "shuffle")
}
_OF_MIXES = ("mix",)  # what states of a single folder have not
_HIGHEST = 1 << 63
_MOST_MICRO_BATCHES = 1 << 20


def check_state(state: Any) -> None:
    """Check that a loader's state has the values that one has.

    Raises:
        UsageError: it names the first that has not.
    """
    if not isinstance(state, Mapping):
        raise _refusal(f"found {_shown(state)}")
    missing = [name for name in _KINDS if name not in state and name not in _OF_MIXES]
    if missing:
        raise _refusal(f"found no {', '.join(missing)}")
    strange = [name for name in state if name not in _KINDS]
    if strange:
        raise _refusal(f"found {_shown(strange[0])}, which no state has")
    for name, kinds in _KINDS.items():
        if name in state or name not in _OF_MIXES:
            _check(name, state[name], kinds, _HIGHEST)
    known = {field.name for field in fields(PlanOptions)}
    strange = [name for name in state["options"] if name not in known]
    if strange:
        raise _refusal(f"found the option {_shown(strange[0])}, which no state has")
    micro_batches = state["options"].get("micro_batches")
    _check("micro_batches", micro_batches, _COUNT, _MOST_MICRO_BATCHES + 1, least=1)


def saved_options(options: PlanOptions) -> dict[str, Any]:
    """Options as a state has them."""
    saved = asdict(options)
    return {name: value for name, value in saved.items() if name not in _LATER or value != _LATER[name]}


def differences(state: Mapping[str, Any], rows: Mapping[str, Any], options: PlanOptions) -> list[str]:
    """In what a state's config, split, mix and options differ from a loader's, each in words.

    `rows` are the loader's own of the first three.
    """
    ours = {"config": rows["config"], "split": rows["split"], **asdict(options)}
    theirs = {"config": state["config"], "split": state["split"], **_LATER, **state["options"]}
    return _differences_of_mixes(state.get("mix"), rows.get("mix")) + [
        f"{name} {_shown(theirs.get(name))}, here {value!r}"
        for name, value in ours.items()
        if not _are_same(value, theirs.get(name))
    ]


def _differences_of_mixes(theirs: Any, ours: Any) -> list[str]:
    """The sources, and whatever else of a mix, that differ."""
    if (theirs is None) != (ours is None):
        words = ("a mix", "one folder") if ours is None else ("one folder", "a mix")
        return [f"rows of {words[0]}, here of {words[1]}"]
    if theirs is None:
        return []
    known, own = (_without_places(mix.get("sources")) for mix in (theirs, ours))
    changed = [
        f"source {name}: {_shown(known.get(name))}, here {_shown(own.get(name))}"
        for name in dict.fromkeys([*known, *own])
        if known.get(name) != own.get(name)
    ]
    return changed or [
        f"{name} of the mix {_shown(theirs.get(name))}, here {_shown(value)}"
        for name, value in ours.items()
        if name != "sources" and theirs.get(name) != value
    ]


def _without_places(sources: Any) -> dict[str, Any]:
    """The sources of a mix in a state, but for where they are: the same rows may have been moved."""
    are_mappings = isinstance(sources, Mapping) and all(isinstance(s, Mapping) for s in sources.values())
    if not are_mappings:
        raise _refusal(f"found sources {_shown(sources)}")
    return {
        name: {key: value for key, value in source.items() if key not in ("path", "revision")}
        for name, source in sources.items()
    }


def check_place(state: Mapping[str, Any], num_steps: int) -> None:
    """Check that a state's step and micro-batch are of a plan of so many steps.

    Raises:
        UsageError: they are not.
    """
    for name, count in (("step", num_steps), ("micro_batch", state["options"]["micro_batches"])):
        _check(name, state[name], _COUNT, max(1, count))


def _check(name: str, value: Any, kinds: tuple[type, ...], end: int, least: int = 0) -> None:
    if not isinstance(value, kinds) or isinstance(value, bool):
        words = " or ".join(kind.__name__ for kind in kinds)
        raise _refusal(f"found {name} {_shown(value)}, no {words}")
    if kinds == _COUNT and not least <= value < end:
        raise _refusal(f"found {name} {_shown(value)}, not between {least} and {end - 1}")


def _are_same(ours: Any, theirs: Any) -> bool:
    numbers = (int, float)  # 60 is 60.0, and 1 is not True
    alike = type(ours) is type(theirs) or (type(ours) in numbers and type(theirs) in numbers)
    return alike and ours == theirs


def _shown(value: Any) -> str:
    """A value in short, whatever it is."""
    try:
        return f"{value!r:.80}"
    except (ValueError, RecursionError):  # a number of thousands of digits; lists in lists
        return f"a {type(value).__name__}"


def _refusal(found: str) -> UsageError:
    return UsageError(f"the loader's state: {found}; expected what its state_dict() gave")
