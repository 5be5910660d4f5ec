"""The training loop on a small synthetic set: what must hold whatever is trained."""

import json
import os
import signal
import threading
from dataclasses import replace

import pytest
import torch
from torch import nn

from supermask import EdgePopup, SupermaskError, data
from supermask.baselines import Dense
from supermask.data import CropAndFlip, Examples, Warp, epoch_order, step_generator
from supermask.errors import RunError
from supermask.training import Recipe, Stopped, evaluate, train
from supermask.training.batches import Batches, Prepared
from supermask.training.checkpoint import load_checkpoint, save_checkpoint

RECIPE = Recipe(epochs=3, batch_size=64)


@pytest.fixture(scope="module")
def synthetic():
    return data.load("synthetic", seed=0)


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(512, 10)
    )


def lenet():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 30), nn.ReLU(), nn.Linear(30, 10))


class Interrupted(Exception):
    """Stands for whatever ends a process."""


class Search(EdgePopup):
    """Edge-popup that does something at one of its steps."""

    def __init__(self, at=None, what=None):
        super().__init__(network(), density=0.3)
        self.at, self.what = at, what

    def step(self):
        super().step()
        if self.steps == self.at:
            self.what()


def crash():
    raise Interrupted


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def scores(search):
    return torch.cat([part.detach().reshape(-1) for part in search.scores().values()])


