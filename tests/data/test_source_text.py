"""Kinds of source text: what the passages are, which files they are from, and what a missing source is told."""

import ast

import pytest
import torch

from supermask.data import load, source_text
from supermask.data.text import ASCII, ids_of, read_text
from supermask.errors import DataError

MODULE = '''"""Of the module."""
x = "none"


class A:
    """Of A,
    two lines.
    """

    async def f(self):
        """Of f."""

        def g():
            """Of g."""

    def h(self):
        return 1  # a comment
'''


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Four packages of a few files each, whose text tells their file."""
    for kind in source_text.KINDS.values():
        for number in range(30):
            path = tmp_path / kind.package / f"file{number:02d}.txt"
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"{kind.package}{number:02d}." * 24)
    monkeypatch.setattr(source_text, "_root", lambda package: tmp_path / package)
    kinds = {
        name: source_text.Kind(kind.package, "*.txt", source_text._text) for name, kind in source_text.KINDS.items()
    }
    monkeypatch.setattr(source_text, "KINDS", kinds)
    monkeypatch.setattr(source_text, "TRAIN", 20)
    monkeypatch.setattr(source_text, "TEST", 2)
    source_text._examples.cache_clear()
    yield tmp_path
    source_text._examples.cache_clear()


def _shown(window):
    return "".join(ASCII[place] for place in window.tolist())


def test_every_passage_is_of_its_kind_and_no_file_is_on_both_sides(packages):
    data = source_text.read_source_text()
    assert (data.classes, data.input_shape) == (4, (64,))
    assert data.train.labels.bincount().tolist() == [20] * 4
    names, files = [kind.package for kind in source_text.KINDS.values()], {}
    for part, examples in {"train": data.train, "test": data.test()}.items():
        for window, label in zip(examples.images, examples.labels, strict=True):
            numbers = {piece[-2:] for piece in _shown(window).split(".")[1:-1]}
            assert names[label] in _shown(window)
            assert len(numbers) == 1  # of one file
            files.setdefault((part, names[label]), set()).update(numbers)
    for name in names:
        assert not files["train", name] & files["test", name]


def test_docstrings_are_those_that_a_walk_finds_and_code_is_what_is_left(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(MODULE)
    found = source_text._docstrings(path)
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    every = [ast.get_docstring(node) for node in ast.walk(ast.parse(MODULE)) if isinstance(node, kinds)]
    assert found == "Of the module.\nOf A,\ntwo lines.\nOf f.\nOf g."
    assert sorted(found.split("\n")) == sorted("\n".join(text for text in every if text).split("\n"))
    code = source_text._code(path).split("\n")
    lines = [line for line in MODULE.split("\n") if '"""' not in line and "two lines" not in line]
    assert code == lines


def test_a_long_file_is_cut_and_too_few_passages_are_told(packages, monkeypatch):
    monkeypatch.setattr(source_text, "MOST_OF_A_FILE", 1)
    monkeypatch.setattr(source_text, "TRAIN", 31)
    with pytest.raises(DataError, match=r"scipy has \d+ passages of 64 characters of docstrings for training, and 31"):
        source_text.read_source_text()


def test_a_missing_package_and_a_file_that_is_not_python_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(source_text, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="needs numpy, which is not installed"):
        source_text._root("numpy")
    (tmp_path / "wrong.py").write_text("def f(:\n")
    with pytest.raises(DataError, match=r"wrong\.py cannot be read as text"):
        source_text._read(source_text.KINDS["docstrings"], tmp_path / "wrong.py")


def test_the_installed_packages_give_a_balanced_set_that_is_the_same_each_time():
    data = load("source_text", seed=0)
    assert (len(data.train), len(data.validation), data.vocabulary) == (14_400, 1600, len(ASCII) + 1)
    assert data.test().labels.bincount().tolist() == [source_text.TEST] * 4
    source_text._examples.cache_clear()
    assert load("source_text", seed=0).fingerprint == data.fingerprint
    assert {*source_text.source_versions()} == {"python", "numpy", "scipy", "torch"}
    # real signal: the mean frequencies of the characters alone tell far more than chance
    counts = torch.nn.functional.one_hot(data.train.images, data.vocabulary).float().mean(1)
    centres = torch.stack([counts[data.train.labels == label].mean(0) for label in range(4)])
    tested = torch.nn.functional.one_hot(data.test().images, data.vocabulary).float().mean(1)
    assert (torch.cdist(tested, centres).argmin(1) == data.test().labels).float().mean() > 0.45


def test_a_text_may_be_read_by_characters_that_are_given(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("ab~\ncé" * 40, encoding="utf-8")
    own, given = (read_text(path, name="text", context=4, characters=each) for each in (None, ASCII))
    assert (own.classes, given.classes, given.vocabulary) == (7, 97, 97)
    expected = [ASCII.find(each) if each in ASCII else 96 for each in "ab~\ncé"]
    assert given.train.images.flatten()[:6].tolist() == expected
    assert torch.equal(own.train.images == own.train.images[0, 0], given.train.images == given.train.images[0, 0])
    assert ids_of("~é", [*ASCII]).tolist() == [95, 96]
