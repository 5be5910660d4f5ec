"""Calls of every command that cannot be carried out: one thing is wrong in each, drawn from a seed."""

import random

SEED = 20_260_801
TWICE = "binary:" * 2_000 + "lenet_300_100"
NAMES = ["nosuch", "", "os:system", TWICE, "\x1b[2J", "x" * 5_000, "../x", "\udcff"]
WHOLE = ["-1", "1.5", "abc", "", "nan", "1e3", str(2**63), "9" * 400]
COUNT = [*WHOLE, "0"]
ENDLESS = [str(2**31), str(2**63), "9" * 400]
NUMBER = ["-1", "nan", "inf", "abc", "", "-inf"]
SHARE = [*NUMBER, "1.5", "0.3,abc", ",", "2"]
DATA = [
    *NAMES,
    "npz:",
    "npz:\0",
    "npz:{text}",
    "npz:{folder}",
    "text:{sound}",
    "text:\0",
    "folder:{file}",
    "folder:{folder}",
    "text:{text}?context=99999",
    "npz:{text}?x=1",
    "os:nosuch",
    "nosuch.module:x",
    "os:environ",
    f"{'x' * 3000}:y",
]
FOLDER = ["{file}/x", "/proc/nosuch/x", "x" * 300, "{file}"]
TICKET = ["{missing}", "{folder}", "{empty}", "{text}", "{cut}", "{strange}", "x" * 300]
CHOICE = ["nosuch", "", "0"]
WORDS = [["--nosuch"], ["--nosuch", "1"], ["--seed"], ["surplus"], ["--out"]]

COMMON = {"--seed": WHOLE, "--threads": WHOLE, "--device": ["nosuch", "", "cuda:99", "cpu:1:2"], "--out": FOLDER}
TRAINED = {
    **COMMON,
    "--width": [*NUMBER, "0", "1e300", "1e6"],
    "--validation": [*WHOLE, "99999999"],
    "--setting": CHOICE,
    "--epochs": ["-1", "1.5", "abc", "", "nan", *ENDLESS, "1000001"],
    "--batch-size": ["0", "-1", "1.5", "abc", "", *ENDLESS],
    "--evaluate-every": ["-1", "abc", *ENDLESS],
    "--padding": ["-1", "abc", "1001", *ENDLESS],
    "--test-at": ["abc", *ENDLESS],
    "--optimizer": CHOICE,
    "--learning-rate": NUMBER,
    "--momentum": [*NUMBER, "2"],
    "--weight-decay": NUMBER,
    "--warm-up": [*NUMBER, *ENDLESS],
    "--decay": CHOICE,
}
COMMANDS = {
    "search": {
        **TRAINED,
        "--model": NAMES,
        "--data": DATA,
        "--method": [*NAMES, "dense"],
        "--density": SHARE,
        "--split-seed": WHOLE,
        "--checkpoint-seconds": ["abc", ""],
    },
    "train": {**TRAINED, "--model": NAMES, "--data": DATA, "--order-seed": WHOLE},
    "compare": {
        **TRAINED,
        "--model": NAMES,
        "--data": DATA,
        "--methods": [*NAMES, ",", "dense,nosuch"],
        "--density": SHARE,
        "--seeds": [*COUNT, "999999999"],
        "--vary": CHOICE,
        "--protocol": [*NAMES[:1], *NAMES[2:]],
        "--ticket": TICKET,
        "--initial": NAMES,
    },
    "sweep": {
        **{name: values for name, values in TRAINED.items() if name not in ("--threads", "--device")},
        "--device": ["nosuch", "", "cuda"],
        "--models": [*NAMES, ","],
        "--data": [*NAMES, ","],
        "--methods": [*NAMES, ","],
        "--densities": SHARE,
        "--seeds": [*COUNT, "999999999"],
        "--cluster": CHOICE,
        "--cpus": [*COUNT, "1025"],
        "--jobs-at-once": ["-1", "abc", *ENDLESS],
        "--hours": ["0", "1e300", *NUMBER],
    },
    "evaluate": {**COMMON, "ticket": TICKET, "--data": [*NAMES[:1], *NAMES[2:]], "--part": CHOICE},
    "inspect": {"ticket": TICKET, "--out": FOLDER},
    "transfer": {**COMMON, "ticket": TICKET, "--data": DATA, "--initial": [*NAMES[:1], *NAMES[2:]]},
    "export": {"ticket": TICKET, "--out": FOLDER, "--format": CHOICE, "--input-shape": [*COUNT, "1000000 1000000 9"]},
    "judge": {
        **COMMON,
        "ticket": TICKET,
        "--data": [*NAMES[:1], *NAMES[2:]],
        "--minutes": ["0", "1e300", "525601", *NUMBER],
    },
    "construct": {
        **COMMON,
        "--target": [*NAMES, "{text}", "{empty}", "{folder}", "{missing}"],
        "--epsilon": ["0", *NUMBER],
        "--radius": ["0", *NUMBER],
        "--hidden": COUNT,
        "--norm": CHOICE,
        "--construction": CHOICE,
        "--input-shape": ["0 1 1", "1", "a b c", "-1 2 3"],
        "--classes": COUNT,
        "--model-width": ["0", *NUMBER, "1e300"],
    },
}
"""What each command takes, and values of it that are wrong."""
SOUND = {
    "search": ["--data", "synthetic", "--epochs", "0"],
    "train": ["--data", "synthetic", "--epochs", "0"],
    "compare": ["--data", "synthetic", "--epochs", "0", "--seeds", "1"],
    "sweep": ["--data", "synthetic", "--epochs", "0", "--seeds", "1", "--cluster", "local"],
    "evaluate": ["{sound}", "--data", "synthetic"],
    "inspect": ["{sound}"],
    "transfer": ["{sound}", "--data", "synthetic", "--epochs", "0"],
    "export": ["{sound}", "--format", "torch_export"],
    "judge": ["{sound}", "--data", "synthetic"],
    "construct": ["--target", "lenet_300_100"],
}
"""What each command would carry out if nothing were wrong; it is short."""


def bad_calls(command, count):
    """Return calls of a command, each with one thing that is wrong."""
    dice = random.Random(f"{SEED} {command}")
    return [_call(command, dice) for _ in range(count)]


def _call(command, dice):
    options, words = COMMANDS[command], list(SOUND[command])
    place = dice.randrange(len(options) + 1)
    if place == len(options):
        return [command, *words, *dice.choice(WORDS)]
    name = list(options)[place]
    bad = dice.choice(options[name])
    if name == "ticket":
        return [command, bad, *words[1:]]
    if name in words:
        del words[words.index(name) : words.index(name) + 2]
    given = bad.split(" ") if name == "--input-shape" else [bad]
    return [command, *words, *(given[:0] or [name, *given])]