def test_a_search_learns(synthetic):
    search = Search()
    outcome = train(search, synthetic, RECIPE, seed=0)
    assert outcome.test.accuracy > 0.8
    assert outcome.steps == 3 * (len(synthetic.train) // 64)
    assert outcome.history[0]["step"] == 0
    assert outcome.history[-1]["step"] == outcome.steps
    assert outcome.history[-1]["train_loss"] < outcome.history[1]["train_loss"]


def test_the_test_set_is_read_once_and_only_at_the_end(synthetic):
    fresh = data.load("synthetic", seed=0)
    reads = []
    last = RECIPE.epochs * (len(fresh.train) // 64)
    search = Search(at=last, what=lambda: reads.append(fresh.test_reads))
    train(search, fresh, RECIPE, seed=0)
    assert reads == [0]
    assert fresh.test_reads == 1


def test_nothing_is_selected_on_the_test_set(synthetic):
    true = synthetic.read_test()
    shuffled = replace(synthetic, read_test=lambda: Examples(true.images, (true.labels + 1) % 10))
    one, other = Search(), Search()
    a, b = train(one, synthetic, RECIPE, seed=0), train(other, shuffled, RECIPE, seed=0)
    assert (a.best_step, a.validation, a.history) == (b.best_step, b.validation, b.history)
    assert torch.equal(scores(one), scores(other))
    assert a.test != b.test


def test_the_best_step_is_the_first_of_highest_validation_accuracy(synthetic):
    search = Search()
    outcome = train(search, synthetic, replace(RECIPE, evaluate_every=3), seed=0)
    accuracies = [record["validation_accuracy"] for record in outcome.history]
    best = accuracies.index(max(accuracies))
    assert outcome.best_step == outcome.history[best]["step"] == search.steps
    assert outcome.validation.accuracy == accuracies[best]
    assert best < len(accuracies) - 1, "the test needs a best step that is not the last"
    validation = Prepared(synthetic, synthetic.validation, RECIPE)
    assert evaluate(search.model, validation) == outcome.validation


def test_the_best_step_can_be_that_of_lowest_validation_loss(synthetic):
    outcome = train(Search(), synthetic, replace(RECIPE, evaluate_every=3, best="loss"), seed=0)
    losses = [record["validation_loss"] for record in outcome.history]
    assert outcome.best_step == outcome.history[losses.index(min(losses))]["step"]
    assert outcome.validation.loss == min(losses)


def test_without_validation_the_last_step_is_taken():
    search = Search()
    outcome = train(search, data.load("synthetic", validation=0), RECIPE, seed=0)
    assert outcome.best_step == outcome.steps == search.steps


@pytest.mark.parametrize("at", [1, 13, 28, 40])
def test_a_run_that_died_and_resumed_ends_bit_identical(synthetic, tmp_path, at):
    whole, first, second = Search(), Search(at, crash), Search()
    expected = train(whole, synthetic, RECIPE, seed=0)
    with pytest.raises(Interrupted):
        train(first, synthetic, RECIPE, seed=0, folder=tmp_path, checkpoint_seconds=0.02)
    outcome = train(second, synthetic, RECIPE, seed=0, folder=tmp_path, resume=True)
    assert torch.equal(scores(second), scores(whole))
    assert (outcome.history, outcome.test, outcome.best_step) == (expected.history, expected.test, expected.best_step)
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == expected.history


def test_adam_and_augmentation_resume_bit_identical(synthetic, tmp_path):
    recipe = replace(RECIPE, optimizer="adam", learning_rate=0.01, augment=True, warp=0.5, warm_up=5)
    whole, first, second = Dense(network()), Dense(network()), Dense(network())
    expected = train(whole, synthetic, recipe, seed=1)
    steps = iter(range(20))
    first.step = lambda: next(steps)  # StopIteration ends it at the 21st
    with pytest.raises(StopIteration):
        train(first, synthetic, recipe, seed=1, folder=tmp_path, checkpoint_seconds=0.0)
    outcome = train(second, synthetic, recipe, seed=1, folder=tmp_path, resume=True)
    assert outcome.history == expected.history
    for mine, theirs in zip(second.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_between_steps_with_a_checkpoint(synthetic, tmp_path, number):
    whole, second = Search(), Search()
    train(whole, synthetic, RECIPE, seed=0)
    first = Search(17, lambda: os.kill(os.getpid(), number))
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped, match="stopped after step 17 of"):
        train(first, synthetic, RECIPE, seed=0, folder=tmp_path)
    assert load_checkpoint(tmp_path / "run.checkpoint")["step"] == 17
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    train(second, synthetic, RECIPE, seed=0, folder=tmp_path, resume=True)
    assert torch.equal(scores(second), scores(whole))


def test_a_second_ctrl_c_is_let_through(synthetic):
    def twice():
        interrupt()
        interrupt()

    with pytest.raises(KeyboardInterrupt):
        train(Search(5, twice), synthetic, RECIPE, seed=0)


def test_the_global_random_state_is_left_alone(synthetic):
    search = Search()
    before = torch.get_rng_state()
    train(search, synthetic, RECIPE, seed=0)  # its dropout draws from it
    assert torch.equal(torch.get_rng_state(), before)


def test_frozen_weights_are_untouched_and_pruned_weights_are_zero_at_every_step(synthetic):
    search = Search()
    frozen = search.frozen_weights()
    step = search.step

    def checked_step():
        step()
        for name, mask in search.masks().items():
            module, _, leaf = name.rpartition(".")
            assert not getattr(search.model.get_submodule(module), leaf)[~mask].any()

    search.step = checked_step
    train(search, synthetic, RECIPE, seed=0)
    for name, weight in search.frozen_weights().items():
        assert torch.equal(weight, frozen[name])


def test_half_precision_and_channels_last_learn_too(synthetic):
    search = Search()
    outcome = train(search, synthetic, replace(RECIPE, bf16=True, channels_last=True), seed=0)
    assert outcome.test.accuracy > 0.8
    assert all(part.dtype is torch.float32 for part in search.scores().values())


def test_a_compiled_network_learns_alike(synthetic, monkeypatch):
    torch.compiler.reset()
    compiled, compile_ = [], torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda model: compiled.append(model) or compile_(model, backend="aot_eager", fullgraph=True)
    )
    plain, other = (EdgePopup(lenet(), density=0.3) for _ in range(2))
    expected = train(plain, synthetic, RECIPE, seed=0, progress=False)
    outcome = train(other, synthetic, replace(RECIPE, compile=True), seed=0, progress=False)
    assert compiled == [other.model]
    assert [record["train_loss"] for record in outcome.history] == pytest.approx(
        [record["train_loss"] for record in expected.history], rel=1e-3
    )


def test_channels_last_changes_no_mask(synthetic):
    plain, last = Search(), Search()
    train(plain, synthetic, replace(RECIPE, epochs=0), seed=0)
    train(last, synthetic, replace(RECIPE, epochs=0, channels_last=True), seed=0)
    assert all(torch.equal(mask, last.masks()[name]) for name, mask in plain.masks().items())


def test_divergence_is_one_clear_sentence(synthetic):
    with pytest.raises(SupermaskError, match="diverged; lower the learning rate"):
        train(Dense(network()), synthetic, replace(RECIPE, learning_rate=1e30), seed=0)


@pytest.mark.parametrize("seconds", [float("nan"), -1.0])
def test_checkpoints_after_no_time_are_refused(seconds, synthetic):
    with pytest.raises(SupermaskError, match=r"checkpoint_seconds=.* is out of range"):
        train(Dense(network(), seed=0), synthetic, Recipe(iterations=1), seed=0, checkpoint_seconds=seconds)


def test_every_example_is_seen_once_an_epoch(synthetic):
    batches = Batches(synthetic, replace(RECIPE, batch_size=10), seed=0, device=torch.device("cpu"))
    seen = torch.cat([batches.batch(step)[0].reshape(10, -1) for step in range(batches.per_epoch)])
    stored = synthetic.normalize(synthetic.train.images).reshape(len(synthetic.train), -1)
    assert sorted(map(tuple, seen.tolist())) == sorted(map(tuple, stored.tolist()))


@pytest.mark.parametrize("other", [{"seed": 1}, {"recipe": replace(RECIPE, learning_rate=0.2)}])
def test_a_checkpoint_of_another_run_is_refused(synthetic, tmp_path, other):
    with pytest.raises(Stopped):
        train(Search(3, interrupt), synthetic, RECIPE, seed=0, folder=tmp_path)
    with pytest.raises(RunError, match="is of another run"):
        train(Search(), synthetic, **{"recipe": RECIPE, "seed": 0} | other, folder=tmp_path, resume=True)


@pytest.mark.parametrize("part", ["train", "validation"])
def test_a_checkpoint_goes_on_with_its_own_data_alone(synthetic, tmp_path, part):
    with pytest.raises(Stopped):
        train(Search(3, interrupt), synthetic, RECIPE, seed=0, folder=tmp_path)
    examples = getattr(synthetic, part)
    labels = examples.labels.clone()
    labels[0] = (labels[0] + 1) % 3
    other = replace(synthetic, **{part: Examples(examples.images, labels)})
    with pytest.raises(RunError, match="The data synthetic have changed since the checkpoint of this run was written"):
        train(Search(), other, RECIPE, seed=0, folder=tmp_path, resume=True)
    state = load_checkpoint(tmp_path / "run.checkpoint")
    save_checkpoint(tmp_path / "run.checkpoint", {name: value for name, value in state.items() if name != "data"})
    train(Search(), other, RECIPE, seed=0, folder=tmp_path, resume=True)  # of before it was written down


def test_epochs_have_orders_of_their_own(synthetic):
    batches = Batches(synthetic, RECIPE, seed=0, device=torch.device("cpu"))
    assert not torch.equal(batches.batch(0)[0], batches.batch(batches.per_epoch)[0])
    again = Batches(synthetic, RECIPE, seed=0, device=torch.device("cpu"))
    again.batch(batches.per_epoch)
    assert torch.equal(batches.batch(0)[0], again.batch(0)[0])


def test_steps_have_augmentations_of_their_own(synthetic):
    white = Examples(torch.full_like(synthetic.train.images, 255), synthetic.train.labels)
    batches = Batches(
        replace(synthetic, train=white), replace(RECIPE, augment=True), seed=0, device=torch.device("cpu")
    )
    # all images are equal, so that batches differ in their crops alone
    assert not torch.equal(batches.batch(0)[0], batches.batch(1)[0])
    assert torch.equal(batches.batch(0)[0], batches.batch(0)[0])


@pytest.mark.parametrize("options", [{}, {"padding": 1}, {"flips": False}, {"padding": 0, "flips": True}])
def test_the_recipe_says_how_far_images_are_shifted_and_whether_they_are_mirrored(synthetic, options):
    plain, augmented = (
        Batches(synthetic, recipe, seed=3, device=torch.device("cpu"))
        for recipe in (RECIPE, replace(RECIPE, augment=True, **options))
    )
    pixels = synthetic.train.images[epoch_order(len(synthetic.train), seed=3, epoch=0)[: RECIPE.batch_size]]
    expected = CropAndFlip(options.get("padding", 4), options.get("flips", True))
    shifted = synthetic.normalize(expected(pixels, generator=step_generator(3, 0)))
    assert torch.equal(augmented.batch(0)[0], shifted)
    assert torch.equal(plain.batch(0)[0], synthetic.normalize(pixels))
    assert not torch.equal(augmented.batch(0)[0], plain.batch(0)[0])


def test_a_warp_comes_after_the_crop(synthetic):
    cut, warped = (
        Batches(synthetic, recipe, seed=3, device=torch.device("cpu"))
        for recipe in (replace(RECIPE, augment=True), replace(RECIPE, augment=True, warp=0.8))
    )
    pixels = synthetic.train.images[epoch_order(len(synthetic.train), seed=3, epoch=0)[: RECIPE.batch_size]]
    generator = step_generator(3, 0)
    cropped = CropAndFlip()(pixels, generator=generator)
    assert torch.equal(cut.batch(0)[0], synthetic.normalize(cropped))
    assert torch.equal(warped.batch(0)[0], synthetic.normalize(Warp(0.8)(cropped, generator=generator)))


@pytest.mark.parametrize("options", [{"augment": True}, {"warp": 0.5}])
def test_inputs_that_are_no_images_are_not_augmented_and_no_step_is_made(options):
    vectors = data.from_tensors((torch.randn(300, 5), torch.arange(300) % 3))
    search = EdgePopup(nn.Linear(5, 3), density=0.5)
    with pytest.raises(SupermaskError, match=r"shape \(\d+, 5\); crops, flips and warps take images"):
        train(search, vectors, replace(RECIPE, **options), seed=0, on_evaluation=lambda *_: pytest.fail("it began"))


def test_a_damaged_checkpoint_is_refused(tmp_path):
    path = tmp_path / "run.checkpoint"
    save_checkpoint(path, {"step": 1, "tensor": torch.zeros(100)})
    assert torch.equal(load_checkpoint(path)["tensor"], torch.zeros(100))
    sound = path.read_bytes()
    for place in range(0, len(sound), 7):
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])
        with pytest.raises(RunError, match="is damaged; delete it"):
            load_checkpoint(path)
    for length in (0, 10, len(sound) - 1):
        path.write_bytes(sound[:length])
        with pytest.raises(RunError, match="is damaged"):
            load_checkpoint(path)


def test_two_threads_do_not_train_at_once(synthetic):
    """Dropout draws from torch's one generator: the second thread is refused, and the first is as it would be alone."""
    begun, told, said = threading.Event(), threading.Event(), []

    def wait(record, subject):
        begun.set()
        assert told.wait(60)

    def second():
        begun.wait(60)
        try:
            train(Dense(network()), synthetic, RECIPE, seed=0)
        except SupermaskError as error:
            said.append(str(error))
        finally:
            told.set()

    alone = train(Dense(network()), synthetic, RECIPE, seed=0)
    subject = Dense(network())
    before = torch.get_rng_state()
    other = threading.Thread(target=second)
    other.start()
    beside = train(subject, synthetic, RECIPE, seed=0, on_evaluation=wait)
    other.join()
    assert len(said) == 1
    assert said[0].startswith("Another thread of this process trains")
    assert beside.validation == alone.validation
    assert torch.equal(torch.get_rng_state(), before)
    train(Dense(network()), synthetic, replace(RECIPE, epochs=0), seed=0)  # after it, it is free again
