"""Fixtures shared by all tests."""

import gc
import signal
from collections.abc import Generator, Iterator

import jaxtyping
import pytest
import torch
from hypothesis import settings
from torch import Tensor

import type_checker
from new_processes import Processes
from ssimgen import _range_check, engine
from ssimgen.data import load_images
from ssimgen.evaluation import perceptual

gc.disable()  # until everything is imported: a tenth of the time would go into looking for garbage, and finding none

settings.register_profile("reproducible", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("reproducible")

# Shells start what runs behind them with signals ignored, which children inherit; tests send them.
signal.signal(signal.SIGINT, signal.default_int_handler)
for ended in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):  # Windows has no SIGHUP
    signal.signal(ended, signal.SIG_DFL)


def pytest_runtest_setup() -> None:
    type_checker.another_test()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None]:
    """What has been imported stays to the end, and is not looked at again."""
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(autouse=True, scope="session")
def _checks_of_judges_kept_apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test finds what others, or whoever runs them, have left in a home folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSIMGEN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _range_checked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test as if in a process of its own, where the warning of images out of their range was not given yet."""
    monkeypatch.setattr(_range_check, "_calls", 0)
    monkeypatch.setattr(_range_check, "_warned", False)


@pytest.fixture
def eager_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The PyTorch engine, for what is not about engines and has windows of its own, each of which were to compile."""
    for choice in ("_fused_pairs_can", "_fused_all_pairs_can"):
        monkeypatch.setattr(engine, choice, lambda *_: False)


@pytest.fixture
def without_st_lpips(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if it were not installed, for what is not about it: a network that takes a twentieth of a second an image."""
    monkeypatch.setattr(perceptual, "PACKAGE", "no-such-package")


@pytest.fixture(params=["default", "eager"])
def each_engine(request: pytest.FixtureRequest) -> None:
    """The engine that the library chooses, then the PyTorch engine."""
    if request.param == "eager":
        request.getfixturevalue("eager_engine")


@pytest.fixture
def generator() -> torch.Generator:
    """A random generator with a fixed seed."""
    return torch.Generator().manual_seed(0)


@pytest.fixture
def no_shape_checks() -> Iterator[None]:
    """Shape checking of annotations off, as it is for users, so that the library's own messages are seen."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def processes() -> Iterator[Processes]:
    """Where scripts run in new processes."""
    processes = Processes()
    yield processes
    processes.end()


@pytest.fixture(scope="session")
def digits() -> Tensor:
    """5,000 handwritten digits of MNIST, (5000, 1, 28, 28) in [0, 1], float64, in a random order."""
    pixels = torch.cat([part.pixels for part in load_images("mnist5k")])
    return pixels.double() / 255
