"""What publishing would change on the Hub, printed as a table before anything is uploaded."""

from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Changes:
    """What publishing changes: `base` is the commit that it starts from, None where there is none."""

    base: str | None
    new: Mapping[str, int]  # bytes, of files that are new or changed
    same: Mapping[str, int]  # bytes, of files that the repository has already
    replaced: Collection[str]  # of the new ones, those that the repository has with other bytes
    deleted: Sequence[str]  # of earlier builds: the folder has them no more
    card: str  # the text of README.md to publish
    not_compared: str = ""  # why the Hub could not be asked what it has
    kept: Sequence[str]  # keys of the card that stay as a person set them

    def __str__(self) -> str:
        """The files as a table, the sums below it."""
        lines = [
            f"  {'replace' if path in self.replaced else 'send':<8}{size:>16,}  {path}"
            for path, size in self.new.items()
        ]
        lines += [f"  {'delete':<8}{'':>16}  {path}" for path in self.deleted]
        lines.append(f"{len(self.new)} files to send, {sum(self.new.values()):,} bytes")
        if self.not_compared:
            lines.append(
                f"what is there already is not known: the Hub can not be reached ({self.not_compared})"
            )
            return "\n".join(lines)
        lines.append(f"{len(self.same)} files are there already, {sum(self.same.values()):,} bytes")
        lines.append(f"{len(self.deleted)} files to delete")
        if self.kept:
            lines.append(f"the card's {', '.join(self.kept)} stay as they are there")
        return "\n".join(lines)
