"""Files, data and code that no command can use, made from tables: what is damaged by how it is damaged."""

import io
import json
import pickle
import zipfile
from dataclasses import replace

import numpy as np
import safetensors.torch
import torch
from PIL import Image
from torch import nn

from supermask import EdgePopup, models
from supermask.ticket.container import seal, unseal
from supermask.ticket.deflate_dictionary import deflated, inflated

PACKAGE = "bad_things_package"


def numbered(name, *texts):
    """Return texts by this name and their number."""
    return {f"{name}{number}": text for number, text in enumerate(texts)}


# ---- code: what a factory of models, of data and of losses may do wrong

RAISED = {
    **{name: name for name in ("KeyError", "ValueError", "StopIteration", "MemoryError", "RecursionError")},
    **{name: f"{name}('no')" for name in ("TypeError", "RuntimeError", "AssertionError", "ImportError", "OSError")},
    "exit": "SystemExit",
    "exit_0": "SystemExit(0)",
    "GeneratorExit": "GeneratorExit",
    "lines": "ValueError('a\\n\\nb\\n' * 500)",
    "control": "ValueError('\\x1b[2J\\x00')",
    "long": "ValueError('x' * 100_000)",
    "mute": "Mute()",
    "surrogate": "ValueError('\\udcff')",
}
RETURNED = {
    **numbered("value", "None", "3", "2.5", "'x'", "b'x'", "[]", "{}", "()", "object()"),
    **numbered("kind", "int", "print", "nn.Linear", "torch.nn", "iter(())", "1j", "..."),
    **numbered("near", "(nn.Linear(12, 3),)", "nn.Linear(12, 3).state_dict()", "[1, 2]"),
    **numbered("tensor", "torch.zeros(3)", "np.zeros(3)", "torch.zeros(0, 3)"),
}
OUTPUTS = {  # of the network below, which is sound but for them
    **numbered("output", "None", "'x'", "[]", "{}", "(x, x)[:0]", "x.sum()", "x[:1]", "3"),
    **numbered("shape", "x[:, :2]", "x[:, None]", "torch.cat([x, x], 1)", "x.T"),
    **numbered("dtype", "x.to(torch.complex64)", "x.long()", "x > 0", "x.numpy()"),
    **numbered("number", "x * float('nan')", "x / 0", "x.log() - 1e38 * 1e38"),
    **numbered("error", "x @ x", "[][1]", "x.nosuch", "exit(0)", "x.view(7, -1)"),
}
MODULES = {
    "no_parameters": "nn.Sequential()",
    "no_super": "Unmade()",
    "meta": "nn.Linear(12, 3, device='meta')",
    "lazy": "nn.LazyLinear(3)",
    "complex": "nn.Linear(12, 3, dtype=torch.complex64)",
    "double": "nn.Linear(12, 3).double()",
    "too_wide": "nn.Linear(13, 3)",
    "images": "nn.Conv2d(3, 3, 3)",
    "empty": "nn.Linear(12, 0)",
    "ids": "nn.Embedding(5, 3)",
    "coroutine": "waiting()",
    "generator": "yielding()",
}
LOSSES = {
    **numbered("loss", "o", "o - t", "o.sum().item()", "[o.sum()]", "o.sum(1)", "t", "o[5]"),
    **numbered("bad", "o.sum() * float('nan')", "o.sum() / 0", "o.sum() + 1j", "o.sum() > 0"),
}
X = {
    **numbered("x", "None", "'x'", "3", "x.tolist()", "x.numpy()", "x[:10]", "x[:0]", "x[0, 0]"),
    **numbered("x_dtype", "x.to(torch.complex64)", "x.to_sparse()", "x.to('meta')"),
    **numbered("x_number", "x * float('nan')", "x / 0"),
}
Y = {
    **numbered("y", "None", "'x'", "3", "y.tolist()", "y.numpy()", "y[:10]", "y[:0]", "y[0]"),
    **numbered("y_dtype", "y.to(torch.complex64)", "y.to('meta')"),
    **numbered("y_number", "y - 1", "y + 2**40", "y * 0 - 100", "y / 0"),
}
SETS = {
    **{f"of_{name}": f"{{'train': ({text}, y)}}" for name, text in X.items()},
    **{f"of_{name}": f"{{'train': (x, {text})}}" for name, text in Y.items()},
    **{f"test_{name}": f"{{'train': (x, y), 'test': ({text}, y)}}" for name, text in [*X.items()][:8]},
    **numbered("keys", "{'test': (x, y)}", "{'train': (x, y), 'more': 1}", "{'train': x}"),
    **{
        f"train{n}": f"{{'train': {text}}}"
        for n, text in enumerate(("None", "3", "(x,)", "(x, y, x)", "'xy'", "[[x, y]]"))
    },
    **{
        f"classes{n}": f"{{'train': (x, y), 'classes': {text}}}"
        for n, text in enumerate(("-1", "'x'", "2", "1.5", "[]"))
    },
    **{
        f"loaders{n}": f"Loaders({text})"
        for n, text in enumerate(("[]", "[x]", "[(x,)]", "3", "None", "[(None, y)]", "[1]"))
    },
}
SIGNATURES = {"asks": "a", "asks_more": "a, b, c, d", "keyword": "*, nosuch", "positional": "a, /, b"}

