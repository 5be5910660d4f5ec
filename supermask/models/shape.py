"""The choices that every network shares: the shape of its input, its classes and its width."""

from supermask.errors import SupermaskError
from supermask.shown import quoted

InputShape = tuple[int, ...]
"""(channels, height, width) of one image, which `check_input_shape` makes sure of."""


def scaled(units: int, width: float) -> int:
    """`units` times `width`, rounded to an integer that is at least 1."""
    return max(1, round(units * width))


def check_input_shape(input_shape: InputShape) -> None:
    """Raise `SupermaskError` unless this is three positive integers."""
    # also for callers without a type checker: a shape may come from a file or the command line
    triple = isinstance(input_shape, tuple | list) and len(input_shape) == 3
    if not triple or not all(_is_count(size) for size in input_shape):
        raise SupermaskError(
            f"input_shape is {quoted(input_shape)}; it must be three positive integers (channels, height, width)."
        )


def check_sizes(input_shape: tuple[int, ...]) -> None:
    """Raise `SupermaskError` unless this is one or more positive integers, the shape of inputs of any kind."""
    sizes = isinstance(input_shape, tuple | list) and input_shape
    if not sizes or not all(_is_count(size) for size in input_shape):
        raise SupermaskError(f"input_shape is {quoted(input_shape)}; it must be positive integers.")


def check_classes(classes: int, name: str = "classes") -> None:
    """Raise `SupermaskError` unless this is a positive integer, of that name."""
    if not _is_count(classes):
        raise SupermaskError(f"{name} is {quoted(classes)}; it must be an integer of at least 1.")


def check_width(width: float) -> None:
    """Raise `SupermaskError` unless this is a positive, finite number."""
    # a bool is an int in Python; 1e30 leaves a number that the other sizes can multiply
    if isinstance(width, bool) or not isinstance(width, int | float) or not 0 < width < 1e30:
        raise SupermaskError(f"width is {quoted(width)}; it must be a positive number, 1 for the paper's own widths.")


def check_size(input_shape: InputShape, *, least: int, stages: str) -> None:
    """Raise `SupermaskError` unless height and width are at least `least`: `stages` then leave a pixel."""
    if min(input_shape[1:]) < least:
        raise SupermaskError(
            f"input_shape {tuple(input_shape)} is too small for its {stages}; "
            f"height and width must be at least {least}."
        )


def _is_count(value: object) -> bool:
    # a bool is an int in Python, and True would pass for 1
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
