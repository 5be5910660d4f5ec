"""What is published: the files of the wheel and of the source archive, and that each works where it is installed."""

import os
import re
import site
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = ("supermask", "theory", "experiments")
SOURCES = {str(path.relative_to(ROOT)) for package in PACKAGES for path in (ROOT / package).rglob("*.py")}


def run(*words, **options):
    """Run a program without this checkout on its path, and return what it prints."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run([*map(str, words)], env=environment, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The paths of a wheel and a source archive; the wheel is made from the archive, as `build` does by default."""
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    (wheel,), (archive,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return {"wheel": wheel, "archive": archive}


@pytest.mark.slow
def test_the_wheel_holds_the_packages_with_their_types_and_the_licence(built):
    with zipfile.ZipFile(built["wheel"]) as wheel:
        names = set(wheel.namelist())
        metadata = Parser().parsestr(wheel.read(next(n for n in names if n.endswith("/METADATA"))).decode())
    assert SOURCES | {"supermask/py.typed", "theory/py.typed"} <= names
    assert {Path(name).parts[0] for name in names if "dist-info" not in name} == set(PACKAGES)
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert not [name for name in names if name.endswith((".png", "README.md", ".pyc", ".checkpoint"))]
    assert (metadata["License-Expression"], metadata["Version"]) == ("MIT", PROJECT["version"])
    assert metadata.get_payload() == (ROOT / "README.md").read_text()


@pytest.mark.slow
def test_the_source_archive_holds_what_the_tests_need(built):
    with tarfile.open(built["archive"]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    pages = {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "CITATION.cff", "pyproject.toml"}
    assert pages | SOURCES | {"tests/test_readme.py", "experiments/results/mnist.ticket"} <= names
    assert not [name for name in names if name.startswith((".ci", "data/", "runs/")) or name.endswith(".pyc")]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wheel", "archive"])
def test_it_works_where_it_is_installed(built, kind, tmp_path):
    """In an environment of its own, which sees the packages installed here but not this checkout."""
    venv.create(tmp_path / "venv", with_pip=False)
    program = tmp_path / "venv" / "bin"
    (own,) = (tmp_path / "venv").glob("lib/*/site-packages")
    (own / "here.pth").write_text("\n".join(site.getsitepackages()))  # path entries only: no .pth file is read there
    install = ("-m", "pip", "--python", program / "python", "install", "--quiet", "--no-deps", "--no-build-isolation")
    run(sys.executable, *install, "--force-reinstall", built[kind], cwd=tmp_path)
    where = run(
        program / "python", "-c", "import supermask, theory; print(supermask.__file__, theory.__file__)", cwd=tmp_path
    )
    assert where.count(str(own)) == 2
    assert "compare" in run(program / "supermask", "--help", cwd=tmp_path)
    assert "construct" in run(program / "supermask", "--help", cwd=tmp_path)
    assert "mnist_density" in run(program / "python", "-m", "experiments", "list", cwd=tmp_path)
    if kind == "wheel":  # once: each installation compiles its loops again, which takes most of the time
        assert "edge_popup" in run(program / "supermask", "compare", "--epochs", "1", "--out", "runs", cwd=tmp_path)


def test_the_citation_names_this_version():
    text = (ROOT / "CITATION.cff").read_text()
    fields = dict(re.findall(r"^([a-z-]+): (.+)$", text, flags=re.MULTILINE))
    assert fields["cff-version"] == "1.2.0"
    assert (fields["version"], fields["license"]) == (PROJECT["version"], PROJECT["license"])
    assert [f"name: {author['name']}" for author in PROJECT["authors"]] == re.findall(
        r"^  - (name: .+)$", text, re.MULTILINE
    )
