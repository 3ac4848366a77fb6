"""MMDLoss and EnergyLoss: the discrepancies they call, their gradients, and a descent that ends at equality."""

import pytest
import torch
from torch import Tensor, nn

from ssimgen import Window
from ssimgen.discrepancy import cmmd2, energy_distance, mmd2
from ssimgen.kernels import SSIM, DistanceInduced, Gaussian
from ssimgen.losses import EnergyLoss, MMDLoss
from ssimgen.metrics import Euclidean, StructuralDistance

pytestmark = pytest.mark.usefixtures("eager_engine")

METRIC = StructuralDistance(1.0, window=Window.uniform(4, stride=4))
KERNEL = Gaussian(METRIC, (0.3, 1.0))


@pytest.fixture
def samples(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    x = torch.rand(5, 1, 8, 8, generator=generator, dtype=torch.float64)
    y = torch.rand(4, 1, 8, 8, generator=generator, dtype=torch.float64)
    return x, y


@pytest.mark.parametrize("unbiased", [True, False])
def test_values_are_those_of_the_discrepancies(samples: tuple[Tensor, Tensor], unbiased: bool) -> None:
    x, y = samples
    expected = mmd2(KERNEL(x), KERNEL(x, y), KERNEL(y), unbiased=unbiased)
    torch.testing.assert_close(MMDLoss(KERNEL, unbiased=unbiased)(x, y), expected)
    energy = energy_distance(METRIC(x), METRIC(x, y), METRIC(y), unbiased=unbiased)
    torch.testing.assert_close(EnergyLoss(METRIC, unbiased=unbiased)(x, y), energy)
    induced = MMDLoss(DistanceInduced(METRIC, x[:1]), unbiased=unbiased)(x, y)
    torch.testing.assert_close(2 * induced, energy)


def test_of_one_process_alone_all_is_what_it_has(samples: tuple[Tensor, Tensor]) -> None:
    assert torch.equal(MMDLoss(KERNEL, gather=True)(*samples), MMDLoss(KERNEL)(*samples))
    assert torch.equal(EnergyLoss(METRIC, gather=True)(*samples), EnergyLoss(METRIC)(*samples))


def test_root(samples: tuple[Tensor, Tensor]) -> None:
    x, y = samples
    loss = MMDLoss(KERNEL, root=True)
    torch.testing.assert_close(loss(x, y) ** 2, MMDLoss(KERNEL, unbiased=False)(x, y))
    moving = x.clone().requires_grad_()
    value = loss(x, moving)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-7)
    assert moving.grad is not None
    assert moving.grad.isfinite().all()
    with pytest.raises(ValueError, match="the unbiased estimate can be negative and has no root: pass root=False"):
        MMDLoss(KERNEL, unbiased=True, root=True)


@pytest.mark.parametrize(
    "loss", [MMDLoss(KERNEL), MMDLoss(KERNEL, root=True), MMDLoss(SSIM(1.0, METRIC.window)), EnergyLoss(METRIC)]
)
def test_gradients_reach_both_samples(loss: nn.Module, samples: tuple[Tensor, Tensor]) -> None:
    x, y = samples
    slope = torch.linspace(-1, 1, 64, dtype=torch.float64).reshape(8, 8)
    t = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    u = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda t, u: loss(x + t[:, None, None, None] * slope, y + u[:, None, None, None] * slope), (t, u)
    )


@pytest.mark.parametrize("loss", [EnergyLoss(METRIC), MMDLoss(Gaussian(Euclidean(), (1.0, 3.0)))])
def test_descent_brings_a_sample_to_the_other(loss: nn.Module, samples: tuple[Tensor, Tensor]) -> None:
    target = samples[0].float()
    moving = nn.Parameter(0.4 + 0.2 * torch.rand(target.shape, generator=torch.Generator().manual_seed(1)))
    optimiser = torch.optim.Adam([moving], 0.04)
    first = loss(target, moving).item()
    for _ in range(30):
        optimiser.zero_grad()
        loss(target, moving).backward()
        optimiser.step()
    assert loss(target, moving).item() < 0.5 * first


class ConditionalLoss(nn.Module):
    kernel = Gaussian(Euclidean(), (3.0,))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        grams = self.kernel(x), self.kernel(x, y), self.kernel(y)
        return cmmd2(*grams, *grams, regularisation=0.1)


OF_VECTORS = [
    MMDLoss(Gaussian(Euclidean(), (1.0, 3.0))),
    MMDLoss(Gaussian(Euclidean(), (1.0,)), root=True),
    EnergyLoss(Euclidean()),
    ConditionalLoss(),
]


@pytest.mark.parametrize("loss", OF_VECTORS, ids=["mmd", "root", "energy", "cmmd"])
@pytest.mark.usefixtures("no_shape_checks")
def test_losses_are_traced_and_transformed(loss: nn.Module, samples: tuple[Tensor, Tensor]) -> None:
    """Nothing in them asks for a value."""
    x, y = samples
    expected = loss(x, y)
    torch.testing.assert_close(torch.compile(loss, backend="eager", fullgraph=True)(x, y), expected)
    torch.testing.assert_close(torch.export.export(loss, (x, y)).module()(x, y), expected)
    torch.testing.assert_close(torch.vmap(loss)(x[None], y[None])[0], expected)
    assert loss(x.to("meta"), y.to("meta")).shape == ()
    x[1] = torch.nan
    assert torch.vmap(loss)(x[None], y[None]).isnan().all()
    with pytest.raises(ValueError, match=r"not finite|not positive definite"):
        loss(x, y)
