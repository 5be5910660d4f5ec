"""The record board: who may enter, what the referee refuses, and what the pages show."""

import json
import shlex
from dataclasses import replace
from statistics import fmean

import numpy as np
import pytest
from scipy.stats import ttest_ind

from experiments.__main__ import main as experiments_main
from experiments.records import adding, tiers
from experiments.records.adding import add, record_of
from experiments.records.better import LEVEL, p_better
from experiments.records.board import TITLES, board, plot
from experiments.records.command import Check
from experiments.records.record import ENTRIES, read_entries
from experiments.records.referee import check_chain, check_files
from experiments.records.tiers import RIVALS, TIERS
from supermask import EdgePopup, SupermaskError, data, models
from supermask.cli import single
from supermask.cli.main import main
from supermask.results import Made
from supermask.runs import JobResult
from supermask.training.evaluation import Score
from supermask.training.result import Scored

MADE = Made({"torch": "2"}, {"processor": "x"}, "abc")
TIER = 1_500


def scored(wrong, total=10_000):
    return Scored(total - wrong, total, 0.1, (total - wrong) / total)


def make_runs(folder, wrong, *, data="mnist", file="network.ticket", density=0.5, validation=9, padding=b""):
    """Write runs with so many wrong test images each, whose tickets are of no use."""
    for seed, count in enumerate(wrong):
        path = folder / f"run{seed}"
        path.mkdir(parents=True)
        ticket = b"ticket %d %d" % (seed, count) + padding
        (path / "network.ticket").write_bytes(ticket)
        result = JobResult(
            config={"method": "edge_popup", "data": data, "seed": seed, "search": {"density": density}},
            made=MADE,
            validation=scored(validation, 5_000),
            test=scored(count),
            best_step=1,
            steps=1,
            seconds=1.0,
            kept=1,
            prunable=2,
            bytes=len(ticket),
            file=file,
        )
        (path / "result.json").write_text(json.dumps(result.to_json()))
    return folder


def believed(file, data):
    """Evaluate a ticket of `make_runs` as its text says."""
    return Score(10_000 - int(file.read_bytes().split()[2]), 10_000, 0.1)


@pytest.fixture
def enter(tmp_path):
    """Adds an entry of runs with so many wrong test images."""
    count = iter(range(100))

    def entered(wrong, tier=TIER, **options):
        runs = make_runs(tmp_path / f"runs{next(count)}", wrong, **options)
        return add(runs, tier, "a command", entries=tmp_path / "entries", evaluate=believed)

    return entered


# ---- the test over seeds


def test_the_test_is_welchs():
    draw = np.random.Generator(np.random.Philox(3))
    for _ in range(20):
        new, old = draw.normal(0.01, 0.001, 5), draw.normal(0.0105, 0.003, draw.integers(3, 7))
        expected = ttest_ind(new, old, equal_var=False, alternative="less").pvalue
        assert p_better(new.tolist(), old.tolist(), 1e-9) == pytest.approx(expected, rel=1e-9)


def test_equal_errors_are_taken_to_vary_by_one_image():
    image = 1e-4
    assert p_better([0.0099] * 3, [0.01] * 3, image) > 0.1  # one image better
    assert p_better([0.0090] * 3, [0.01] * 3, image) < LEVEL  # ten
    assert p_better([0.01] * 3, [0.01] * 3, image) == pytest.approx(0.5)


def test_chance_makes_no_more_records_than_the_level():
    """4,000 pairs of equal methods: 40 records are to be expected, and 75 have a chance below 1e-6."""
    draw = np.random.Generator(np.random.Philox(4))
    errors = draw.normal(0.01, 0.001, (4_000, 2, 4))
    assert sum(p_better(*pair.tolist(), 1e-4) < LEVEL for pair in errors) < 75


# ---- entering


