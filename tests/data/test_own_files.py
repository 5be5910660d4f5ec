"""Data in files of the user's own, against slow readings of them."""

import numpy as np
import pytest
import torch
from PIL import Image

from supermask import data
from supermask.data import known
from supermask.data.own import is_own
from supermask.errors import DataError

TEXT = "To be, or not to be: that is the question. Zażółć gęślą jaźń! " * 12 + "%" * 30


@pytest.fixture
def text(tmp_path):
    (tmp_path / "play.txt").write_text(TEXT, encoding="utf-8")
    return tmp_path / "play.txt"


def test_windows_of_a_text_are_its_characters_and_the_next_ones(text):
    found = data.load(f"text:{text}?context=7", validation=0)
    cut = len(TEXT) - len(TEXT) // 10
    letters = sorted(set(TEXT[:cut]))
    spell = [*letters, "?"]  # what is only in the test part
    for part, examples in ((TEXT[:cut], found.train), (TEXT[cut:], found.test())):
        assert len(examples) == (len(part) - 1) // 7
        for number, (ids, following) in enumerate(zip(examples.images, examples.labels, strict=True)):
            shown = "".join(letter if letter in letters else "?" for letter in part[7 * number : 7 * number + 8])
            assert "".join(spell[place] for place in ids) == shown[:7]
            assert "".join(spell[place] for place in following) == shown[1:]
    assert "%" not in letters
    assert (found.classes, found.vocabulary, found.input_shape) == (len(letters) + 1, len(letters) + 1, (7,))
    assert int(found.test().labels.max()) == len(letters)


def test_validation_windows_are_drawn_by_the_seed_and_the_test_part_stays(text):
    name = f"text:{text}?context=7"
    first, again, other = (data.load(name, seed=seed) for seed in (0, 0, 1))
    assert len(first.validation) == (len(first.train) + len(first.validation)) // 10
    assert torch.equal(first.validation.images, again.validation.images)
    assert not torch.equal(first.validation.images, other.validation.images)
    assert torch.equal(first.test().images, other.test().images)
    assert first.test_reads == 1


