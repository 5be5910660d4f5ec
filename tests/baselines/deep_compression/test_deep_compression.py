"""The method: its stages, its file and the network in it, its options, and what happens when it is stopped."""

import math
import os
import signal
from dataclasses import replace

import pytest
import torch
from compressed_networks import bits_of
from torch import nn

from supermask import SupermaskError, data, models
from supermask.baselines.deep_compression import FILE, DeepCompression, load
from supermask.baselines.deep_compression.method import CompressionStage
from supermask.baselines.deep_compression.pruning import (
    LENET5_CAFFE,
    LENET_300_100,
    PublishedLadder,
    density_of,
    fractions_of,
)
from supermask.baselines.method import RunContext
from supermask.runs import METHODS, Job, SearchOptions, run
from supermask.training import Recipe, Stopped, train

RECIPE = Recipe(iterations=12, batch_size=100, optimizer="adam", learning_rate=3e-3, evaluate_every=4)
JOB = Job("deep_compression", data="synthetic", recipe=RECIPE, search=SearchOptions(density=0.2))


def network():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 10))


@pytest.fixture(scope="module")
def synthetic():
    return data.load("synthetic", seed=0)


class Trainings:
    """The loop, and what it was called with."""

    def __init__(self, synthetic, stop_at=None):
        self.synthetic, self.stop_at, self.calls, self.best = synthetic, stop_at, [], []

    def __call__(self, subject, recipe, *, start, title, **more):
        begun = {name: tensor.clone() for name, tensor in subject.model.state_dict().items()}
        if len(self.calls) == self.stop_at:
            raise Stopped("stopped")
        outcome = train(subject, self.synthetic, recipe, start=start, progress=False, **more)
        self.calls.append((begun, subject.masks(), recipe, outcome))
        self.best.append({name: tensor.clone() for name, tensor in subject.model.state_dict().items()})
        return outcome


def work(trainings, density=0.2, folder=None, **more):
    return RunContext(
        data=trainings.synthetic,
        recipe=replace(RECIPE, dropout=0.4),
        seed=0,
        density=density,
        device=torch.device("cpu"),
        build=network,
        loop=trainings,
        folder=folder,
        stages=folder / "stages" if folder else None,
        resume=folder is not None,
        **more,
    )


def test_the_stages_follow_each_other(synthetic, tmp_path):
    trainings = Trainings(synthetic)
    method = DeepCompression(rate=0.6, retraining=0.5, centroid_rate=1e-3, fc_bits=3, fc_gap_bits=2)
    found = method.run(work(trainings, folder=tmp_path))
    dense, first, second, shared = trainings.calls
    assert [recipe.iterations for _, _, recipe, _ in trainings.calls] == [12, 6, 6, 6]
    assert [recipe.learning_rate for _, _, recipe, _ in trainings.calls] == pytest.approx([3e-3, 3e-4, 3e-4, 1e-3])
    assert shared[2].optimizer == "sgd"
    assert shared[2].dropout == pytest.approx(0.4 * math.sqrt(round(0.2 * 888) / 888))
    for (_, _, _, before), (begun, masks, _, _) in ((dense, first), (first, second)):  # retrained from where it was
        for name, mask in masks.items():
            assert begun[name].equal(torch.where(mask, before.last["model"][name], 0.0))
    for name, mask in shared[1].items():
        assert len(set(shared[0][name][mask].tolist())) <= 8 - 1  # one value is the filler zero
        assert mask.equal(second[1][name])
    assert found.subject.ticket().kept == round(0.2 * 888)
    assert [record.kept for record in found.details.rounds] == [888, 355, 178]
    assert set(found.scores) == {"1.weight", "4.weight"}


def test_what_is_clustered_is_the_pruned_network_at_its_best_step(synthetic):
    trainings = Trainings(synthetic)
    DeepCompression(rate=0.8, fc_bits=15).run(work(trainings))
    begun, masks, _, _ = trainings.calls[-1]
    best = trainings.best[-2]
    for name, tensor in best.items():
        # so many centroids that none has far to go
        within = float(tensor.max() - tensor.min()) / 2**15 if name in masks else 0.0
        torch.testing.assert_close(begun[name], tensor, atol=within, rtol=0)