def test_the_first_of_a_tier_enters_and_the_next_must_be_better(enter, tmp_path):
    first, p = enter([100, 104, 96])
    assert (first.name, p) == ("mnist-1500-1", None)
    with pytest.raises(SupermaskError, match="does not beat"):
        enter([99, 101, 97])
    with pytest.raises(SupermaskError, match="does not beat"):
        enter([150, 151, 152])  # surely worse
    assert [entry.name for entry in read_entries(tmp_path / "entries")] == ["mnist-1500-1"]
    second, p = enter([80, 84, 82])
    assert (second.name, second.record.follows.name) == ("mnist-1500-2", "mnist-1500-1")
    assert p == pytest.approx(p_better([0.008, 0.0084, 0.0082], [0.01, 0.0104, 0.0096], 1e-4))
    assert p < LEVEL
    other, p = enter([300, 300, 301], tier=800)
    assert (other.name, p) == ("mnist-800-1", None)
    assert [entry.name for entry in read_entries(tmp_path / "entries")] == [other.name, first.name, second.name]


def test_an_entry_holds_its_files_errors_and_settings(enter):
    entry, _ = enter([100, 104, 96], validation=50)
    record = entry.record
    assert [each.file for each in record.kept] == ["0.ticket", "1.ticket", "2.ticket"]
    assert (entry.folder / "1.ticket").read_bytes() == b"ticket 1 104"
    assert record.bytes == len(b"ticket 1 104")
    assert record.error.value == pytest.approx(fmean([0.01, 0.0104, 0.0096]))
    assert record.validation_error.value == pytest.approx(0.01)
    assert record.config == {"method": "edge_popup", "data": "mnist", "search": {"density": 0.5}}
    assert (record.command, record.made) == ("a command", MADE)
    assert read_entries(entry.folder.parent)[0].record == record  # as it comes back from JSON


@pytest.mark.parametrize(
    ("wrong", "options", "words"),
    [
        ([10, 11], {}, "at least 3 different seeds"),
        ([10, 11, 12], {"tier": 1_600}, "There is no tier of 1,600 bytes"),
        ([10, 11, 12], {"data": "digits"}, "There is no tier"),
        ([10, 11, 12], {"padding": b"x" * TIER}, "the tier has 1,500 at most"),
        ([10, 11, 12], {"file": "network.safetensors"}, "not a ticket that is all of its network"),
        ([], {}, "holds no finished run"),
    ],
)
def test_what_is_no_entry_is_refused(enter, tmp_path, wrong, options, words):
    with pytest.raises(SupermaskError, match=words):
        enter(wrong, **options)
    assert not read_entries(tmp_path / "entries")


def test_runs_of_two_settings_and_of_other_kinds_are_refused(tmp_path):
    runs = make_runs(tmp_path / "runs", [10, 11, 12])
    make_runs(tmp_path / "more", [13], density=0.3)
    (tmp_path / "more/run0").rename(runs / "run3")
    with pytest.raises(SupermaskError, match="more than their seeds"):
        record_of(runs, TIER, "")
    (runs / "run3/result.json").write_text("{}")
    with pytest.raises(SupermaskError, match="other runs"):
        record_of(runs, TIER, "")


def test_what_the_referee_does_not_find_does_not_enter(tmp_path):
    runs = make_runs(tmp_path / "runs", [10, 11, 12])
    for wrong, enters in ((12, True), (13, False)):  # of the first, ten; two images may differ
        entries = tmp_path / f"entries{wrong}"
        found = {"0.ticket": wrong, "1.ticket": 11, "2.ticket": 12}

        def evaluate(file, data, found=found):
            return Score(10_000 - found[file.name], 10_000, 0.1)

        if enters:
            add(runs, TIER, "", entries=entries, evaluate=evaluate)
        else:
            with pytest.raises(SupermaskError, match="its record says 9990 of 10000"):
                add(runs, TIER, "", entries=entries, evaluate=evaluate)
        assert bool(read_entries(entries)) == enters
        assert len([*entries.glob("*")]) == enters  # nothing half


