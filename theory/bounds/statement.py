"""What is known about a bound beside its value: where it stands, which way it points, in what unit, how sure it is."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

Function = TypeVar("Function", bound=Callable[..., object])


@dataclass(frozen=True)
class Statement:
    """The provenance of a bound.

    Attributes:
        source: paper and theorem.
        quoted: through whom the formula came here, and how far it was checked.
        unit: of the returned number.
        direction: "sufficient" (with this much it works), "necessary" (with less it cannot work) or "failure" (a
            probability that failure does not exceed).
        constant_known: whether every constant is. If not, the function asks for it as the keyword `constant`.

    """

    source: str
    quoted: str
    unit: str
    direction: Literal["sufficient", "necessary", "failure"]
    constant_known: bool


STATEMENTS: dict[str, Statement] = {}  # by the name of the function


def states(statement: Statement) -> Callable[[Function], Function]:
    """Note a bound's provenance; a function whose arguments contradict it is refused on import."""

    def register(function: Function) -> Function:
        constant = inspect.signature(function).parameters.get("constant")
        asked = constant is not None and constant.kind is constant.KEYWORD_ONLY and constant.default is constant.empty
        if asked == statement.constant_known:
            raise TypeError(f"{function.__name__} must ask for `constant` if, and only if, its paper leaves it open.")
        STATEMENTS[function.__name__] = statement
        return function

    return register