@pytest.mark.parametrize(("far", "values"), [(23, 8), (24, 8), (27, 7), (767, 7)])
def test_where_fillers_are_needed_zero_is_one_of_the_values(synthetic, far, values):
    asked = work(Trainings(synthetic))
    masks = {name: torch.zeros_like(mask) for name, mask in asked.whole.masks.items()}
    masks["1.weight"].view(-1)[[*range(23), far]] = True
    pruned = asked.sparse(masks)
    state = pruned.model.state_dict()
    state["1.weight"].view(-1)[masks["1.weight"].view(-1)] = torch.linspace(-1.0, 1.0, int(masks["1.weight"].sum()))
    pruned.load_weights(state)
    shared = DeepCompression(fc_bits=3, fc_gap_bits=2).clustered(asked, pruned)
    assert len(shared.sharing["1.weight"].centroids) == values


def test_the_accuracy_and_the_size_are_those_of_the_file(tmp_path):
    result = run(JOB, tmp_path)
    path = tmp_path / FILE
    assert (result.file, result.bytes) == (FILE, path.stat().st_size)
    assert sum(result.details.parts.values()) == result.bytes
    model = load(path, models.build("lenet_300_100", input_shape=(1, 8, 8))).eval()
    test = (synthetic := data.load("synthetic", seed=0)).test()
    with torch.no_grad():
        correct = int((model(synthetic.normalize(test.images)).argmax(1) == test.labels).sum())
    assert correct == result.test.correct
    assert sum(int((model.get_parameter(name) != 0).sum()) for name in result.details.layers) <= result.kept == 10_040
    stages = result.details.stages
    assert stages["huffman"] == CompressionStage(result.bytes, result.test.accuracy)
    assert stages["quantised"].test_accuracy == result.test.accuracy  # Huffman coding loses nothing
    assert stages["dense"].bytes == 4 * (50_200 + 410)
    assert stages["pruned"].bytes == 4 * (2 * 10_040 + 410 + 3 + 410)
    sizes = [stage.bytes for stage in stages.values()]
    assert sizes == sorted(sizes, reverse=True)


def test_the_bytes_before_huffman_coding_are_those_of_entries_of_fixed_length(tmp_path):
    result = run(replace(JOB, options=DeepCompression(fc_bits=4, fc_gap_bits=2)), tmp_path)
    expected = 4 * 410
    for layer in result.details.layers.values():
        assert layer.index_bits[0] == 4
        assert layer.clusters <= 15  # a filler zero is the sixteenth value
        assert layer.entries > layer.kept
        expected += 4 * layer.clusters + math.ceil(layer.entries * (4 + 2) / 8)
    assert result.details.stages["quantised"].bytes == expected


def test_convolutions_and_other_layers_have_bits_of_their_own(tmp_path):
    options = DeepCompression(conv_bits=3, fc_bits=2, conv_gap_bits=4, fc_gap_bits=6)
    job = replace(JOB, model="conv2", width=0.1, options=options)
    layers = run(job, tmp_path).details.layers
    for layer in layers.values():
        conv = len(layer.shape) == 4
        assert layer.clusters <= (8 if conv else 4)
        assert (layer.index_bits[0], layer.gap_bits[0]) == ((3, 4) if conv else (2, 6))


def test_without_a_folder_nothing_is_written_and_the_result_is_the_same(synthetic, tmp_path):
    method = DeepCompression(rate=0.8)
    kept, lost = (method.run(work(Trainings(synthetic), folder=folder)) for folder in (tmp_path, None))
    assert kept.outcome.test == lost.outcome.test
    assert (
        (tmp_path / FILE).stat().st_size == kept.details.stages["huffman"].bytes == lost.details.stages["huffman"].bytes
    )
    back = load(tmp_path / FILE, network()).state_dict()
    assert all(bits_of(back[name]) == bits_of(tensor) for name, tensor in kept.subject.model.state_dict().items())


@pytest.mark.parametrize("stop_at", [0, 1, 2, 3])
def test_a_stopped_run_goes_on_to_the_same_file(synthetic, tmp_path, stop_at):
    method = DeepCompression(rate=0.6)
    (tmp_path / "whole").mkdir()
    method.run(work(Trainings(synthetic), folder=tmp_path / "whole"))
    (tmp_path / "stopped").mkdir()
    with pytest.raises(Stopped):
        method.run(work(Trainings(synthetic, stop_at), folder=tmp_path / "stopped"))
    method.run(work(Trainings(synthetic), folder=tmp_path / "stopped"))
    files = [(tmp_path / folder / FILE).read_bytes() for folder in ("whole", "stopped")]
    assert files[0] == files[1]


