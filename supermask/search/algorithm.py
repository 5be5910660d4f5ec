"""What a method of the comparison is: one frozen dataclass, whose fields are its options, and how it is trained."""

from abc import ABC
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from supermask.errors import SupermaskError
from supermask.training import Recipe

if TYPE_CHECKING:
    from supermask.search.rule import Rule

SettingName = Literal["short", "published"]


@dataclass(frozen=True)
class Setting:
    """A named way to train a method: a recipe and options.

    Attributes:
        recipe: values of a `Recipe` by field. A short setting fills in what the run's recipe leaves open; a published
            setting replaces the run's values.
        options: of the method, its own or shared ones, that a published setting replaces.
        source: where the values come from.
        figures: the accuracy that was published with them.

    """

    recipe: Mapping[str, Any]
    source: str
    options: Mapping[str, Any] = field(default_factory=dict)
    figures: str = ""

    def describe(self) -> str:
        """Return the setting as a line of text."""
        chosen = ", ".join(f"{name}={value}" for name, value in {**self.recipe, **self.options}.items())
        return f"{chosen}; {self.source}" + f"; {self.figures}" * bool(self.figures)


@dataclass(frozen=True)
class Algorithm(ABC):
    """A search or another method of the comparison: a frozen dataclass whose fields are its options."""

    name: ClassVar[str]
    by_density: ClassVar[bool] = True
    """Whether the density that is asked for makes a difference."""

    trains: ClassVar[bool] = True
    """Whether anything is trained."""

    settings: ClassVar[Mapping[SettingName, Setting]] = MappingProxyType({})
    """How it is trained: "short" in few epochs, "published" as its authors did. A method without one has the run's."""

    details_kind: ClassVar[type | None] = None
    """The kind of the details of its results: a frozen dataclass, whose values stand in JSON beside the others."""

    @property
    def rule(self) -> "Rule | None":
        """The rule by which a strong ticket is searched for; None where none is."""
        return None

    def recipe(self, recipe: Recipe, setting: SettingName = "short") -> Recipe:
        """Return how it is trained, given a run's recipe, with nothing left open.

        Args:
            recipe: of the run; None in it is the method's own.
            setting: "short" fills in what the recipe leaves open; "published" replaces all that it names, but for the
                number of epochs, which is the run's.

        Raises:
            SupermaskError: no published setting of the method is known.

        """
        if setting == "published":
            recipe = replace(recipe, **self.published_setting.recipe)
        return recipe.settle(self.short_recipe())

    def short_recipe(self) -> Mapping[str, Any]:
        """Return what the short setting says of a recipe that leaves it open."""
        own = self.settings.get("short")
        return own.recipe if own else {}

    @property
    def published_setting(self) -> Setting:
        """The setting of the authors.

        Raises:
            SupermaskError: none is known.

        """
        if "published" not in self.settings:
            raise SupermaskError(f"No published setting of {self.name} is known; give setting=short.")
        return self.settings["published"]

    @classmethod
    def own_fields(cls) -> tuple[Field[Any], ...]:
        """Return the options of this algorithm alone, which the commands name `--NAME.OPTION`."""
        return fields(cls)

    def own_options(self) -> dict[str, Any]:
        """Return the algorithm's own options by name."""
        return {part.name: getattr(self, part.name) for part in self.own_fields()}

    def recorded_options(self) -> dict[str, Any]:
        """Return the own options by name, without those that older runs did not have where they are at their defaults.

        Such options have the metadata `LATER`.
        """
        later = {part.name: part.default for part in self.own_fields() if part.metadata.get("later")}
        return {name: value for name, value in self.own_options().items() if name not in later or value != later[name]}

    def shared(self) -> "Algorithm":
        """Return the method with those of its options that its stages do not depend on at their defaults.

        Runs for which this is the same, and all else but the density, share their stages.
        """
        return self


LATER: Mapping[str, bool] = MappingProxyType({"later": True})
"""Metadata of an option that runs recorded before do not name; its default is what those did."""
