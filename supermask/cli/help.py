"""Help in parts: a command's own options first, and those of a group or of one method when they are asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import Field, field, fields, is_dataclass, make_dataclass
from typing import Annotated, Any, get_type_hints

import tyro

from supermask.cli.method_options import only_options
from supermask.errors import SupermaskError
from supermask.runs import METHODS

METHODS_FIELD = "options"
"""The field of a command that holds the options of all methods."""

ALL = "all"


def has_topics(kind: type) -> bool:
    """Whether the options of a command are in groups."""
    return is_dataclass(kind) and bool(_groups(kind))


def help_of(kind: type, default: Any, topic: str) -> tuple[type, Any, str | None]:
    """Return a type whose help shows what is asked for, its default, and a description; None is the type's own.

    Args:
        kind: of the command, a dataclass.
        default: its default, or None.
        topic: "" are the options outside groups and a list of the groups, "all" are all options.

    Raises:
        SupermaskError: there is no such group and no such method.

    """
    groups, methods = _groups(kind), _methods(kind)
    # options are typed with dashes, and fields have underscores
    topic = topic.replace("-", "_")
    if topic == ALL:
        return kind, default, None
    if topic and topic not in (*groups, *methods):
        known = ", ".join([*groups, *methods, ALL])
        raise SupermaskError(f"--help {topic}: there is no such group of options; known are {known}.")
    description = _index(kind, groups, methods) if not topic else f"The options of {topic}.{_settings(topic)}"
    shown = {METHODS_FIELD} if topic in methods else {topic}
    hidden = [part for part in fields(kind) if (part.name not in shown if topic else _is_group(part, groups))]
    types = get_type_hints(kind, include_extras=True)
    parts: list[Any] = [(part.name, Annotated[types[part.name], tyro.conf.Suppress], _copy(part)) for part in hidden]
    given = {} if default is None else {part.name: getattr(default, part.name) for part in fields(kind)}
    if topic in methods:
        chosen = only_options(getattr(default, METHODS_FIELD, None) or _default(kind), topic)
        parts.append((METHODS_FIELD, Annotated[type(chosen), tyro.conf.arg(name="")], field(default=chosen)))
        given[METHODS_FIELD] = chosen
    made = make_dataclass(kind.__name__, parts, bases=(kind,), frozen=True)
    return made, made(**given) if default is not None else None, description


def _settings(topic: str) -> str:
    """Return the settings of a method as text; nothing for a group of options."""
    known = METHODS[topic].settings if topic in METHODS else {}
    return "".join(f"\n\n--setting {name}: {setting.describe()}." for name, setting in known.items())


def _groups(kind: type) -> list[str]:
    types = get_type_hints(kind)
    return [part.name for part in fields(kind) if is_dataclass(types[part.name])]


def _is_group(part: Field[Any], groups: Sequence[str]) -> bool:
    return part.name in groups or part.name == METHODS_FIELD


def _default(kind: type) -> Any:
    (part,) = [part for part in fields(kind) if part.name == METHODS_FIELD]
    assert callable(part.default_factory)
    return part.default_factory()


def _methods(kind: type) -> Mapping[str, Any]:
    """Return the options of the methods that a command has options for, by name."""
    if METHODS_FIELD not in {part.name for part in fields(kind)}:
        return {}
    options = _default(kind)
    return {part.name: getattr(options, part.name) for part in fields(options)}


def _copy(part: Field[Any]) -> Any:
    if part.default_factory is not None and callable(part.default_factory):
        return field(default_factory=part.default_factory)
    return field(default=part.default)


def _index(kind: type, groups: Sequence[str], methods: Mapping[str, Any]) -> str:
    """Return the command's summary, and the options that stand in other parts of its help."""
    types = get_type_hints(kind)
    parts = [" ".join((kind.__doc__ or "").split("\n\n")[0].split())]
    parts += [f"--help {group} explains {' '.join(_flags(types[group]))}" for group in groups]
    if methods:
        # not all of them: the options of the command name them, and two lists would not fit the screen
        parts.append(f"--help METHOD explains the options of a method, e.g. --help {next(iter(methods))}")
    return "\n\n".join(parts) + "; --help all explains everything."


def _flags(kind: type) -> list[str]:
    hidden = get_type_hints(kind, include_extras=True)
    names = [
        part.name for part in fields(kind) if tyro.conf.Suppress not in getattr(hidden[part.name], "__metadata__", ())
    ]
    return [f"--{name.replace('_', '-')}" for name in names]
