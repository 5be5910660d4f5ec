"""Calls that cannot be carried out, by combination: each option of a command's dataclass by what is bad for its type.

A new option gets its bad values by its type. What is valid after all is left out by these rules:

- a number below 0 is a value of the options in `ANY_SIGN`;
- any text is one for the options in `FREE`;
- the last of two values of one option counts, as with most commands, so that only a bad last one is refused;
- a misspelt name that is the name of another option is that option;
- an empty path is the current folder, and a last "--" ends the options;
- a folder of data sets, runs or entries that is not there is one that holds none; only what is no folder is refused.
"""

import random
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import tyro
from bad_values import (
    ANY_SIGN,
    BELOW,
    BESIDE,
    BEYOND,
    BY_NAME,
    EXCLUDED,
    EXPERIMENTS,
    FOLDERS,
    FREE,
    GPU,
    MORE,
    NAMES,
    NO_FINITE,
    NO_NUMBER,
    NO_WHOLE,
    SOUND,
)

from supermask.cli.main import COMMANDS, _own

SEED = 20_260_801


class Option(NamedTuple):
    """An option as the command line has it.

    Attributes:
        flag: e.g. "--iterand.period"; empty where it is positional.
        name: of its field.
        kinds: its types, None apart.
        many: whether it takes several values.
        method: whose option it is; empty where it is the command's.

    """

    flag: str
    name: str
    kinds: tuple[Any, ...]
    many: bool
    method: str


@cache
def options(kind: type) -> list[Option]:
    """Return the options of a command, by its dataclass and those in it."""
    return [*_options(kind, "", "")]


def _options(kind: type, prefix: str, method: str) -> Iterator[Option]:
    hints = get_type_hints(kind, include_extras=True)
    for part in fields(kind):
        hint, marks = hints[part.name], getattr(hints[part.name], "__metadata__", ())
        if tyro.conf.Suppress in marks:
            continue
        bare = get_args(hint)[0] if get_origin(hint) is Annotated else hint
        if part.name == "options":  # of all methods, made when they are asked for
            for own in fields(part.default_factory()):
                yield from _options(
                    type(own.default) if own.default is not MISSING else own.type, f"{own.name}.", own.name
                )
        elif is_dataclass(bare):
            yield from _options(bare, prefix, method)
        else:
            kinds, many = _kinds(bare)
            flag = "" if tyro.conf.Positional in marks else f"--{prefix}{part.name}".replace("_", "-")
            positional = any("Positional" in str(mark) or "positional" in str(mark) for mark in marks)
            yield Option("" if positional else flag, part.name, kinds, many, method)


def _kinds(hint: Any) -> tuple[tuple[Any, ...], bool]:
    """Return the plain types of a hint, and whether it is of several values."""
    if get_origin(hint) is Annotated:
        return _kinds(get_args(hint)[0])
    if get_origin(hint) is tuple:
        return _kinds(get_args(hint)[0])[0], True
    if get_origin(hint) is Literal or not get_args(hint):
        return (hint,), False
    parts = [_kinds(part) for part in get_args(hint) if part is not NoneType]
    return tuple(kind for found, _ in parts for kind in found), any(many for _, many in parts)


def bad_values(option: Option) -> list[str]:
    """Return what is bad for an option by its name, else by its type."""
    if option.name in FREE:
        return []
    if option.name in BY_NAME:
        return BY_NAME[option.name]
    found: list[str] = []
    if float in option.kinds:
        found = [*NO_NUMBER, *NO_FINITE]
    elif int in option.kinds:
        found = list(NO_WHOLE)
    if found and option.name not in ANY_SIGN:
        found += BELOW
    if int in option.kinds:
        found += BEYOND
    found += MORE.get(option.name, [])
    for kind in option.kinds:
        if get_origin(kind) is Literal:
            known = get_args(kind)
            tried = [*NAMES[:8], "0", "None?", *(each.upper() for each in known), *(f"{each}x" for each in known)]
            tried += [each[:-1] for each in known] + [",".join(known), *(f" {each}" for each in known)]
            found += [each for each in tried if each not in known]
    if str in option.kinds:
        found += NAMES
    if Path in option.kinds:
        found += FOLDERS
    return list(dict.fromkeys(found))


