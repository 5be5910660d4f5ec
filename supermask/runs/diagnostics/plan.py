"""Which size of each diagnostic was chosen, kept so that the same command chooses the same."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from supermask.files import read_json, write_json

PLAN = "plan.json"


@dataclass
class Plan:
    """The chosen sizes.

    A machine is never as fast twice. Without a plan, the same command might choose a longer training the next time and
    repeat what is there.

    Attributes:
        path: of its file.
        minutes: that it was made for.
        sizes: name of a diagnostic to the options of its size; None where none fitted.

    """

    path: Path
    minutes: float
    sizes: dict[str, Mapping[str, int] | None] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path, minutes: float) -> "Plan":
        """Return the plan of a folder, or an empty one where it was made for another time."""
        path = folder / PLAN
        there: dict[str, Any] = read_json(path) if path.exists() else {"minutes": None}
        return cls(path, minutes, there["sizes"] if there["minutes"] == minutes else {})

    def note(self, name: str, options: Mapping[str, int] | None) -> None:
        """Remember a choice, also in the file."""
        self.sizes[name] = options
        write_json(self.path, {"minutes": self.minutes, "sizes": self.sizes})
