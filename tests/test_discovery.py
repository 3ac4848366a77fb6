"""What somebody finds who looks around: names by Tab, help, and what objects say of themselves."""

import inspect
import json
import re
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ssimgen
from new_processes import Processes
from ssimgen import Window, losses
from ssimgen._shown import html_table
from ssimgen.data import Images
from ssimgen.discrepancy import MeanEmbedding, two_sample_test
from ssimgen.evaluation import FeatureNetwork, JudgeCheck, Nearest, Ranking, Rung, evaluate_reconstructions
from ssimgen.evaluation.neighbours import Neighbour
from ssimgen.evaluation.sets import compare_sets
from ssimgen.kernels import SSIM, Gaussian
from ssimgen.metrics import Euclidean, StructuralDistance
from ssimgen.models import VAE, VAEConfig
from ssimgen.objectives.moment_matching import MomentMatching, PairKernel
from ssimgen.torchmetrics import MMDMetric, SSIMMetric

SOURCE = Path(ssimgen.__file__).parent

sizes = st.integers(1, 12)
deviations = st.sampled_from([0.5, 1.5, 2.25, 1 / 3, 1.2345678])
strides = st.sampled_from([1, 2, 8])
paddings = st.sampled_from(["valid", "reflect", "symmetric"])
gaussian, uniform = st.just(Window.gaussian), st.just(Window.uniform)
makers = st.one_of(
    st.builds(partial, gaussian, st.integers(2, 12), deviations, strides, padding=paddings),
    st.builds(partial, gaussian, st.tuples(sizes, sizes, sizes), deviations, strides, padding=paddings),
    st.builds(partial, gaussian, st.tuples(sizes, sizes), st.tuples(deviations, deviations), padding=paddings),
    st.builds(partial, uniform, st.integers(2, 12), strides, st.booleans(), padding=paddings),
    st.builds(partial, uniform, st.tuples(sizes, sizes), st.tuples(strides, strides)),
    st.builds(partial, st.just(Window), st.just((0.25, 0.5, 0.25)), strides, st.sampled_from([1.0, 1.25])),
)


def test_public_names_are_shown_and_load_when_touched(processes: Processes) -> None:
    script = "import json, ssimgen; print(json.dumps({name: str(getattr(ssimgen, name)) for name in dir(ssimgen)}))"
    done = processes.run(script)
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    rooms = {path.stem if path.suffix else path.name for path in SOURCE.iterdir() if not path.name.startswith("_")}
    inner = {"cli", "commands", "engine", "similarity", "windows", "py"}
    assert shown.keys() - ssimgen.__all__ >= {"data", "features", "torchmetrics", "training", "__version__"}
    assert {name for name in shown if shown[name].startswith("<module")} == rooms - inner
    assert not [name for name in shown if name.startswith("_") and name != "__version__"]


TOUCH = """
import json
from types import ModuleType
import ssimgen
modules = {name: value for name in dir(ssimgen) if isinstance(value := getattr(ssimgen, name), ModuleType)}
print(json.dumps({name: dir(module) for name, module in modules.items()}))
"""


def test_every_module_shows_what_it_offers(processes: Processes) -> None:
    """With a list of its names and without one; not what it imports, where it is touched before others import it."""
    done = processes.run(TOUCH)
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert all(shown.values())
    assert {"SSIMLoss", "MMDLoss"} <= set(shown["losses"])
    assert {"Batch", "gathered"} <= set(shown["batches"])
    assert {"annotations", "Tensor", "arguments"}.isdisjoint(shown["losses"] + shown["arrays"])


def test_what_is_no_public_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="module 'ssimgen' has no attribute 'sim'"):
        ssimgen.sim  # noqa: B018


@pytest.mark.parametrize("function", [ssimgen.ssim, ssimgen.distance, ssimgen.pairwise.ssim, losses.SSIMLoss])
def test_signatures_are_short(function: object) -> None:
    signature = str(inspect.signature(function))  # type: ignore[arg-type]
    assert "= Window.gaussian(11, 1.5)" in signature
    assert len(signature) < 400


@given(makers)
def test_a_window_prints_as_a_call_that_makes_it(make: partial[Window]) -> None:
    """The one that made it, for windows that all axes share and deviations of some digits."""
    window = make()
    assert eval(repr(window)) == window
    if window.ndim is None and make.func is not Window and 1 / 3 not in make.args:
        assert repr(window).startswith(("Window.gaussian(", "Window.uniform("))