HEAD = """import numpy as np, torch
from torch import nn
from supermask.data import Loaders
x, y = torch.randn(30, 12, generator=torch.Generator().manual_seed(0)), torch.arange(30) % 3
class Mute(Exception):
    def __str__(self):
        raise KeyError("mute")
class Unmade(nn.Module):
    def __init__(self):
        self.weight = 3
async def waiting():
    return nn.Linear(12, 3)
def yielding():
    yield nn.Linear(12, 3)
number, text = 3, "text"
made = nn.Linear(12, 3)
def network(width=1.0):
    return nn.Sequential(nn.Linear(12, round(8 * width)), nn.ReLU(), nn.Linear(round(8 * width), 3))
def loss(o, t):
    return nn.functional.cross_entropy(o, t)
plain = lambda: network()
def data():
    return {"train": (x, y), "test": (x, y)}
"""
NAMED = ["nosuch", "number", "text", "made", "torch.nosuch", "network.nosuch", "data.x"]
MODULE_TEXTS = {
    "syntax": b"def (",
    "exits": b"raise SystemExit(3)",
    "exits_0": b"import sys; sys.exit(0)",
    "imports": b"import no_such_package",
    "raises": b"raise KeyError('at import')",
    "recurses": b"def f(): f()\nf()",
    "null": b"a = 1\x00",
    "latin": b"a = '\xff'",
    "empty": b"",
}


def write_code(folder):
    """Write the package of factories; return what they are for: places of models, of data and of losses."""
    package = folder / PACKAGE
    package.mkdir()
    for name, text in {**MODULE_TEXTS, "__init__": b""}.items():
        (package / f"{name}.py").write_bytes(text)
    lines = [HEAD]
    every = {name: f"raise {text}" for name, text in RAISED.items()}
    every |= {name: f"return {text}" for name, text in RETURNED.items()}
    lines += [f"def any_{name}(*all, **more):\n    {text}\n" for name, text in every.items()]
    lines += [f"def any_{name}({text}):\n    return network()\n" for name, text in SIGNATURES.items()]
    for name, text in OUTPUTS.items():
        lines.append(
            f"class model_{name}(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
            f"        self.inner = network()\n    def forward(self, given):\n        x = self.inner(given)\n"
            f"        return {text}\n"
        )
    lines += [f"def model_{name}():\n    return {text}\n" for name, text in MODULES.items()]
    lines += [f"def data_{name}():\n    return {text}\n" for name, text in SETS.items()]
    lines += [f"def loss_{name}(o, t):\n    return {text}\n" for name, text in LOSSES.items()]
    (package / "things.py").write_text("\n".join(lines))
    anyone = [f"any_{name}" for name in (*every, *SIGNATURES)] + NAMED
    outside = [f"{PACKAGE}.{name}:f" for name in MODULE_TEXTS] + [f"{PACKAGE}:x", f"{PACKAGE}.nosuch:x"]
    own = {
        "model": [f"model_{name}" for name in (*OUTPUTS, *MODULES)],
        "data": [f"data_{name}" for name in SETS],
        "loss": [f"loss_{name}" for name in LOSSES],
    }
    return {kind: [f"{PACKAGE}.things:{name}" for name in names + anyone] + outside for kind, names in own.items()}


# ---- data sets in files

ARRAYS = {
    "number": lambda a: a.ravel()[0],
    "none": lambda a: a[:0],
    "objects": lambda a: a.astype(object),
    "texts": lambda a: a.astype(str),
    "complex": lambda a: a.astype(complex),
    "dates": lambda a: a.astype(int).astype("datetime64[s]"),
    "fields": lambda a: np.zeros(len(a), dtype=[("a", int), ("b", float)]),
    "fewer": lambda a: a[:-3],
    "nan": lambda a: np.where(np.arange(a.size).reshape(a.shape) == 3, np.nan, a.astype(float)),
    "inf": lambda a: a.astype(float) + np.inf,
}
LABELS = {"negative": lambda a: a - 1, "huge": lambda a: a + 2**40, "long": lambda a: a.astype(np.uint64) + 2**63}


def arrays():
    """Return sound arrays of three classes."""
    x, y = np.random.default_rng(0).standard_normal((30, 12)).astype(np.float32), np.arange(30) % 3
    return {"x_train": x, "y_train": y, "x_test": x + 1, "y_test": y}