# ---- refereeing


def test_the_referee_sees_changed_files_and_sizes(enter):
    entry, _ = enter([100, 104, 96])
    check_files(entry.record, entry.folder, believed)
    path = entry.folder / "1.ticket"
    path.write_bytes(b"ticket 1 105")
    with pytest.raises(SupermaskError, match=r"1\.ticket is not the file"):
        check_files(entry.record, entry.folder, believed)
    path.unlink()
    with pytest.raises(SupermaskError, match=r"1\.ticket is not the file"):
        check_files(entry.record, entry.folder, believed)
    path.write_bytes(b"ticket 1 104")
    with pytest.raises(SupermaskError, match="at most 5"):
        check_files(replace(entry.record, tier=5), entry.folder, believed)
    fewer = replace(entry.record, kept=(entry.record.kept[0],) * 3)
    with pytest.raises(SupermaskError, match="fewer than 3"):
        check_files(fewer, entry.folder, believed)


def test_the_referee_sees_that_an_old_record_was_changed_or_removed(enter, tmp_path):
    first, _ = enter([100, 104, 96])
    enter([80, 84, 82])
    entries = read_entries(tmp_path / "entries")
    for entry in entries:
        check_chain(entries, entry)
    path = first.folder / "record.json"
    path.write_text(path.read_text().replace("a command", "b command"))
    changed = read_entries(tmp_path / "entries")
    check_chain(changed, changed[0])
    with pytest.raises(SupermaskError, match="records never change"):
        check_chain(changed, changed[1])
    path.unlink()
    first.folder.rename(tmp_path / "gone")
    with pytest.raises(SupermaskError, match="numbered from 1"):
        read_entries(tmp_path / "entries")


def test_the_referee_sees_a_claim_that_is_not_significant(enter, tmp_path):
    enter([100, 104, 96])
    second, _ = enter([80, 84, 82])
    path = second.folder / "record.json"
    values = json.loads(path.read_text())
    for kept in values["kept"]:
        kept["test"] = {"correct": 9_901, "total": 10_000, "loss": 0.1, "accuracy": 0.9901}
    path.write_text(json.dumps(values))
    entries = read_entries(tmp_path / "entries")
    with pytest.raises(SupermaskError, match="does not beat mnist-1500-1"):
        check_chain(entries, entries[1])


def test_the_command_checks_real_files_in_fresh_processes(tmp_path, monkeypatch, capsys):
    """Three untrained tickets on the digits, with what their networks say here."""
    digits = data.load("digits")
    images, labels = digits.normalize(digits.test().images), digits.test().labels
    monkeypatch.setattr(adding, "TIERS", {"digits": (9_000,)})
    runs = make_runs(tmp_path / "runs", [0, 0, 0], data="digits")
    for seed in range(3):
        made = {"name": "lenet_300_100", "input_shape": [1, 8, 8], "classes": 10, "width": 0.2}
        model, fresh = (models.build("lenet_300_100", input_shape=(1, 8, 8), width=0.2) for _ in range(2))
        ticket = replace(EdgePopup(fresh, density=0.5, seed=seed).ticket(), provenance={"model": made})
        path = runs / f"run{seed}"
        ticket.save(path / "network.ticket")
        wrong = int((ticket.apply(model).eval()(images).argmax(1) != labels).sum())
        values = json.loads((path / "result.json").read_text())
        values |= {"test": vars(scored(wrong, 360)), "bytes": ticket.size}
        (path / "result.json").write_text(json.dumps(values))
    add(runs, 9_000, "", entries=tmp_path / "entries", evaluate=lambda file, name: found_by(runs, file))
    monkeypatch.setattr("experiments.records.board.TIERS", {name: () for name in TITLES})
    Check(tmp_path / "entries")()
    assert "1 entries are as their records say." in capsys.readouterr().out