def without(words: list[str], flag: str) -> list[str]:
    """Return words without an option and its values."""
    if flag not in words:
        return words
    start = words.index(flag)
    end = next((n for n in range(start + 1, len(words)) if words[n].startswith("--")), len(words))
    return words[:start] + words[end:]


def given(words: list[str], *pairs: str) -> list[str]:
    """Return words with these options in place of those of the same names."""
    for word in pairs:
        if word.startswith("--"):
            words = without(words, word)
    return [*words, *pairs]


def typed(option: Option, value: str) -> list[str]:
    if option.name == "input_shape":
        return [option.flag, *value.split(" ")]
    return [f"{option.flag}={value}"] if value.startswith("-") else [option.flag, value]


def by_value(command: str, each: Option) -> Iterator[list[str]]:
    """Yield calls with a bad value of an option."""
    # a dry run makes no folder
    rest = without(SOUND[command], "--dry-run") if each.name == "out" else SOUND[command]
    if not each.flag:
        return
    beside = list(BESIDE.get(each.name, []))
    if each.method:
        beside = ["--method" if command == "search" else "--methods", each.method]
    if bool in each.kinds:
        yield from ([*rest, f"{each.flag}={value}"] for value in ("maybe", "", "2", "None?"))
        return
    for value in bad_values(each):
        yield (
            given(given(rest, *beside), *typed(each, value))
            if not value.startswith("-")
            else [
                *without(given(rest, *beside), each.flag),
                *typed(each, value),
            ]
        )


def by_name(command: str, known: list[Option]) -> Iterator[list[str]]:
    """Yield calls with an option misspelt, left without a value, or given again with a bad one."""
    rest, flags = SOUND[command], {each.flag for each in known}
    for each in known:
        if not each.flag:
            continue
        flag = each.flag
        for wrong in (
            flag[:-1],
            f"{flag}x",
            flag[1:],
            f"-{flag}",
            f"--no{flag[1:]}x",
            flag[:3] + flag[2:],
            flag.upper(),
        ):
            if wrong not in flags and wrong != flag and not wrong.startswith("--no-"):
                yield [*rest, wrong, "1"]
        if not each.many and bool not in each.kinds:
            yield [*rest, flag]
            yield [*rest, flag, "--seed"]
        if (bad := bad_values(each)) and not each.many:
            yield [*rest, flag, "1", *typed(each, bad[0])]