def test_windows_print_as_they_were_made() -> None:
    for text in (
        "Window.gaussian(11, 1.5)",
        "Window.gaussian(11, 1.5, stride=4, padding='reflect')",
        "Window.gaussian((3, 11, 11), (0.5, 1.5, 1.5))",
        "Window.uniform(8, stride=8, unbiased=True)",
        "Window.uniform((1, 8, 8))",
        "Window((0.25, 0.5, 0.25), stride=2, beta=1.5)",
    ):
        assert repr(eval(text)) == text


def test_losses_print_as_calls_that_make_them() -> None:
    names = {**vars(losses), "Gaussian": Gaussian, "Euclidean": Euclidean, "StructuralDistance": StructuralDistance}
    for loss in (
        losses.SSIMLoss(data_range=(-1, 1), window=Window.uniform(8), reduction="sum"),
        losses.MSSSIMLoss(data_range=255, weights=(0.5, 0.5)),
        losses.StructuralDistanceLoss(data_range=1.0, form="product", norm="frobenius", squared=False),
        losses.StructuralDistanceLoss(data_range=1.0, scales=2, k2=(0.03, 0.1), pixels=0.5),
        losses.MMDLoss(Gaussian(Euclidean(), bandwidths=(1.0, 2.0)), root=True),
        losses.EnergyLoss(StructuralDistance(data_range=1.0), gather=True),
    ):
        assert "\n" not in repr(loss)
        again = eval(repr(loss), names)
        assert {k: v for k, v in vars(again).items() if k[0] != "_"} == {
            k: v for k, v in vars(loss).items() if k[0] != "_"
        }


def test_other_modules_print_their_options() -> None:
    assert repr(SSIMMetric(data_range=1.0)).startswith("SSIMMetric(data_range=1.0, window=Window.gaussian(11, 1.5), k1")
    assert "bandwidths=(1.0,)" in repr(MMDMetric(Gaussian(Euclidean(), bandwidths=(1.0,))))
    assert "config=VAEConfig(" in repr(VAE(VAEConfig(tau=1e-3), (1, 16, 16)))
    options = PairKernel(metric="l2")
    assert "kind='gaussian'" in repr(
        MomentMatching(options, options.image_metrics((1, 16, 16)), unbiased=True, root=False)
    )


def results() -> list[object]:
    x, y = torch.rand(2, 20, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    network = FeatureNetwork("pixels", lambda images: images.flatten(1))
    rung = Rung(name="blur <3 px>", value=0.5, low=0.25, high=0.75)
    ranking = Ranking(name="blur", rungs=(rung,), passed=True)
    return [
        two_sample_test(x, y / 4, SSIM(data_range=1.0), permutations=99),
        compare_sets(x, y / 4, permutations=99),
        evaluate_reconstructions(x, x / 2, data_range=1.0, network=network)[0],
        JudgeCheck(kind="samples", metric="recall", better="higher", n=30, rankings=(ranking,)),
        Nearest(torch.tensor([0.5, 0.25]), torch.tensor([7, 2])),
        Neighbour("a.png", x[0], distance=0.1, ssim=0.9),
        Images(x, torch.arange(20) % 3, "memory"),
        MeanEmbedding.of(x.flatten(1)),
    ]


@pytest.mark.usefixtures("eager_engine")
def test_results_print_in_one_line_and_as_tables() -> None:
    for result in results():
        assert "\n" not in repr(result), result
        assert "tensor(" not in repr(result), result
    tables = [table() for result in results() if (table := getattr(result, "_repr_html_", None))]
    assert len(tables) == 4
    assert all(re.fullmatch(r"<table><caption>.*</table>", table) for table in tables)
    test, _, row, judge = tables
    assert "<td>p-value</td><td>0.01, of 99 permutations</td>" in test
    assert "<td>real images</td>" not in row
    assert "<td>blur</td><td>blur &lt;3 px&gt;</td><td>0.5</td><td>0.25</td><td>0.75</td>" in judge


def test_tables_of_notebooks() -> None:
    expected = "<table><caption>a</caption><tr><th>b</th></tr><tr><td>0.3333</td></tr><tr><td></td></tr></table>"
    assert html_table("a", [[1 / 3], [None]], ["b"]) == expected
