"""SSIM and distances of all pairs as users call them: values, gradients, errors, room and progress."""

import numpy as np
import pytest
import torch
from torch import Tensor

import ssimgen
from oracles import ssim as oracle
from ssimgen import Window, _memory, engine, pairwise
from ssimgen._request import FORMS, NORMS

pytestmark = pytest.mark.filterwarnings("ignore::ssimgen.DataRangeWarning")  # some are out of range on purpose

SMALL = Window.gaussian(5, 1.0)
OPTIONS = {"data_range": 1.0, "window": SMALL}


@pytest.fixture
def x(generator: torch.Generator) -> Tensor:
    return torch.rand(3, 1, 13, 12, generator=generator, dtype=torch.float64)


@pytest.fixture
def y(x: Tensor, generator: torch.Generator) -> Tensor:
    """Near to x, far from it, and apart."""
    other = torch.rand(2, 1, 13, 12, generator=generator, dtype=torch.float64)
    return torch.cat([0.9 * x[:1] + 0.1 * other[:1], 1 - x[1:2], other])


def slopes(square: Tensor, *leaves: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(square, leaves, torch.linspace(-1, 1, square.numel()).reshape(square.shape)))


def test_ssim_of_all_pairs(x: Tensor, y: Tensor) -> None:
    x.requires_grad_(), y.requires_grad_()
    found = pairwise.ssim(x, y, **OPTIONS)
    expected = torch.stack([ssimgen.ssim(a.expand_as(y), y, **OPTIONS) for a in x])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)
    np.testing.assert_allclose(found.detach(), oracle.pairwise_ssim(x.detach(), y.detach(), **OPTIONS), atol=1e-14)
    for a, b in zip(slopes(found, x, y), slopes(expected, x, y), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("form", FORMS)
def test_distances_of_all_pairs(form: str, norm: str, squared: bool, x: Tensor, y: Tensor) -> None:
    options = {**OPTIONS, "form": form, "norm": norm, "squared": squared}
    expected = oracle.pairwise_distance(x.numpy(), y.numpy(), **options)
    np.testing.assert_allclose(pairwise.distance(x, y, **options), expected, rtol=1e-12)  # without gradients, in place
    x.requires_grad_(), y.requires_grad_()
    found = pairwise.distance(x, y, **options)
    np.testing.assert_allclose(found.detach(), expected, rtol=1e-12)
    upstream = torch.linspace(-1, 1, found.numel(), dtype=x.dtype).reshape(found.shape)
    wanted = oracle.pairwise_distance_gradients(x.detach().numpy(), y.detach().numpy(), upstream.numpy(), **options)
    for a, b in zip(torch.autograd.grad(found, (x, y), upstream), wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-14)


def test_a_set_against_itself(x: Tensor) -> None:
    x = torch.cat([x, x[:1]]).requires_grad_()  # with one image twice
    similarity, distance = pairwise.ssim(x, **OPTIONS), pairwise.distance(x, **OPTIONS)
    for matrix, diagonal in ((similarity, 1), (distance, 0)):
        assert (matrix == matrix.T).all()
        assert (matrix.diagonal() == diagonal).all()
        assert matrix[0, 3] == diagonal
        (slope,) = torch.autograd.grad(matrix.sum(), x)
        assert slope.isfinite().all()
        (of_diagonal,) = torch.autograd.grad(pairwise.distance(x, **OPTIONS).diagonal().sum(), x)
        assert (of_diagonal == 0).all()
    torch.testing.assert_close(distance, pairwise.distance(x, x.clone(), **OPTIONS), rtol=0, atol=1e-14)


def test_root_has_subgradient_zero_at_zero(x: Tensor) -> None:
    """Where images are equal the slope of D is undefined; the rest of the gradient is not touched by it."""
    y = torch.cat([x[:1], 1 - x[:1]])
    a = x[:1].clone().requires_grad_()
    both, rest = pairwise.distance(a, y, **OPTIONS).sum(), pairwise.distance(a, y[1:], **OPTIONS).sum()
    torch.testing.assert_close(*(torch.autograd.grad(value, a)[0] for value in (both, rest)), rtol=1e-12, atol=0)


@pytest.mark.parametrize("window", [Window.uniform(6, stride=6), Window.uniform(12)], ids=["blocks", "one patch"])
def test_windows_that_matrix_products_serve_best(window: Window, x: Tensor, y: Tensor) -> None:
    options = {"data_range": 1.0, "window": window, "form": "sum", "norm": "rms"}
    np.testing.assert_allclose(
        pairwise.distance(x, y, **options), oracle.pairwise_distance(x.numpy(), y.numpy(), **options), rtol=1e-12
    )


def test_dtypes(x: Tensor, y: Tensor) -> None:
    exact = pairwise.ssim(x, y, **OPTIONS)
    for dtype, result, tolerance in (
        (torch.float32, torch.float32, 1e-6),
        (torch.float16, torch.float32, 1e-2),
        (torch.bfloat16, torch.float32, 1e-1),
    ):
        found = pairwise.ssim(x.to(dtype), y.to(dtype), **OPTIONS)
        assert found.dtype == result
        torch.testing.assert_close(found.double(), exact, rtol=0, atol=tolerance)


def test_data_range_with_an_offset(x: Tensor, y: Tensor) -> None:
    torch.testing.assert_close(
        pairwise.distance(2 * x - 1, 2 * y - 1, data_range=(-1, 1), window=SMALL),
        pairwise.distance(x, y, **OPTIONS),
        rtol=1e-12,
        atol=0,
    )


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # of PyTorch's own making
def test_vmap_grad_and_jvp(x: Tensor, y: Tensor) -> None:

    def total(x: Tensor) -> Tensor:
        return pairwise.distance(x, y, **OPTIONS).sum()

    leaf = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(total(leaf), leaf)
    batches = torch.stack([x, x.flip(0)])
    close = {"rtol": 1e-10, "atol": 1e-14}
    torch.testing.assert_close(torch.func.vmap(total)(batches), torch.stack([total(b) for b in batches]), **close)
    torch.testing.assert_close(torch.func.grad(total)(x), slope, **close)
    torch.testing.assert_close(torch.func.jvp(total, (x,), (slope,))[1], (slope * slope).sum(), **close)


# Errors


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize("function", [pairwise.ssim, pairwise.distance])
def test_errors_of_images(function, x: Tensor) -> None:  # type: ignore[no-untyped-def]
    for wrong, error, text in (
        (x[:0], ValueError, r"y is empty, shape \(0, 1, 13, 12\): pass at least one image"),
        (x[..., :10], ValueError, r"equal shapes, got \(1, 13, 12\) and \(1, 13, 10\) .*crop or resize one"),
        (x.expand(3, 2, 13, 12), ValueError, r"equal shapes, got \(1, 13, 12\) and \(2, 13, 12\)"),
        (x.byte(), TypeError, r"y must be a floating-point tensor, got torch.uint8"),
        (x.numpy(), TypeError, r"y must be a torch.Tensor, got ndarray"),
        (x[0], ValueError, r"y must have shape \(batch, channels, height, width\), got \(1, 13, 12\)"),
    ):
        with pytest.raises(error, match=text):
            function(x, wrong, **OPTIONS)
    with pytest.raises(ValueError, match=r"x is empty, shape \(0, 1, 13, 12\)"):
        function(x[:0], **OPTIONS)
    with pytest.raises(ValueError, match="window of 13 x 13 px does not fit images of 13 x 12 px"):
        function(x, data_range=1.0, window=Window.uniform(13))
    with pytest.raises(ValueError, match="data_range must be a positive number"):
        function(x, data_range=0.0, window=SMALL)


@pytest.mark.usefixtures("no_shape_checks")
def test_errors_of_options(x: Tensor) -> None:
    with pytest.raises(ValueError, match=r"norm must be one of 'rms', 'frobenius', got 'frobenious'.*'frobenius'"):
        pairwise.distance(x, norm="frobenious", **OPTIONS)  # type: ignore[arg-type]


def test_a_matrix_too_large_is_refused_before_work(x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_memory, "available_memory", lambda: 3 * 2**30)
    monkeypatch.setattr(engine, "squared_all_pairs", lambda *_: pytest.fail("work was begun"))
    many = x[:1].expand(30_000, -1, -1, -1)
    text = (
        r"the matrix of all pairs of 30000 and 30000 images takes 7\.2 GB, but 3\.22 GB of memory are free: compare "
        r"blocks of x, as in pairwise\.distance\(x\[:1000\], y\), or use ssimgen\.streaming .* ssimgen\.distributed"
    )
    for function in (pairwise.ssim, pairwise.distance):
        with pytest.raises(ValueError, match=text):
            function(many, **OPTIONS)


def test_memory_of_this_machine() -> None:
    room = _memory.available_memory()
    assert room is None or 2**20 < room < 2**50


# Progress


def test_progress_bar(x: Tensor, capsys: pytest.CaptureFixture[str]) -> None:
    with_bar = pairwise.distance(x, **OPTIONS, progress=True)
    shown = capsys.readouterr()
    assert "all pairs" in shown.err
    assert "100%" in shown.err
    assert shown.out == ""
    assert (with_bar == pairwise.distance(x, **OPTIONS)).all()
    assert capsys.readouterr().err == ""


def test_progress_bar_needs_rich(x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "rich.progress", None)
    with pytest.raises(ImportError, match=r"progress=True needs rich: pip install 'ssimgen\[progress\]'"):
        pairwise.ssim(x, **OPTIONS, progress=True)