def test_centroids_go_on_in_the_middle_of_their_training(synthetic, tmp_path):
    class Interrupted(Trainings):
        def __call__(self, subject, recipe, **more):
            if subject.name == "deep_compression":
                step = subject.step
                subject.step = lambda: self.stop(subject, step)
            return super().__call__(subject, recipe, **more)

        def stop(self, subject, step):
            step()
            if subject.steps == 6:
                os.kill(os.getpid(), signal.SIGTERM)

    method = DeepCompression(rate=0.8, centroid_rate=0.01)
    (tmp_path / "whole").mkdir()
    expected = method.run(work(Trainings(synthetic), folder=tmp_path / "whole"))
    (tmp_path / "stopped").mkdir()
    with pytest.raises(Stopped):
        method.run(work(Interrupted(synthetic), folder=tmp_path / "stopped"))
    found = method.run(work(Trainings(synthetic), folder=tmp_path / "stopped"))
    assert found.outcome.history == expected.outcome.history
    assert (tmp_path / "stopped" / FILE).read_bytes() == (tmp_path / "whole" / FILE).read_bytes()


def test_options_that_the_rounds_do_not_depend_on_share_them(tmp_path):
    other = DeepCompression(centroid_rate=1e-3, conv_bits=4, fc_bits=3, conv_gap_bits=2, fc_gap_bits=3)
    assert other.shared() == DeepCompression().shared()
    for changed in ({"rate": 0.6}, {"layers": "layer"}, {"slower": 0.2}, {"retraining": 2.0}):
        assert replace(other, **changed).shared() != DeepCompression().shared()


# ---- the published fractions


@pytest.mark.parametrize(
    ("name", "fractions", "total"), [("lenet_300_100", LENET_300_100, 21_776), ("lenet5_caffe", LENET5_CAFFE, 36_280)]
)
@pytest.mark.parametrize("rate", [0.2, 0.5, 0.99])
def test_the_published_density_has_the_published_fractions(name, fractions, total, rate):
    model = models.build(name)
    shapes = {key: tuple(p.shape) for key, p in model.named_parameters() if p.ndim > 1}
    ladder = PublishedLadder(rate)
    kept = ladder.kept(shapes, ladder.rounds_to(shapes, density_of(fractions)))
    assert list(kept.values()) == [round(math.prod(shape) * fraction) for shape, fraction in fractions.items()]
    assert sum(kept.values()) == total
    assert density_of(fractions) == pytest.approx(1 / 12, abs=0.002)  # "12x", tables 2 and 3
    one = ladder.kept(shapes, 1.0)
    if rate < 0.9:
        assert sum(one.values()) > total
    other = ladder.kept(shapes, ladder.rounds_to(shapes, 0.02))
    assert sum(other.values()) == round(0.02 * sum(map(math.prod, fractions)))


def test_the_published_fractions_are_for_the_published_networks():
    with pytest.raises(SupermaskError, match="for another network give layers=deviation or layers=layer"):
        fractions_of({"fc1.weight": (300, 64), "fc2.weight": (100, 300), "fc3.weight": (10, 100)})


# ---- options


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fc_bits": 0}, r"fc_bits=0 is out of range; give 1 to 15 bits"),
        ({"conv_gap_bits": 16}, r"conv_gap_bits=16 is out of range"),
        ({"slower": 0.0}, r"slower=0.0 is not positive and finite"),
        ({"centroid_rate": math.nan}, r"centroid_rate=nan is not positive and finite"),
        ({"retraining": -1.0}, r"retraining=-1.0 is not positive"),
        ({"rate": 1.0}, r"rate=1.0 is out of range"),
        ({"layers": "global"}, r"unknown layers='global'; known are deviation, layer, published"),
    ],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(SupermaskError, match=words):
        DeepCompression(**options)


def test_it_is_a_method_of_the_comparison():
    assert METHODS["deep_compression"] == DeepCompression()
