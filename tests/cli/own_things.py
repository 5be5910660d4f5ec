"""A package of the user's own in a folder, with data of every kind; tests of the commands go there."""

import numpy as np
from PIL import Image

SOURCE = '''
import torch
from torch import nn
from supermask.data import Loaders, from_tensors

CALLS = []

def mlp(input_shape, classes, width=1.0):
    CALLS.append((input_shape, classes, width))
    units = round(16 * width)
    inputs = 1
    for size in input_shape:
        inputs *= size
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, units), nn.ReLU(), nn.Linear(units, classes))

class Plain(nn.Module):
    """Takes no keywords at all."""

    def __init__(self):
        super().__init__()
        self.one = nn.Linear(16, 3)

    def forward(self, images):
        return self.one(images.flatten(1))

class Reader(nn.Module):
    def __init__(self, vocabulary, context):
        super().__init__()
        self.context = context
        self.table, self.head = nn.Embedding(vocabulary, 8), nn.Linear(8, vocabulary)

    def forward(self, ids):
        assert ids.shape[1] == self.context
        return self.head(self.table(ids))

def line(classes):
    return nn.Linear(6, classes)

made = nn.Linear(16, 3)
number = 3

def raises():
    raise KeyError("no weights here")

def nothing():
    return None

def examples(count, shape, seed):
    draws = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    return torch.randn(count, *shape, generator=draws) + labels.view(-1, *(1 for _ in shape)), labels

def floats():
    return from_tensors(examples(240, (1, 4, 4), 0), test=examples(60, (1, 4, 4), 1), name="floats")

def vectors():
    return {"train": examples(240, (16,), 0), "validation": examples(30, (16,), 2), "test": examples(60, (16,), 1)}

def batches():
    x, y = examples(240, (16,), 0)
    return Loaders([(x[:120], y[:120]), (x[120:], y[120:])], test=[examples(60, (16,), 1)])

def regression():
    x, _ = examples(240, (6,), 0)
    return from_tensors((x, x[:, :2] * 2), test=(x[:60], x[:60, :2] * 2), name="regression")

def absolute(outputs, targets):
    return (outputs - targets).abs().mean()

def broken_loss(outputs, targets):
    raise KeyError("no loss here")

def no_data():
    return [1, 2]
'''


def write_package(folder, name):
    """Write the package `name` with the module `things` to a folder."""
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text("")
    (folder / name / "things.py").write_text(SOURCE)
    (folder / name / "halfway.py").write_text("import no_such_package\n")


def pixels(count, seed):
    """Return grey images of three classes, told apart by a bright row, and their labels."""
    labels = np.arange(count) % 3
    images = np.random.default_rng(seed).integers(0, 60, (count, 8, 8), dtype=np.uint8)
    images[np.arange(count), labels] += 150
    return images, labels


def write_npz(path):
    """Write a file of pixels in two parts, as Keras has MNIST."""
    (x, y), (x_test, y_test) = pixels(240, 0), pixels(60, 1)
    np.savez(path, x_train=x, y_train=y.astype(np.uint8), x_test=x_test, y_test=y_test.astype(np.uint8))


def write_images(folder, count=30, seed=0):
    """Write a folder of images for each class."""
    images, labels = pixels(count, seed)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        (folder / f"class{label}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"class{label}" / f"{number:03}.png")


def write_text(path):
    """Write a text that is easily learned."""
    path.write_text("the cat sat on the mat. " * 200, encoding="utf-8")