def found_by(runs, file):
    values = json.loads((runs / f"run{file.stem}/result.json").read_text())["test"]
    return Score(values["correct"], values["total"], values["loss"])


# ---- the pages


def test_the_board_shows_tiers_entries_and_rivals(enter, tmp_path):
    enter([100, 104, 96])
    entry, _ = enter([80, 84, 82])
    entries = read_entries(tmp_path / "entries")
    shown = board(entries)
    row = next(line for line in shown.splitlines() if "mnist-1500-2" in line)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:4] == ["1,500", "mnist-1500-2", "11", "0.18 ± 0.00 %"]
    assert cells[4] == entry.record.error.percent()
    assert cells[5:] == ["3", f"{entry.record.follows.p:.1g}", entry.record.date, "abc"]
    assert sum(" open |" in line for line in shown.splitlines()) == sum(map(len, TIERS.values())) - 1
    assert "- mnist-1500-1: `a command`" in shown
    for rival in RIVALS["mnist"]:
        assert rival.name in shown
        assert rival.counts in shown
    plot(entries, tmp_path / "board.png")
    assert (tmp_path / "board.png").read_bytes().startswith(b"\x89PNG")


def test_rivals_are_sorted_and_counted_in_known_ways():
    from experiments.records.board import _MARKERS

    assert RIVALS.keys() == TIERS.keys() == TITLES.keys()
    for rivals in RIVALS.values():
        assert [rival.bytes for rival in rivals] == sorted(rival.bytes for rival in rivals)
        assert {rival.counts for rival in rivals} <= {*_MARKERS}
    assert tiers.TIERS["mnist"] == tiers.TIERS["fashion_mnist"] == (800, 1_500, 3_000, 10_000)


def test_the_committed_board_is_that_of_the_committed_entries():
    entries = read_entries()
    assert (ENTRIES.parent / "board.md").read_text() == board(entries)
    for entry in entries:
        check_chain(entries, entry)
        check_files(entry.record, entry.folder, lambda file, data, entry=entry: said_by(entry.record, file))


@pytest.mark.parametrize("entry", read_entries(), ids=lambda entry: entry.name)
def test_the_command_of_an_entry_makes_its_runs(entry, monkeypatch, tmp_path, capsys):
    asked = []

    def noted(job, *_, **__):
        asked.append(job)
        raise SupermaskError("enough")

    monkeypatch.setattr(single, "run", noted)
    program, *arguments = shlex.split(entry.record.command)
    assert program == "supermask"
    main([*arguments, "--out", str(tmp_path)])
    assert "enough" in capsys.readouterr().err
    config, wanted = asked[0].settled().config(), entry.record.config
    config["recipe"]["best"] = wanted["recipe"]["best"]  # the data say it, which are not read here
    if "options" in wanted:
        config["options"] = {key: config["options"][key] for key in wanted["options"]}  # younger options are left out
    assert {key: config[key] for key in wanted} == wanted


def said_by(record, file):
    test = next(each.test for each in record.kept if each.file == file.name)
    return Score(test.correct, test.total, test.loss)


def test_the_commands_print_and_refuse(enter, tmp_path, capsys):
    enter([100, 104, 96])
    assert experiments_main(["records", "board", "--entries", str(tmp_path / "entries")]) == 0
    assert "mnist-1500-1" in capsys.readouterr().out
    assert (tmp_path / "board.md").exists()
    assert (tmp_path / "board.png").exists()
    runs = make_runs(tmp_path / "worse", [100, 104, 97])
    line = ["records", "add", str(runs), "--tier", "1500", "--command", "x", "--entries", str(tmp_path / "entries")]
    assert experiments_main(line) == 2
    assert "does not beat" in capsys.readouterr().err
    assert (
        experiments_main(["records", "check", "--entries", str(tmp_path / "entries")]) == 2
    )  # its tickets are of no use
    assert "1 of 1 entries are wrong" in capsys.readouterr().err
