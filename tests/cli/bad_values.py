"""Values that are wrong for options by their type and by their name, and options that do not go together."""

# ---- what is bad for a type

NO_NUMBER = ["abc", "", "1,5", "0x10", "1e", "½", "ten", "1 2", "{", "\x1b[2J", "\udcff", "None?", "--1", "1/2", "1%"]
NO_WHOLE = [*NO_NUMBER, "1.5", "1e3", "nan", "inf", "9" * 5000, "-0.5"]
NO_FINITE = ["nan", "inf", "-inf", "1e400", "-1e400", "NaN", "infinity"]
BELOW = ["-1", "-7", "-1000000"]
BEYOND = [str(2**63), str(2**64), "9" * 400, str(-(2**63)), "-" + "9" * 400]
NAMES = ["nosuch", "", "os:system", "binary:" * 2_000, "\x1b[2J", "x" * 5_000, "../x", "\udcff", ",", " ", "a,", "*"]
NAMES += ["os:nosuch", "nosuch.module:x", ":", "x:", ":x", "a:b:c", "1:2", "os.path:", "\0", "lenet_300_100 ", "-"]
FOLDERS = [
    "{file}/x",
    "/proc/nosuch/x",
    "x" * 300,
    "{file}",
    "a\0b",
    "{file}/../x/y",
    "/dev/null/x",
    "{loop}",
    "{link}/x",
]
LISTS = ["", ",", "0.3,abc", "2", "-1", "nan", "inf", "0.3;0.5", "0.3 0.5", "1e", "1.0001", "-0.1", "0.3,2", "[0.3]"]

ANY_SIGN = {"test_at", "logit"}
FREE = {"setup", "partition", "command"}

DATA = [
    "npz:",
    "npz:\0",
    "npz:{text}",
    "npz:{folder}",
    "text:{sound}",
    "folder:{file}",
    "folder:{folder}",
    "npz:{link}",
]
DATA += [
    "text:{text}?context=99999",
    "npz:{sound_npz}?x=1",
    "text:{text}?context=0",
    "text:{text}?context=-1",
    "npz:{loop}",
]
DATA += [
    "text:{text}?context=1.5",
    "folder:{folder}?size=0",
    "folder:{folder}?size=99999999",
    "folder:",
    "text:",
    "npz",
]
DEVICES = [
    "nosuch",
    "",
    "cuda:99",
    "cpu:1:2",
    "cuda:-1",
    "meta",
    "CPU",
    "gpu",
    "0",
    "cpu,cuda",
    "xla",
    "\udcff",
    "cuda:x",
]
SHAPES = [
    "0 1 1",
    "1",
    "a b c",
    "-1 2 3",
    "1 1",
    "1.5 1 1",
    "1000000 1000000 9",
    "1 1 1 1 1 1 1 1 1",
    f"{2**63} 1 1",
    "nan",
]
PATTERNS = ["nosuch", "", "fc1.nosuch", "*.nosuch", "weight\0", "Fc1*", "[", "1", "x" * 5000, "\udcff", "**?nosuch"]
BY_NAME = {
    "data": [*NAMES, *DATA],
    "device": DEVICES,
    "density": LISTS,
    "densities": LISTS,
    "dense": PATTERNS,
    "learned": PATTERNS,
    "include": PATTERNS,
    "input_shape": SHAPES,
    "protocol": [name for name in NAMES if name],
    "width": [*NO_NUMBER, *NO_FINITE, *BELOW, "0", "1e300", "1e12", "-0.0", "1e-400"],
    "epsilon": [*NO_NUMBER, *NO_FINITE, *BELOW, "0", "-0.0", "1e-400"],
    "radius": [*NO_NUMBER, *NO_FINITE, *BELOW, "0", "-0.0", "1e-400"],
    "batch_size": [*NO_WHOLE, *BELOW, *BEYOND, "0"],
    "seeds": [*NO_WHOLE, *BELOW, *BEYOND, "0", "999999999", "10001"],
    "minutes": [*NO_NUMBER, *NO_FINITE, *BELOW, "0", "1e300", "525601"],
    "momentum": [*NO_NUMBER, *NO_FINITE, *BELOW, "1", "2", "1.0"],
    "dropout": [*NO_NUMBER, *NO_FINITE, *BELOW, "1", "2"],
    "drops": [*NO_NUMBER, *NO_FINITE, *BELOW, "1", "2", "0"],
    "log": ["nosuch", "", "TensorBoard", "tensorboard,wandb", "0"],
    "data_folder": [],
    "runs": ["{file}", "{file}/x", "{loop}", "{sound}", "{sound_npz}", "{target}", "{text}/../x", "a\0b"],
    "entries": [
        "{file}",
        "{file}/x",
        "{loop}",
        "{link}",
        "{sound}",
        "{things}",
        "a\0b",
    ],
    "slurm": ["account", "", "=me", "A=b", "account=", "1a=b", "a b=c", "--account=me"],
    "checkpoint_seconds": [*NO_NUMBER, "nan", *BELOW],
}
"""What is bad for options that stand for more than their type says."""

