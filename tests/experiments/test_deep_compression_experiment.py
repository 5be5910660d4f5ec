"""Deep Compression beside its published table, on a small set."""

import math
from dataclasses import replace

from experiments.deep_compression import EXPERIMENT, JOBS, SEEDS
from experiments.framework.training import Training
from supermask.baselines.deep_compression.published import fractions_of
from supermask.models import build
from supermask.training import Recipe


def cells(shown, label):
    row = next(line for line in shown.splitlines() if line.startswith(f"| {label} "))
    return [cell.strip() for cell in row.split("|")[2:-1]]


def test_each_network_has_the_fractions_and_the_bits_of_its_table():
    for name, job in JOBS.items():
        shapes = {key: tuple(p.shape) for key, p in build(job.model).named_parameters() if p.ndim > 1}
        kept = job.algorithm.pruning.ladder.kept(
            shapes, job.algorithm.pruning.ladder.rounds_to(shapes, job.search.density)
        )
        expected = {key: round(fractions_of(shapes)[shape] * math.prod(shape)) for key, shape in shapes.items()}
        assert kept == expected, name
    assert (JOBS["lenet_300_100"].algorithm.fc_bits, JOBS["lenet_300_100"].algorithm.fc_gap_bits) == (6, 5)
    caffe = JOBS["lenet5_caffe"].algorithm
    assert (caffe.conv_bits, caffe.fc_bits, caffe.conv_gap_bits, caffe.fc_gap_bits) == (8, 5, 5, 5)
    assert [len(group.tasks) for group in EXPERIMENT.groups] == [len(SEEDS)] * 2


def test_bytes_and_errors_of_the_stages_stand_beside_the_published(report):
    tasks = [
        Training(
            replace(
                JOBS[name],
                model="lenet_300_100",
                data="synthetic",
                recipe=Recipe(epochs=1, batch_size=100),
                options=replace(JOBS[name].algorithm, layers="deviation"),
            )
        )
        for name in JOBS
    ]
    shown = report(EXPERIMENT, tasks)
    row = cells(shown, "lenet_300_100")
    assert row[3] == "202.4"  # 4 bytes for each of 50,610 parameters, in KB
    pruned, quantised, written = (float(cell.split(" ")[0]) for cell in row[4:7])
    assert 202.4 > pruned > quantised > written
    assert row[-2:] == ["1", "1.64 -> 1.58 %, 1,070 -> 27 KB"]
    assert "0.80 -> 0.74 %, 1,720 -> 44 KB" in shown
    assert "Published: Han, Mao & Dally 2016, table 1 (read in a text copy of it)." in shown
