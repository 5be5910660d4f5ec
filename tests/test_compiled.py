"""Compiled functions reach nothing of the project outside their own file, by which the compiler's cache is checked.

What a compiled function calls and what it reads (tables, constants) is built into its machine code. Numba looks only at
the file of the function for changes, so a change elsewhere would not reach machines where the cache is warm.
"""

import ast
from concurrent.futures import ThreadPoolExecutor
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(path for folder in ("supermask", "theory", "experiments") for path in (ROOT / folder).rglob("*.py"))
PROJECT = ("supermask", "theory", "experiments")
COMPILERS = ("compiled", "_compiled", "njit", "jit", "vectorize", "guvectorize", "stencil", "cfunc")


def compilers_of(function):
    """Yield the decorators of a function that compile it."""
    for decorator in function.decorator_list:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        if ast.unparse(called).startswith(
            "triton."
        ):  # whose cache looks at all functions and constants that are reached
            continue
        if (called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", None)) in COMPILERS:
            yield decorator


def names_read(node):
    """Return the names that running the node may read; annotations and decorators are not built in."""
    if isinstance(node, ast.FunctionDef):
        defaults = [default for default in [*node.args.defaults, *node.args.kw_defaults] if default is not None]
        return set().union(*map(names_read, [*node.body, *defaults]))
    if isinstance(node, ast.AnnAssign):
        return names_read(node.value) if node.value else set()
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load)}


def names_made(statement):
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return {statement.name}
    return {part.id for part in ast.walk(statement) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}


def imports(statement):
    """Yield each name that a statement imports, and the module that it is of."""
    if isinstance(statement, ast.ImportFrom):
        module = "supermask" if statement.level else statement.module or ""
        yield from ((alias.asname or alias.name, module) for alias in statement.names)
    if isinstance(statement, ast.Import):
        yield from ((alias.asname or alias.name.split(".")[0], alias.name) for alias in statement.names)


def foreign(source):
    """Return (compiled function, name of the project's other files that it reaches) for each such pair."""
    tree = ast.parse(source)
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and any(compilers_of(node))]
    imported = {
        name for statement in ast.walk(tree) for name, module in imports(statement) if module.split(".")[0] in PROJECT
    }
    reads = dict[str, set[str]]()
    for statement in tree.body:
        for name in names_made(statement):
            reads[name] = reads.get(name, set()) | names_read(statement)
    found = []
    for function in functions:
        reached, todo = set(), [function.name]
        while todo:
            name = todo.pop()
            if name not in reached:
                reached.add(name)
                todo += reads.get(name, ())
        found += [(function.name, name) for name in sorted(reached & imported)]
    return found


def test_no_compiled_function_reaches_into_another_file():
    found = {str(path.relative_to(ROOT)): foreign(path.read_text()) for path in FILES}
    assert {path: pairs for path, pairs in found.items() if pairs} == {}


def test_machine_code_is_kept_by_one_decorator_alone():
    """So that the functions of this file know all compiled functions by their decorators."""
    keeping = [path for path in FILES if "cache=True" in path.read_text()]
    assert [str(path.relative_to(ROOT)) for path in keeping] == ["supermask/compiled.py"]


def test_compiled_functions_are_found():
    compiled = [
        str(path.relative_to(ROOT))
        for path in FILES
        if any(
            isinstance(node, ast.FunctionDef) and any(compilers_of(node))
            for node in ast.walk(ast.parse(path.read_text()))
        )
    ]
    assert {"supermask/masking/kernels/counting.py", "theory/subset_sum/_half_sums.py"} <= set(compiled)
    assert any(path.startswith("supermask/ticket/coding/") for path in compiled)


INNER = "\n@compiled\ndef f(x):\n    return g(x)\n"


@pytest.mark.parametrize(
    ("before", "reached"),
    [
        ("from supermask.other import g", ["g"]),
        ("from .other import g", ["g"]),
        ("from supermask import other as o\ndef g(x):\n    return o.put(x)", ["o"]),
        ("import theory.other\n@compiled\ndef g(x):\n    return theory.other.put(x)", ["theory"]),
        ("from supermask.other import N\nT = N + 1\ndef g(x):\n    return T", ["N"]),
        ("from supermask.other import N\nT: int = N\ndef g(x, t=T):\n    return t", ["N"]),
        ("import numpy\nfrom supermask.compiled import compiled\ndef g(x: numpy.array):\n    return numpy.sum(x)", []),
        ("from supermask.other import N\ndef h():\n    return N\ndef g(x):\n    return x", []),
    ],
)
def test_what_a_compiled_function_reaches_is_seen(before, reached):
    assert [name for function, name in foreign(before + INNER) if function == "f"] == reached


LOOPS = """
from supermask.compiled import compiled

@compiled
def doubled(x: int) -> int:
    \"\"\"Return it twice.\"\"\"
    return 2 * x

@compiled
def summed(n: int) -> int:
    total = 0
    for i in range(n):
        total += doubled(i)
    return total
"""


def test_a_function_that_another_file_imported_calls_what_is_in_its_own_file(tmp_path):
    path = tmp_path / "loops.py"
    path.write_text(LOOPS)
    module = module_from_spec(spec := spec_from_file_location("loops", path))
    spec.loader.exec_module(module)
    summed, doubled = module.summed, module.doubled  # as another file imports them
    assert doubled.__doc__ == "Return it twice."
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(summed, [10] * 32)) == [90] * 32
    assert doubled(4) == module.doubled(4) == 8
