"""Docstrings by package: what the passages are, which files they are from, and what a missing source is told."""

import ast
from pathlib import Path

import pytest
import torch

from supermask.data import docstrings, load
from supermask.data.text import ASCII, ids_of, read_text
from supermask.errors import DataError


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Four packages of a few files each, whose docstrings tell their file."""
    for name in docstrings.FOLDERS:
        for number in range(30):
            path = tmp_path / name / "part" / f"file{number:02d}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            text = f"{name}{number:02d}." * 12
            path.write_text(f'"""{text}"""\n\n\ndef f():\n    """{text}"""\n    return "no docstring {number}"\n')
    monkeypatch.setattr(docstrings, "_root", lambda name: tmp_path / name)
    monkeypatch.setattr(docstrings, "FOLDERS", {name: ("part",) for name in docstrings.FOLDERS})
    monkeypatch.setattr(docstrings, "TRAIN", 20)
    monkeypatch.setattr(docstrings, "TEST", 2)
    docstrings._examples.cache_clear()
    yield tmp_path
    docstrings._examples.cache_clear()


def _text(window):
    return "".join(ASCII[place] for place in window.tolist())


def test_every_passage_is_of_its_package_and_no_file_is_on_both_sides(packages):
    data = docstrings.read_docstrings()
    assert (data.classes, data.input_shape) == (4, (64,))
    assert data.train.labels.bincount().tolist() == [20] * 4
    files = {}
    for part, examples in {"train": data.train, "test": data.test()}.items():
        for window, label in zip(examples.images, examples.labels, strict=True):
            name = [*docstrings.FOLDERS][label]
            numbers = {piece[-2:] for piece in _text(window).split(".")[1:-1] if len(piece) == len(name) + 2}
            assert name in _text(window)
            assert len(numbers) == 1  # of one file
            files.setdefault((part, name), set()).update(numbers)
    for name in docstrings.FOLDERS:
        assert not files["train", name] & files["test", name]


def test_docstrings_are_those_that_a_walk_finds_at_the_same_places(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        '"""Of the module."""\nx = "none"\nclass A:\n    """Of A."""\n    async def f(self):\n        """Of f."""\n'
        '        def g():\n            """Of g."""\n    def h(self):\n        return 1\n'
    )
    found = [*docstrings._docstrings(path)]
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    every = [ast.get_docstring(node) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)]
    assert found == ["Of the module.", "Of A.", "Of f.", "Of g."]
    assert sorted(found) == sorted(text for text in every if text)


def test_a_long_file_is_cut_and_too_few_passages_are_told(packages, monkeypatch):
    monkeypatch.setattr(docstrings, "MOST_OF_A_FILE", 1)
    monkeypatch.setattr(docstrings, "TRAIN", 31)
    with pytest.raises(DataError, match=r"The source of python has \d+ passages of 64 characters for training, and 31"):
        docstrings.read_docstrings()


def test_a_missing_package_and_a_file_that_is_not_python_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(docstrings, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="needs the source of numpy, which is not installed"):
        docstrings._root("numpy")
    (tmp_path / "wrong.py").write_text("def f(:\n")
    with pytest.raises(DataError, match=r"wrong\.py cannot be read as Python"):
        list(docstrings._docstrings(tmp_path / "wrong.py"))


def test_the_installed_packages_give_a_balanced_set_that_is_the_same_each_time():
    data = load("docstrings", seed=0)
    assert (len(data.train), len(data.validation), data.vocabulary) == (14_400, 1600, len(ASCII) + 1)
    assert data.test().labels.bincount().tolist() == [docstrings.TEST] * 4
    docstrings._examples.cache_clear()
    assert load("docstrings", seed=0).fingerprint == data.fingerprint
    assert {*docstrings.docstring_sources()} == {"python", "numpy", "scipy", "torch"}
    # real signal: the mean frequency of the characters alone tells more than chance
    counts = torch.nn.functional.one_hot(data.train.images, data.vocabulary).float().mean(1)
    centres = torch.stack([counts[data.train.labels == label].mean(0) for label in range(4)])
    tested = torch.nn.functional.one_hot(data.test().images, data.vocabulary).float().mean(1)
    assert (torch.cdist(tested, centres).argmin(1) == data.test().labels).float().mean() > 0.32


def test_a_text_may_be_read_by_characters_that_are_given(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("ab~\ncé" * 40, encoding="utf-8")
    own, given = (read_text(Path(path), name="text", context=4, characters=each) for each in (None, ASCII))
    assert (own.classes, given.classes) == (7, 97)
    characters = [*"ab~\nc", "?"]
    expected = [ASCII.find(each) if each != "?" else 96 for each in characters]
    assert given.train.images.flatten()[:6].tolist() == expected
    assert torch.equal(own.train.images == own.train.images[0, 0], given.train.images == given.train.images[0, 0])
    assert ids_of("~é", [*ASCII]).tolist() == [95, 96]
    assert given.vocabulary == 97