def calls_of(command: str, kind: type, things: dict[str, list[str]]) -> dict[str, list[list[str]]]:
    """Return the bad calls of a command by what is wrong in them."""
    known, rest = options(kind), SOUND[command]
    names = {each.name for each in known}
    found = {f"value of {each.flag}": [*by_value(command, each)] for each in known if not each.method}
    found["value of a method's"] = [call for each in known if each.method for call in by_value(command, each)]
    found["name"] = [*by_name(command, known)]
    found["surplus"] = [[*rest, word] for word in ("surplus", "{sound}", "-", "--=", "---", "-x", "", "{folder}")]
    pairs = EXCLUDED.get(command, [])
    pairs = (
        pairs
        + EXCLUDED["trained"] * ({"epochs", "model", "setting"} <= names)
        + EXCLUDED["searched"] * ("floor" in names)
    )
    found["together"] = [given(rest, *pair) for pair in pairs]
    whole = [each for each in known if each.method and each.kinds == (int,) and not each.many]
    found["another's"] = [[*rest, each.flag, "7"] for each in whole if each.method not in ("edge_popup", "dense")]
    own = {"--data": ("npz", "text", "image", "data"), "--model": ("model",), "--loss": ("loss",)}
    for flag, kinds in own.items():
        if flag[2:] not in names or command in ("sweep", "inspect") or (command == "construct" and flag == "--model"):
            continue
        for one in kinds:
            before = {"npz": "npz:", "text": "text:", "image": "folder:"}.get(one, "")
            # a dry run takes no step, and reads no test part
            real = without(rest, "--dry-run")
            found[f"{one} of {flag}"] = [given(real, flag, before + place) for place in things[one]]
    if not known[0].flag or "ticket" in names:
        files = [*things["ticket"], *things["never"]]
        if command == "compare":
            found["ticket"] = [given(without(rest, "--dry-run"), "--ticket", file) for file in files if file]
        else:
            found["ticket"] = [[file, *rest[1:]] for file in files]
    if "given" in names:
        found["given"] = [given(rest, "--given", file) for file in (*things["checkpoint"], *things["never"])]
    if command == "construct":
        targets = (*things["checkpoint"], *things["run"], *things["never"])
        found["target"] = [["--target", file, "--epsilon", "0.5"] for file in targets]
    return {what: calls for what, calls in found.items() if calls}


def calls_of_experiments(kinds: dict[str, type], names: list[str]) -> dict[str, list[list[str]]]:
    """Return the bad calls of `python -m experiments`, by what is wrong in them; `names` are those of experiments."""
    found: dict[str, list[list[str]]] = {}
    for command, kind in kinds.items():
        SOUND[command] = EXPERIMENTS[command]
        for each in options(kind):
            found[f"{command}, value of {each.flag}"] = [*by_value(command, each)]
        found[f"{command}, name"] = [*by_name(command, options(kind))]
        found[f"{command}, surplus"] = [[*EXPERIMENTS[command], word] for word in ("surplus", "{folder}", "-x")]
    wrong = [*NAMES, *(name[:-1] for name in names), *(f"{name}x" for name in names), *(name.upper() for name in names)]
    for command in ("run", "report"):
        found[f"{command}, experiment"] = [[command, name] for name in wrong if name or command == "run"]
    found["run, none"] = [["run"], ["run", "--device", "cpu"]]
    found["no command"] = [[word] for word in ("nosuch", "", "Run", "lists", "record", "-x", "--nosuch", "1")]
    found["no records"] = [["records", word] for word in ("nosuch", "", "Board", "-x")]
    nowhere = ("{missing}", "/proc/nosuch", "x" * 300, "{folder}")
    found["nothing to check"] = [["records", "check", "--entries", path] for path in nowhere]
    found["no runs"] = [
        ["records", "add", path, "--tier", "1000", "--command", "x"] for path in ("{file}", "{missing}")
    ]
    for flag, values in GPU.items():
        found[f"gpu, {flag}"] = [["gpu", f"{flag}={value}"] for value in values] + [["gpu", flag]]
    return {what: calls for what, calls in found.items() if calls}


def spread(found: dict[str, list[list[str]]], count: int, seed: str) -> list[tuple[str, list[str]]]:
    """Return so many different calls, from every kind in turn, the same ones each time; fewer where there are fewer."""
    dice, seen = random.Random(f"{SEED} {seed}"), set()
    waiting = {what: dice.sample(calls, len(calls)) for what, calls in found.items()}
    chosen: list[tuple[str, list[str]]] = []
    while waiting and len(chosen) < count:
        for what in dice.sample(sorted(waiting), len(waiting)):
            call = waiting[what].pop()
            if not waiting[what]:
                del waiting[what]
            if tuple(call) not in seen:
                seen.add(tuple(call))
                chosen.append((what, call))
    return chosen[:count]


def kind_of(command: str) -> type:
    """Return the dataclass of a command."""
    if command in COMMANDS:
        return _own(command)
    from theory.cli import Construct

    return Construct
