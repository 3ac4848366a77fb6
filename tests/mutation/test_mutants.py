"""Mutants are what their names say, and tests are said to have killed them only where they did. See `mutation.py`."""

import json
from pathlib import Path

import pytest
from equivalent import EQUIVALENT
from mutants import Mutant, mutants

import mutation
from mutation import KILLED, SURVIVED, TESTS, TIMEOUT, Results, Worker, main

SOURCE = '''
"""Text with 1 + 1."""

Name = int | None

@cache(3)
def f(x: Float[Tensor, "B 2"], k: float = 0.5) -> tuple[int, 2]:
    if x is None:
        return 1
    note(x)
    µ = "1" + f"{x + 1}"; k -= x.clamp(min=k)
    if not 0 < x:
        raise ValueError(f"{x}" + str(1 + 1))
    return min(x, -k) if x and k else torch.clamp(k, x)
'''
CHANGES = [
    "0.5 -> 1.5", "x is None -> x is not None", "return 1 -> pass", "1 -> 0", "note(x) -> pass",
    "k -= x.clamp(min=k) -> k += x.clamp(min=k)", "x.clamp(min=k) -> x", "not 0 < x -> 0 < x", "0 < x -> 0 <= x",
    "0 < x -> 0 >= x", "0 -> 1", "min -> max", "-k -> k", "x and k -> x or k", "torch.clamp(k, x) -> k",
]  # fmt: skip


def test_every_change_is_made_once_and_nowhere_else() -> None:
    found = mutants(SOURCE.encode())
    assert sorted(mutant.change for mutant in found) == sorted(CHANGES)
    for mutant in found:
        compile(mutant.text, "", "exec")
        old, new = SOURCE.splitlines(), mutant.text.decode().splitlines()
        (number,) = (i for i, lines in enumerate(zip(old, new, strict=True), 1) if lines[0] != lines[1])
        assert (mutant.number, mutant.line) == (number, old[number - 1].strip())


def test_names_of_modules_tests_and_equivalent_mutants_exist() -> None:
    for module, stages in TESTS.items():
        source = (mutation.PACKAGE / f"{module}.py").read_bytes()
        assert all((mutation.ROOT / "tests" / stage[0]).exists() for stage in stages)
        known = {(mutant.line, mutant.change) for mutant in mutants(source)}
        named = {(line, change) for (of, line), changes in EQUIVALENT.items() if of == module for change in changes}
        assert named <= known
    assert {module for module, _ in EQUIVALENT} <= set(TESTS)


@pytest.fixture
def half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of one function, and a test of it that does not try numbers below 0."""
    package = tmp_path / "src" / "ssimgen"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "half.py").write_text("def half(x):\n    while x < 0:\n        x += 1\n    return x / 2\n")
    tests = tmp_path / "tests"
    tests.mkdir()
    (tests / "test_half.py").write_text("from ssimgen.half import half\n\ndef test_half():\n    assert half(2) == 1\n")
    monkeypatch.setattr(mutation, "ROOT", tmp_path)
    monkeypatch.setattr(mutation, "PACKAGE", package)
    monkeypatch.setattr(mutation, "TESTS", {"half": [["test_half.py"]]})
    monkeypatch.setattr(mutation, "KERNELS", ("half",))
    monkeypatch.setattr(mutation, "LEAST_LIMIT", 3)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    (tmp_path / "worker").mkdir()
    return tmp_path


def test_killed_survived_and_endless_mutants(half: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    results, scores = half / "results.jsonl", half / "scores.json"

    def run(*words: str) -> int:
        monkeypatch.setattr("sys.argv", ["mutation.py", "--results", str(results), "--json", str(scores), *words])
        return main()

    assert run("--sample", "1") == 0
    assert len(results.read_text().splitlines()) == 1
    assert run("--bar", "0.9") == 1
    entries = {entry["change"]: entry["result"] for entry in map(json.loads, results.read_text().splitlines())}
    assert entries == {
        "x < 0 -> x <= 0": SURVIVED,
        "x < 0 -> x >= 0": TIMEOUT,
        "0 -> 1": SURVIVED,
        "x += 1 -> x -= 1": SURVIVED,
        "1 -> 0": SURVIVED,
        "x / 2 -> x * 2": KILLED,
        "2 -> 3": KILLED,
    }
    assert len(results.read_text().splitlines()) == 7  # the first was not tried again
    assert json.loads(scores.read_text())["modules"]["half"]["score"] == pytest.approx(3 / 7)
    assert "src/ssimgen/half.py:2: 0 -> 1" in capsys.readouterr().out.splitlines()

    tests = half / "tests" / "test_half.py"
    tests.write_text(tests.read_text() + "    assert half(-1) == 0\n")
    monkeypatch.setattr(Worker, "result", lambda *_: (KILLED, ""))
    assert run("--bar", "0.9") == 0
    assert len(results.read_text().splitlines()) == 11  # survivors alone, as their tests have changed


def test_tests_that_fail_anyway_or_do_without_the_module_prove_nothing(half: Path) -> None:
    (mutant, *_) = mutants((half / "src/ssimgen/half.py").read_bytes())
    tests = half / "tests" / "test_half.py"
    tests.write_text("def test_nothing():\n    pass\n")
    with pytest.raises(RuntimeError, match=r"pytest test_half\.py does without half"):
        Worker(half / "worker").result("half", mutant)
    tests.write_text("def test_nothing():\n    assert 0\n")
    with pytest.raises(RuntimeError, match=r"pytest test_half\.py fails without a mutant"):
        Worker(half / "worker").result("half", mutant)


def test_results_are_those_of_the_same_module_and_tests(half: Path) -> None:
    module = half / "src/ssimgen/half.py"
    mutant: Mutant = mutants(module.read_bytes())[0]
    Results(half / "r").add("half", mutant, KILLED, "", 1.0)
    assert Results(half / "r").of("half", mutant)
    assert not Results(half / "r").of("half", mutants(module.read_bytes() + b"\n")[0])
