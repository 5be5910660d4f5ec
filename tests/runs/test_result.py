"""Results as records: they come back from JSON as they were, and what is stored still reads."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from experiments.framework.report import RESULTS, read_results
from experiments.registry import named_experiment
from supermask.results import Made, Result, inlined
from supermask.runs import METHODS, JobResult
from supermask.training.result import Scored


@dataclass(frozen=True)
class Part:
    name: str
    sizes: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Everything(Result):
    pair: tuple[int, float]
    parts: tuple[Part, ...]
    by_density: Mapping[float, Part]
    beside: Part = field(metadata=inlined())
    given: float | None
    optional: int | None = None


MADE = Made({"torch": "2"}, {"cores": 1}, None, 2)
PART = Part("a", (1, 2))
ALL = Everything(
    config={"seed": 1},
    made=MADE,
    pair=(1, 0.5),
    parts=(PART, PART),
    by_density={0.5: PART},
    beside=Part("b", ()),
    given=None,
)


def test_a_record_comes_back_from_json_as_it_was():
    plain = json.loads(json.dumps(ALL.to_json()))
    assert Everything.from_json(plain) == ALL
    assert plain == {
        "config": {"seed": 1},
        "versions": {"torch": "2"},
        "machine": {"cores": 1},
        "commit": None,
        "processes": 2,
        "pair": [1, 0.5],
        "parts": [{"name": "a", "sizes": [1, 2]}] * 2,
        "by_density": {"0.5": {"name": "a", "sizes": [1, 2]}},
        "name": "b",
        "sizes": [],
        "given": None,
    }


def test_a_result_from_before_processes_were_counted_is_of_one():
    plain = {key: value for key, value in ALL.to_json().items() if key != "processes"}
    assert Everything.from_json(plain).made.processes == 1


def test_a_value_that_is_missing_is_an_error():
    plain = {key: value for key, value in ALL.to_json().items() if key != "pair"}
    with pytest.raises(KeyError, match="pair"):
        Everything.from_json(plain)


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_every_value_of_a_stored_result_has_a_field(path):
    experiment = named_experiment(path.stem)
    stored = json.loads(path.read_text())["results"]
    assert any(stored.values())
    for label, results in read_results(experiment).items():
        for plain, result in zip(stored[label], results, strict=True):
            again = json.loads(json.dumps(result.to_json()))
            assert {key: again[key] for key in plain} == plain
            assert again.keys() - plain.keys() <= {"history", "processes"}


def test_the_details_are_those_of_the_method():
    score = Scored(1, 2, 0.5, 0.5)
    plain = JobResult(
        config={"method": "imp"},
        validation=score,
        test=score,
        best_step=1,
        steps=1,
        seconds=1.0,
        kept=1,
        prunable=2,
        bytes=8,
    ).to_json()
    rounds = JobResult.from_json({**plain, "rounds": []})
    assert rounds.detail(METHODS["imp"].details_kind).rounds == ()
    with pytest.raises(AssertionError, match="imp"):
        rounds.detail(Scored)
    assert JobResult.from_json({**plain, "config": {"method": "one that is gone"}}).details is None