MORE = {
    "epochs": ["1000001", str(2**31)],
    "iterations": ["1000000001", str(2**31)],
    "warm_up": ["2.5", "1e300"],
    "padding": ["1001"],
    "validation": ["99999999"],
    "threads": ["1025"],
    "cpus": ["0", "1025"],
    "jobs_at_once": ["100001"],
    "requeues": ["100001"],
    "gpus": ["2"],
    "hours": ["0", "1e300", "8761"],
    "memory_gb": ["0", "1e300"],
    "workers": ["0", "257"],
    "hidden": ["0", "1000001"],
    "bits": ["0", "1", "17"],
    "train_error": ["1.5", "2"],
    "examples": ["0"],
}
"""What is out of the range of options beside what no number of their type may be."""

# ---- the commands

TINY = ["--data", "npz:{sound_npz}", "--iterations", "1", "--batch-size", "8"]
SOUND = {
    "search": [*TINY, "--model", "{code}network"],
    "train": [*TINY, "--model", "{code}network"],
    "compare": [*TINY, "--model", "{code}network", "--seeds", "1", "--dry-run"],
    "sweep": [*TINY, "--models", "{code}network", "--seeds", "1", "--cluster", "local", "--dry-run"],
    "evaluate": ["{sound}", "--data", "digits"],
    "inspect": ["{sound}"],
    "transfer": ["{sound}", "--data", "digits", "--iterations", "1"],
    "export": ["{sound}", "--format", "torch_export"],
    "judge": ["{sound}", "--data", "digits", "--minutes", "0.05"],
    "construct": ["--target", "{target}", "--epsilon", "0.5"],
}
"""What each command carries out where nothing is wrong; it is short."""
BESIDE = {
    "floor": ["--scope", "global"],
    "bytes": ["--method", "coded"],
    "bits": ["--exact"],
    "classes": ["--model", "lenet_300_100"],
    "model_width": ["--model", "lenet_300_100"],
    "train_error": ["--examples", "10"],
    "examples": ["--train-error", "0.1"],
}
"""What an option needs beside it, so that nothing but its own value is wrong."""
EXCLUDED = {
    "trained": [
        ["--nesterov", "--optimizer", "adam"],
        ["--nesterov", "--momentum", "0"],
        ["--fused", "--optimizer", "adam"],
        ["--fused", "--optimizer", "sgdw"],
        ["--graph", "--optimizer", "adam"],
        ["--graph", "--fused"],
        ["--graph", "--compile"],
        ["--graph", "--device", "cpu"],
        ["--warm-up", "2.5"],
        ["--batch-size", "100000"],
        ["--test-at", "99"],
        ["--width", "2", "--model", "{code}plain"],
        ["--data", "digits", "--model", "text_transformer"],
        ["--loss", "mse", "--data", "digits"],
    ],
    "searched": [["--floor", "3"], ["--floor", "3", "--scope", "layer"], ["--packed", "--weights", "kaiming_normal"]],
    "search": [
        ["--bytes", "1000"],
        ["--method", "biprop", "--bytes", "1000"],
        ["--method", "coded", "--bytes", "1"],
        ["--method", "dense"],
        ["--weights", "given"],
        ["--given", "{target}"],
        ["--given", "{missing}"],
    ],
    "compare": [["--weights", "given"], ["--ticket", "{missing}"], ["--methods", "dense,nosuch"], ["--methods", ","]],
    "sweep": [["--device", "cuda"], ["--no-wait"], ["--gpus", "1"], ["--gpus", "2"], ["--cluster", "slurm"]],
    "inspect": [["--train-error", "0.1"], ["--examples", "10"], ["--train-error", "1.5", "--examples", "10"]],
    "construct": [
        *(
            ["--exact", *each]
            for each in (["--epsilon", "0.1"], ["--radius", "2"], ["--norm", "linf"], ["--calibrate"])
        ),
        *(["--exact", *each] for each in (["--domain", "nonnegative"], ["--both-halves"], ["--bits", "1"])),
        ["--bits", "4"],
        ["--device", "cuda"],
        ["--classes", "3"],
        ["--model-width", "2"],
        ["--model", "nosuch"],
        ["--data", "digits"],
        ["--data", "nosuch"],
        ["--construction", "linear_diamond"],
    ],
}
"""Options that do not go together, and those that lack one that belongs to them."""

EXPERIMENTS = {
    "list": ["list"],
    "run": ["run", "digits"],
    "report": ["report", "digits"],
    "board": ["records", "board"],
    "check": ["records", "check"],
    "add": ["records", "add", "{folder}", "--tier", "1000", "--command", "x"],
}
"""The commands of `python -m experiments` that are dataclasses, with what each takes."""
GPU = {
    "--seconds": [*NO_NUMBER, *NO_FINITE, *BELOW, "0"],
    "--only": ["nosuch", "", "S0,nosuch", ",", "s0", "S0;S1", "*", "S99"],
    "--out": FOLDERS,
}
"""The options of `python -m experiments gpu`, which are none of a dataclass."""