def test_a_relative_path_is_looked_for_here_and_then_in_the_data_folder(text, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(DataError, match=r"Cannot read play\.txt"):
        data.load("text:play.txt?context=7", folder=tmp_path / "here")
    away = data.load("text:play.txt?context=7", folder=tmp_path)
    (tmp_path / "here" / "play.txt").write_text(TEXT[:300], encoding="utf-8")
    assert len(data.load("text:play.txt?context=7", folder=tmp_path).train) < len(away.train)


SHAPES = {
    "grey": (np.uint8, (9, 5, 6), (1, 5, 6)),
    "channels first": (np.uint8, (9, 3, 5, 6), (3, 5, 6)),
    "channels last": (np.uint8, (9, 5, 6, 3), (3, 5, 6)),
    "one channel, last": (np.uint8, (9, 5, 6, 1), (1, 5, 6)),
    "wide integers": (np.int64, (9, 5, 6), (1, 5, 6)),
    "vectors": (np.float64, (9, 5), (5,)),
    "half": (np.float16, (9, 2, 5), (2, 5)),
    "tokens": (np.int32, (9, 5), (5,)),
    "unsigned tokens": (np.uint16, (9, 5), (5,)),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_arrays_of_any_type_are_read(kind, tmp_path):
    dtype, shape, wanted = SHAPES[kind]
    x = np.arange(np.prod(shape)).reshape(shape).astype(dtype) % np.array(200).astype(dtype)
    y = (np.arange(9) % 3).astype(np.int16)
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y[:, None], x_test=x[:4], y_test=y[:4])
    found = data.load(f"npz:{tmp_path / 'a.npz'}", validation=2)
    assert found.input_shape == wanted
    assert (len(found.train), len(found.validation), len(found.test())) == (7, 2, 4)
    whole = data.load(f"npz:{tmp_path / 'a.npz'}", validation=0)
    assert whole.train.labels.tolist() == y.tolist()
    slow = x.transpose(0, 3, 1, 2) if "last" in kind else x
    assert torch.equal(whole.train.images.double().flatten(), torch.from_numpy(slow.astype(np.float64)).flatten())
    assert (whole.vocabulary is None) == ("tokens" not in kind)
    assert bool(whole.mean) == (whole.train.images.dtype == torch.uint8)


def test_images_and_labels_alone_are_divided_in_the_same_way_at_every_call(tmp_path):
    x = np.arange(50, dtype=np.float32)[:, None]
    np.savez(tmp_path / "a.npz", images=x, labels=np.arange(50) % 2)
    first, other = (data.load(f"npz:{tmp_path / 'a.npz'}", seed=seed) for seed in (0, 1))
    assert torch.equal(first.test().images, other.test().images)
    parts = [first.train, first.validation, first.test()]
    assert [len(part) for part in parts] == [36, 4, 10]
    assert sorted(torch.cat([part.images for part in parts]).flatten().tolist()) == list(range(50))


def test_a_validation_part_of_the_files_own_stays(tmp_path):
    x, y = np.random.default_rng(0).normal(size=(30, 2)), np.arange(30) % 2
    np.savez(tmp_path / "a.npz", x_train=x[:20], y_train=y[:20], x_val=x[20:], y_val=y[20:])
    name = f"npz:{tmp_path / 'a.npz'}"
    assert len(data.load(name).validation) == len(data.load(name, validation=0, seed=3).validation) == 10
    assert not len(data.load(name).test())
    with pytest.raises(DataError, match="brings 10 validation examples"):
        data.load(name, validation=5)


def images(folder, colors, count=6):
    """Write images of one color each, two folders of them, and return the colors by file."""
    for number in range(count):
        (folder / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        color = tuple((number * 40 + 20 * c) % 256 for c in range(3)) if colors else number * 40
        picture = Image.new("RGB" if colors else "L", (4, 3), color)
        picture.putpixel((1, 2), (255, 0, 9) if colors else 255)
        picture.save(folder / "ab"[number % 2] / f"{number}.png")


@pytest.mark.parametrize("colors", [True, False])
def test_images_are_the_pixels_of_their_files(colors, tmp_path):
    images(tmp_path / "train", colors)
    images(tmp_path / "val", colors, 4)
    images(tmp_path / "test", colors, 2)
    found = data.load(f"folder:{tmp_path}")
    assert found.input_shape == (3 if colors else 1, 3, 4)
    assert (len(found.train), len(found.validation), len(found.test())) == (6, 4, 2)
    files = [tmp_path / "train" / name for name in ("a/0.png", "a/2.png", "a/4.png", "b/1.png", "b/3.png", "b/5.png")]
    assert found.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    for file, image in zip(files, found.train.images, strict=True):
        with Image.open(file) as opened:
            pixels = np.array(opened).reshape(3, 4, -1).transpose(2, 0, 1)
        assert torch.equal(image, torch.from_numpy(pixels))


def test_without_a_test_folder_val_is_for_testing_and_without_any_a_fifth(tmp_path):
    images(tmp_path / "a set" / "train", False, 10)
    images(tmp_path / "a set" / "val", False, 4)
    found = data.load(f"folder:{tmp_path / 'a set'}")
    assert (len(found.train), len(found.validation), len(found.test())) == (9, 1, 4)
    images(tmp_path / "flat", False, 20)
    flat, other = (data.load(f"folder:{tmp_path / 'flat'}?size=2", seed=seed) for seed in (0, 1))
    assert flat.input_shape == (1, 2, 2)
    assert (len(flat.train), len(flat.validation), len(flat.test())) == (15, 1, 4)
    assert torch.equal(flat.test().images, other.test().images)


def test_a_class_that_training_does_not_have_is_refused(tmp_path):
    images(tmp_path / "train", False)
    images(tmp_path / "test", False)
    (tmp_path / "test" / "c").mkdir()
    with pytest.raises(DataError, match="has a folder c, which is not a class of the training images"):
        data.load(f"folder:{tmp_path}")


def test_names_of_this_package_are_not_the_users_own():
    assert not any(map(is_own, known()))
    assert not is_own("letters")
    assert all(map(is_own, ("npz:a", "text:a", "folder:.", "a.b:c")))
