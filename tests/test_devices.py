"""What a device is asked to do, of images without numbers on devices that need not be there.

Nothing is copied to or from the host, and nothing waits for the device: both are errors in a CUDA graph, and each
costs the time that the host could have been ahead. Numbers and speed on devices are not tested here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from ssimgen import Window, _precision, components, distance, ms_ssim, pairwise, presets, ssim, ssim_map, streaming
from ssimgen.components import PARTS, Component
from ssimgen.discrepancy import cmmd2, permutation_test
from ssimgen.engine import eager, taps
from ssimgen.evaluation import perceptual
from ssimgen.kernels import SSIM, DistanceInduced, Gaussian, Laplacian
from ssimgen.losses import EnergyLoss, MMDLoss, MSSSIMLoss, SSIMLoss, StructuralDistanceLoss
from ssimgen.metrics import Euclidean, StructuralDistance
from ssimgen.objectives.moment_matching import MomentMatching, PairKernel

Function = Callable[[Tensor, Tensor], Tensor]

SPARSE = Window.uniform(3, stride=5)
MIRRORED = Window.gaussian(5, padding="reflect")


def masked(function: Callable[..., Tensor]) -> Function:
    return lambda x, y: function(x, y, data_range=1.0, mask=x > 0.5)


OF_PAIRS: dict[str, Function] = {
    "ssim": lambda x, y: ssim(x, y, data_range=1.0),
    "ssim, blocks apart": lambda x, y: ssim(x, y, data_range=1.0, window=SPARSE),
    "ssim, mirrored": lambda x, y: ssim(x, y, data_range=1.0, window=MIRRORED),
    "ssim, of volumes": lambda x, y: ssim(x[:, None], y[:, None], data_range=1.0, window=Window.gaussian(2)),
    "ssim, a range an image": lambda x, y: ssim(x, y, data_range=(0.0, x.new_ones(len(x)))),
    "ssim, masked": masked(ssim),
    "ssim_map": lambda x, y: ssim_map(x, y, data_range=1.0),
    "ssim_map, masked": masked(ssim_map),
    "ms_ssim": lambda x, y: ms_ssim(x, y, data_range=1.0),
    "ms_ssim, masked": masked(ms_ssim),
    "distance": lambda x, y: distance(x, y, data_range=1.0),
    "distance, uncentred": lambda x, y: distance(x, y, data_range=1.0, form="uncentred"),
    "components.ssim": lambda x, y: components.ssim(x, y, data_range=1.0, gamma=0.5),
    "wang_2004": lambda x, y: presets.wang_2004(x, y, data_range=1.0),
    "tensorflow_ms_ssim": lambda x, y: presets.tensorflow_ms_ssim(x, y, data_range=1.0, weights=(0.5, 0.5)),
    "SSIMLoss": SSIMLoss(data_range=1.0),
    "MSSSIMLoss": MSSSIMLoss(data_range=1.0),
    "StructuralDistanceLoss": StructuralDistanceLoss(data_range=1.0),
}
METRIC = StructuralDistance(1.0)
OF_SETS: dict[str, Function] = {
    "pairwise.ssim": lambda x, y: pairwise.ssim(x, data_range=1.0),
    "pairwise.distance": lambda x, y: pairwise.distance(x, y, data_range=1.0),
    "pairwise.distance, masked": lambda x, y: pairwise.distance(x, y, data_range=1.0, mask=x[0] > 0.5),
    "Euclidean": Euclidean(),
    **{part: Component(part, 1.0) for part in PARTS},
    "kernels": SSIM(1.0) + 2.0 * Gaussian(METRIC, (1.0,)) * Laplacian(Euclidean(), (3.0,)),
    "DistanceInduced": lambda x, y: DistanceInduced(METRIC, torch.zeros_like(x[:1]))(x, y),
    "MMDLoss": MMDLoss(SSIM(1.0), root=True),
    "EnergyLoss": EnergyLoss(METRIC),
    "cmmd2": lambda x, y: cmmd2(*(SSIM(1.0)(x) for _ in range(6)), regularisation=1e-3),
}
FUNCTIONS = OF_PAIRS | OF_SETS

each_function = pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)


class Operations(TorchDispatchMode):
    """The operations that were asked of a device, and those that the host or the device had to wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[Any, list[Tensor], Tensor | None]] = []
        self.copies: list[str] = []

    def __torch_dispatch__(
        self, function: Any, types: Sequence[type], args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        tensors = [z for z in args if isinstance(z, Tensor)]
        made = result if isinstance(result, Tensor) else None
        self.asked.append((function, tensors, made))
        devices = {z.device.type for z in tensors if z.ndim} | ({made.device.type} if made is not None else set())
        if len(devices) > 1 or "cpu" in devices:
            self.copies.append(str(function))
        return result


class Views(TorchFunctionMode):
    """Indexing as the views that it is made of: Python's own asks for the driver of the device."""

    def __torch_function__(
        self, function: Any, types: Sequence[type], args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if function is not Tensor.__getitem__:
            return function(*args, **(kwargs or {}))
        z, index = args
        index = index if isinstance(index, tuple) else (index,)
        taken = sum(part is not None and part is not Ellipsis for part in index)
        dim = 0
        for part in index:
            if part is None:
                z = z.unsqueeze(dim)
            elif part is Ellipsis:
                dim += z.ndim - dim - taken - 1
            elif isinstance(part, int):
                z, dim = z.select(dim, part), dim - 1
            else:
                assert isinstance(part, slice), "a mask as an index makes the host wait for how many are chosen"
                z = torch.ops.aten.slice(z, dim, part.start, part.stop, part.step or 1)
            taken -= part is not None and part is not Ellipsis
            dim += 1
        return z


@pytest.fixture(params=["cuda", "mps"])
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """A device of which there are only shapes: what needs a number of it raises an error."""
    with FakeTensorMode(), Views():
        yield request.param


def images(device: str, *shape: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    return torch.empty(shape, dtype=dtype, device=device), torch.empty(shape, dtype=dtype, device=device)


@each_function
def test_nothing_is_copied_and_nobody_waits(function: Function, device: str) -> None:
    """And nothing is in float64 on a device of Apple, which has none."""
    x, y = images(device, 3, 2, 24, 25)
    with Operations() as operations:
        assert function(x, y).device.type == device
    assert operations.asked
    assert not operations.copies
    wide = {str(f) for f, _, made in operations.asked if made is not None and made.dtype == torch.float64}
    assert device != "mps" or not wide


@each_function
def test_nothing_is_copied_for_gradients(function: Function) -> None:
    x, y = (z.requires_grad_() for z in images("meta", 3, 2, 24, 25))
    with Operations() as operations:
        torch.autograd.grad(function(x, y).sum(), x)
    assert not operations.copies
    asked = {str(operation) for operation, *_ in operations.asked}
    assert "aten.prod.dim_int" not in asked  # its derivative counts zeros, and waits; of tensors without numbers not


def test_layers_of_the_perceptual_distance_are_halved_without_a_copy(device: str) -> None:
    with Operations() as operations:
        assert perceptual._halved(images(device, 3, 2, 24, 25)[0]).shape == (3, 2, 13, 14)
    assert operations.asked
    assert not operations.copies


def test_a_copy_and_a_wait_would_be_seen(device: str) -> None:
    x, _ = images(device, 3)
    with Operations() as operations:
        torch.tensor([1.0, 2.0], device=device)
    assert operations.copies
    with pytest.raises(Exception, match="local_scalar_dense"):
        bool(x.isfinite().all())


def test_units_of_bandwidths_are_read_where_they_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not in each training step."""
    reads: list[Tensor] = []
    tolist = Tensor.tolist
    monkeypatch.setattr(Tensor, "tolist", lambda z: (reads.append(z), tolist(z))[1])
    options = PairKernel()
    matching = MomentMatching(options, options.image_metrics((1, 16, 16)), unbiased=False, root=True)
    x, y = torch.rand(2, 4, 1, 16, 16)
    first = matching(x, y)
    reads.clear()
    assert matching(x, y) == first
    assert not reads
    matching.load_state_dict({"fitted.units": 2 * matching.fitted.units})
    assert matching(x, y) != first
    assert matching.to(torch.float64).fitted.kernel(x[:1]) == matching.float().fitted.kernel(x[:1])


# --- numbers of a request ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_taps_are_made_once(device: str) -> None:
    like = torch.empty(1, dtype=torch.float64, device=device)
    with torch.inference_mode():
        first = taps.numbers((0.25, 0.75), like)
    assert (first.dtype, first.device, first.is_inference()) == (like.dtype, like.device, False)
    assert taps.numbers((0.25, 0.75), like) is first
    assert taps.numbers((0.25, 0.75), like.float()) is not first
    assert taps.numbers((0.25, 0.5), like) is not first


def test_what_is_captured_or_traced_makes_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tensor that a graph fills is no number before it runs."""
    like = torch.empty(1, device="meta")
    kept = taps.numbers((0.25, 0.75), like)
    with Operations():
        assert taps.numbers((0.25, 0.75), like) is not kept
    monkeypatch.setattr(taps, "_captured", lambda device: True)
    own = taps.numbers((0.25, 0.75), torch.empty(1))
    assert own is not taps.numbers((0.25, 0.75), torch.empty(1))
    assert own.tolist() == [0.25, 0.75]


# --- convolutions -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1, 24, 25), (3, 1, 24, 25), (1, 2, 24, 25), (1, 1, 8, 9, 10)], ids=str)
def test_no_plane_goes_through_a_dense_convolution(shape: tuple[int, ...], device: str) -> None:
    with Operations() as operations:
        ssim(*images(device, *shape), data_range=1.0, window=Window.gaussian(5))
    groups = [tensors[0].shape[1] for f, tensors, _ in operations.asked if f is torch.ops.aten.convolution.default]
    assert groups
    assert min(groups) > 1


@pytest.mark.parametrize("shape", [(1, 1, 9, 10), (3, 1, 9, 10), (2, 3, 9, 10), (2, 1, 7, 8, 9)], ids=str)
@pytest.mark.parametrize("stride", [1, 2])
def test_convolutions_of_devices_are_those_of_the_cpu(
    shape: tuple[int, ...], stride: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    z = torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    window = Window.gaussian(4, 1.2, stride=stride)
    expected = eager.filtered(eager.covered(z, window), window)
    monkeypatch.setattr(eager, "_convolved", on_device(eager._convolved, eager._on_device))
    torch.testing.assert_close(eager.filtered(eager.covered(z, window), window), expected, rtol=0, atol=1e-15)


def on_device(convolved: Function, way: Function) -> Function:
    """The way of devices, which ends in a convolution itself."""
    inside = False

    def either(*arguments: Any) -> Tensor:
        nonlocal inside
        if inside:
            return convolved(*arguments)
        inside = True
        result = way(*arguments)
        inside = False
        return result

    return either


def test_convolutions_of_apple_are_outside_of_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of other devices are in float64, which autocast leaves alone."""
    enabled: list[bool] = []
    monkeypatch.setattr(eager, "no_autocast", lambda device: torch.autocast("cpu", enabled=False))
    convolved = eager._convolved
    monkeypatch.setattr(
        eager, "_convolved", lambda *of: (enabled.append(torch.is_autocast_enabled("cpu")), convolved(*of))[1]
    )
    with FakeTensorMode(), Views(), torch.autocast("cpu", dtype=torch.bfloat16):
        ssim(*images("mps", 1, 1, 24, 25), data_range=1.0)
    assert enabled
    assert not any(enabled)


# --- number formats ---------------------------------------------------------------------------------------------


HALVES = (torch.float16, torch.bfloat16)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("name", ["ssim", "distance", "pairwise.ssim", "pairwise.distance"])
def test_half_precision_is_read_once_on_devices(name: str, dtype: torch.dtype) -> None:
    with FakeTensorMode(), Views():
        x, y = images("cuda", 3, 2, 24, 25, dtype=dtype)
        with Operations() as operations:
            assert FUNCTIONS[name](x, y).dtype == torch.float32
    read = [f for f, tensors, made in operations.asked if made is not None and any(z.dtype == dtype for z in tensors)]
    assert read == [torch.ops.aten._to_copy.default] * (1 if name == "pairwise.ssim" else 2)
    assert not [
        made
        for _, _, made in operations.asked
        if made is not None and made.shape == x.shape and made.dtype == torch.float32
    ]


@pytest.mark.parametrize(
    ("device", "dtype"), [("cuda", torch.float16), ("mps", torch.bfloat16)], ids=str, indirect=["device"]
)
@each_function
def test_results_of_half_precision_are_float32(function: Function, dtype: torch.dtype, device: str) -> None:
    x, y = images(device, 3, 2, 24, 25, dtype=dtype)
    assert function(x, y).dtype == torch.float32


PRODUCTS = {str(f) for f in (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.bmm, torch.ops.aten.baddbmm)}


@pytest.mark.parametrize("name", OF_SETS)
def test_no_matrix_product_is_rounded(name: str, full_precision_of_products_is_off: None) -> None:
    """Neither those of values nor those of gradients."""
    x, y = (z.requires_grad_() for z in images("meta", 3, 2, 24, 25))
    with Operations() as operations:
        torch.autograd.grad(FUNCTIONS[name](x, y).sum(), x)
    products = [tensors for f, tensors, _ in operations.asked if str(f.overloadpacket) in PRODUCTS]
    assert products
    assert {z.dtype for tensors in products for z in tensors} == {torch.float64}


def test_float32_serves_products_that_are_full(device: str) -> None:
    with Operations() as operations:
        Euclidean()(*images(device, 3, 5))
    assert torch.float64 not in {made.dtype for _, _, made in operations.asked if made is not None}


@pytest.fixture
def full_precision_of_products_is_off() -> Iterator[None]:
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision("highest")


def test_values_are_the_same_where_products_may_be_rounded(request: pytest.FixtureRequest) -> None:
    x, y = torch.rand(2, 3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    functions = {name: FUNCTIONS[name] for name in ("Euclidean", "structure", "pairwise.distance")}
    expected = {name: function(x, y) for name, function in functions.items()}
    k = SSIM(1.0)(x)
    conditional = cmmd2(k, k, k, k, k.T, k, regularisation=1e-2)
    request.getfixturevalue("full_precision_of_products_is_off")
    for name, function in functions.items():
        torch.testing.assert_close(function(x, y), expected[name], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(cmmd2(k, k, k, k, k.T, k, regularisation=1e-2), conditional, rtol=1e-4, atol=1e-6)


def test_settings_that_differ_by_device_are_full_precision_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def mixed() -> str:
        raise RuntimeError("mix of the legacy and new APIs")

    monkeypatch.setattr(torch, "get_float32_matmul_precision", mixed)
    assert _precision.for_products(torch.rand(3)).dtype == torch.float64


def test_sums_in_float64_are_taken_elsewhere_than_on_apple(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeTensorMode(), Views():
        gram = images("mps", 4, 4)[0]
        assert _precision.where_float64_is(gram).device.type == "cpu"
        assert _precision.where_float64_is(gram.cpu()).device.type == "cpu"
        assert _precision.where_float64_is(images("cuda", 4, 4)[0]).device.type == "cuda"
        with Operations() as operations, pytest.raises(DataDependentOutputException):
            streaming.block_sum(images("mps", 4)[0], None, lambda x, y: gram, "here")
        with Operations() as of_test, pytest.raises((DataDependentOutputException, RuntimeError)):
            permutation_test(gram, 2, permutations=39, level=0.5)
    for asked in (operations.asked, of_test.asked):
        assert not [
            made
            for _, _, made in asked
            if made is not None and made.device.type == "mps" and made.dtype == torch.float64
        ]
        assert [made for _, _, made in asked if made is not None and made.dtype == torch.float64]