def npz(**parts):
    """Return the bytes of a file of numpy.savez."""
    file = io.BytesIO()
    np.savez(file, **parts)
    return file.getvalue()


def zipped(**parts):
    """Return the bytes of a zip archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return file.getvalue()


def declared(shape, kind="<f4"):
    """Return an array's file that says it holds more than it does."""
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
    text += " " * (63 - (len(text) + 10) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def npz_files():
    sound = arrays()
    found = {f"{part}_{how}": npz(**{**sound, part: ARRAYS[how](sound[part])}) for part in sound for how in ARRAYS}
    found |= {
        f"{part}_{how}": npz(**{**sound, part: LABELS[how](sound[part])}) for part in ("y_train",) for how in LABELS
    }
    found |= {f"no_{part}": npz(**{name: each for name, each in sound.items() if name != part}) for part in sound}
    del found["no_x_test"], found["no_y_test"]  # a test part need not be there
    whole = npz(**sound)
    found |= {f"cut{place}": whole[: len(whole) * place // 24] for place in range(24)}
    shapes = ("(10**12, 12)", "(2**62, 2**62)", "(-1,)", "(30, 12", "None", "(1.5,)")
    found |= {
        f"declares{n}": zipped(**{"x_train.npy": declared(text), "y_train.npy": b""}) for n, text in enumerate(shapes)
    }
    found |= {"zip": zipped(a=b"b"), "npy": declared("(3,)") + bytes(12), "text": b"a text\n", "empty_zip": zipped()}
    return {f"{name}.npz": data for name, data in found.items()}


def picture(pixels):
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(file, "png")
    return file.getvalue()


def image_folders():
    """Return folders of images: the name of each to its files."""
    noise = np.random.default_rng(0).integers(0, 255, (8, 8))
    sound = picture(noise)
    two = {f"{name}/{n}.png": picture(noise.T + n) for name in "ab" for n in range(6)}
    wrong = {
        "text": b"a text\n",
        "none": b"",
        "cut": sound[: len(sound) // 2],
        "head": sound[:8],
        "larger": picture(noise[:, :7]),
        "huge": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (60_000).to_bytes(4, "big") * 2 + b"\x08\0\0\0\0" + bytes(4),
    }
    return {
        "one_class": {name: data for name, data in two.items() if name.startswith("a")},
        "no_images": {"a/x.txt": b"", "b/y.txt": b""},
        "no_classes": {"x.png": sound},
        "one_each": {"a/0.png": sound, "b/0.png": sound},
        "constant": {f"{name}/{n}.png": picture(noise * 0) for name in "ab" for n in range(6)},
        "other_test": {f"train/{name}": data for name, data in two.items()} | {"test/c/0.png": sound},
        **{f"one_{kind}": {**two, "b/x.png": data} for kind, data in wrong.items()},
        **{
            f"train_{kind}": {f"train/{n}": d for n, d in two.items()} | {"train/a/x.png": data}
            for kind, data in wrong.items()
        },
    }


TEXTS = {
    **{f"short{count}": b"abcd "[:count] * max(1, count // 5) for count in (0, 1, 4, 5, 60, 300, 1000)},
    "bytes": b"\xff\xfe" * 3000,
    "utf16": ("a text " * 400).encode("utf-16"),
    "cut": ("é" * 3000).encode()[:-1],
    "surrogates": b"a" * 3000 + b"\xed\xa0\x80",
}

# ---- tickets, checkpoints and targets


def small_ticket():
    """Return a ticket of a small network of this package that takes the small images of digits."""
    network = models.build("lenet_300_100", input_shape=(1, 8, 8))
    made = {"name": "lenet_300_100", "input_shape": [1, 8, 8], "classes": 10, "width": 1.0}
    return replace(EdgePopup(network, density=0.5, seed=3).ticket(), provenance={"model": made, "data": "digits"})


JUNK = [None, [], {}, "x", -1, 1.5, True, 10**400, [[]], [None], {"x": None}, "9" * 300, -(2**70)]


def ticket_files():
    sound = small_ticket().to_bytes()
    found = {f"cut{place}": sound[: len(sound) * place // 60] for place in range(1, 60)}
    for place in range(0, 80):
        at = len(sound) * place // 80
        found[f"flip{place}"] = sound[:at] + bytes([sound[at] ^ (1 << place % 8)]) + sound[at + 1 :]
    parts = unseal(sound)
    header = json.loads(inflated(parts.header))
    for key in header:
        changes = {f"{n}": junk for n, junk in enumerate(JUNK) if type(junk) is not type(header[key])}
        sealed = {how: {**header, key: junk} for how, junk in changes.items()}
        sealed["gone"] = {name: value for name, value in header.items() if name != key}
        for how, changed in sealed.items():
            found[f"{key}_{how}"] = seal(parts._replace(header=deflated(json.dumps(changed).encode())))
    found |= {f"part_{part}": seal(parts._replace(**{part: b"\xff" * 9})) for part in ("header", "coded", "learned")}
    found |= {"twice": sound + sound, "more": sound + b"\0", "before": b"\0" + sound}
    return {**{f"{name}.ticket": data for name, data in found.items()}, **other_formats("ticket")}


def saved(value):
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def state():
    return nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3)).state_dict()


class Calls:
    """Pickled, a call; unpickled without care, it is carried out."""

    def __reduce__(self):
        return (print, ("code of a file was run",))


TENSORS = {
    "nan": lambda t: t * float("nan"),
    "inf": lambda t: t / 0,
    "complex": lambda t: t.to(torch.complex64),
    "sparse": lambda t: t.to_sparse(),
    "number": lambda t: t.flatten()[0].clone(),
    "deep": lambda t: t[None, None],
    "none": lambda t: t[:0],
    "list": lambda t: t.tolist(),
    "meta": lambda t: t.to("meta"),
    "wider": lambda t: torch.cat([t, t], -1),
}


def checkpoint_files():
    """Return files that hold no network of this package: neither a target nor a checkpoint."""
    sound, values = state(), [None, 3, "x", [], {}, [1], {"a": 1}, {1: torch.ones(2)}, torch.ones(3), {"a": {}}]
    found = {f"value{n}.pt": saved(value) for n, value in enumerate(values)}
    found |= {"model.pt": saved(nn.Linear(2, 2)), "calls.pt": saved({"a": Calls()}), "calls.pkl": pickle.dumps(Calls())}
    for name in sound:
        found |= {f"{name}_{how}.pt": saved({**sound, name: change(sound[name])}) for how, change in TENSORS.items()}
        del found[f"{name}_wider.pt" if name == "0.weight" else f"{name}_list.pt"]  # a network of more inputs is one
    for suffix, whole in (("pt", saved(sound)), ("safetensors", safetensors.torch.save(sound))):
        found |= {f"cut{place}.{suffix}": whole[: len(whole) * place // 40] for place in range(1, 40)}
    data = safetensors.torch.save(sound)[8:]
    heads = (0, 1, 7, 2**20, 2**63, 2**64 - 1)
    found |= {f"head{n}.safetensors": size.to_bytes(8, "little") + data for n, size in enumerate(heads)}
    return {**found, **other_formats("pt"), **other_formats("safetensors")}


def other_formats(suffix):
    """Return whole files of other formats, with this ending."""
    texts = {"text": b"a text\n", "none": b"", "null": bytes(4096), "json": b"{}", "gzip": b"\x1f\x8b\x08" + bytes(50)}
    found = {
        **texts,
        "png": picture([[1, 2]]),
        "npz": npz(**arrays()),
        "zip": zipped(a=b"b"),
        "pickle": pickle.dumps(3),
    }
    return {f"other_{name}.{suffix}": data for name, data in found.items()}


RUN_FOLDERS = {
    **numbered("config", b"", b"{", b"[]", b"{}", b"3", b"null", b"\xff", b'{"model": 3}'),
    "no_config": None,
    "other_model": b'{"model": "nosuch", "width": 1.0, "data": "digits"}',
    "wide": b'{"model": "lenet_300_100", "width": 1e300, "data": "digits"}',
    "other_data": b'{"model": "lenet_300_100", "width": 1.0, "data": "nosuch"}',
    "deep": b"[" * 100_000,
}


def write_things(folder):
    """Write everything to a folder, and return lists of it by its kind: paths, or places of code."""
    found = write_code(folder)
    files = {"npz": npz_files(), "ticket": ticket_files(), "checkpoint": checkpoint_files(), "text": TEXTS}
    files["image"] = {f"{name}/{file}": data for name, parts in image_folders().items() for file, data in parts.items()}
    runs = {f"{name}/config.json": text for name, text in RUN_FOLDERS.items() if text is not None}
    files["run"] = {**runs, **{f"{name}/network.safetensors": safetensors.torch.save(state()) for name in RUN_FOLDERS}}
    for kind, parts in files.items():
        for name, data in parts.items():
            (folder / kind / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / kind / name).write_bytes(data)
        found[kind] = sorted(str(path) for path in (folder / kind).iterdir())
    links = {"link": folder / "nosuch", "loop": folder / "loop"}
    for name, target in links.items():
        (folder / name).symlink_to(target)
    (folder / "folder").mkdir()
    small_ticket().save(folder / "sound.ticket")
    (folder / "sound.npz").write_bytes(npz(**arrays()))
    (folder / "sound.pt").write_bytes(saved(state()))
    found["never"] = [str(folder / name) for name in (*links, "folder", "missing", "x" * 300, "sound.ticket/x")]
    found["never"] += ["", "/dev/null", "/proc/self/mem"]
    return found
