import sys

from supermask.files import read_json
from theory.subset_sum import benchmark


def test_writes_the_rates_it_prints(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "EXPERIMENT_1", 500)
    out = tmp_path / "rates.json"
    monkeypatch.setattr(
        sys, "argv", f"benchmark --out {out} --n 7 --problems 100 --repeats 2 --integer-problems 2 --device cpu".split()
    )
    benchmark.main()
    results = read_json(out)["results"]
    assert results["ratio"] == (
        results["meet_in_the_middle_one_core_per_second"] / results["integer_program_highs_per_second"]
    )
    assert all(name in capsys.readouterr().out for name in ["ratio"])
    assert min(results.values()) > 0
