"""The moment-matching network: its loss, its samples, that it learns, and that devices see one batch."""

import pytest
import torch
from torch import Tensor

from ssimgen.batches import Batch
from ssimgen.models.gmmn import GMMN, GMMNConfig
from ssimgen.models.networks import Network
from ssimgen.objectives.moment_matching import LI_2015, PairKernel
from ssimgen.objectives.structure import Structure

pytestmark = pytest.mark.usefixtures("eager_engine")

SMALL = Network("mlp", hidden=(32,))
BLOCKS = Structure(form="sum", window="uniform", size=7, stride=7, k1=0.1, k2=0.1)


def make(
    kernel: PairKernel = LI_2015, network: Network = SMALL, shape: tuple[int, int, int] = (1, 28, 28), **options: bool
) -> GMMN:
    """A small model with fixed weights."""
    torch.manual_seed(0)
    return GMMN(GMMNConfig(latent=4, kernel=kernel, network=network, **options), shape)


def test_the_loss_is_the_mmd_of_images_of_uniform_noise(digits: Tensor) -> None:
    """With the kernel of Li et al., written out: sqrt(E k(x, x') + E k(G, G') - 2 E k(x, G))."""
    model, real = make(), digits[:6].float()
    torch.manual_seed(5)
    terms = model.terms(Batch(real))
    torch.manual_seed(5)
    noise = 2 * torch.distributions.Normal(0, 1).cdf(torch.randn(6, 4)) - 1
    drawn = model.generator(noise)

    def mean_kernel(x: Tensor, y: Tensor) -> Tensor:
        square = torch.cdist(x.flatten(1).double(), y.flatten(1).double()) ** 2
        return sum(torch.exp(-square / (2 * sigma)) for sigma in (2, 5, 10, 20, 40, 80)).mean()

    expected = (mean_kernel(real, real) + mean_kernel(drawn, drawn) - 2 * mean_kernel(real, drawn)).sqrt()
    torch.testing.assert_close(terms["mmd"].double(), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 64, 64)])
@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_samples_are_images(kind: str, shape: tuple[int, int, int]) -> None:
    model = make(network=Network(kind, hidden=(16,), width=4), shape=shape)
    drawn = model.sample(3)
    assert drawn.shape == (3, *shape)
    assert not drawn.requires_grad
    assert drawn.min() >= 0
    assert drawn.max() <= 1


def test_the_generator_fixes_samples_whatever_the_global_state() -> None:
    model = make()
    first = model.sample(5, torch.Generator().manual_seed(7))
    torch.manual_seed(99)
    assert torch.equal(first, model.sample(5, torch.Generator().manual_seed(7)))
    assert not torch.equal(first, model.sample(5, torch.Generator().manual_seed(8)))


@pytest.mark.usefixtures("no_shape_checks")  # which would take most of the time
@pytest.mark.parametrize(
    ("kernel", "unbiased"),
    [
        (LI_2015, False),
        (LI_2015, True),
        (PairKernel("energy", "l2"), True),
        (PairKernel("energy", "ssim", structure=BLOCKS, scales=(1.0,)), True),
        (PairKernel("gaussian", "ssim", structure=BLOCKS, scales=(1.0,)), False),
        (PairKernel("gaussian", "ssim", structure=BLOCKS, scales=(1.0, 2.0)), False),
        (PairKernel("gaussian", "components", structure=BLOCKS, scales=(1.0,)), False),
        (PairKernel("gaussian", "both", structure=BLOCKS, scales=(1.0,)), False),
    ],
    ids=[
        "li-2015",
        "li-2015-unbiased",
        "energy-l2",
        "energy-ssim",
        "gaussian-ssim",
        "two-windows",
        "components",
        "both",
    ],
)
def test_every_kernel_learns(kernel: PairKernel, unbiased: bool, digits: Tensor) -> None:
    """Training brings the generated images much nearer to the digits, judged by the energy distance of pixels."""
    model = make(kernel, Network("mlp", hidden=(64,)), unbiased=unbiased, root=not unbiased)
    judge = make(PairKernel("energy", "l2"), root=False).matching
    (step,) = model.steps()
    assert {id(p) for m in step.modules for p in m.parameters()} == {id(p) for p in model.parameters()}
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    real = digits[:32].float()
    before = judge(model.sample(32, torch.Generator().manual_seed(1)), real).item()
    for _ in range(80):
        loss = step.terms(Batch(real))["mmd"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    after = judge(model.sample(32, torch.Generator().manual_seed(1)), real).item()
    assert after < 0.4 * before


def test_a_batch_of_one_has_no_unbiased_estimate() -> None:
    kernel = PairKernel("gaussian", "l2", (1.0,), relative=False)
    model = make(kernel, unbiased=True, root=False)
    with pytest.raises(ValueError, match="at least two points a sample, got 1 and 1: pass unbiased=False"):
        model.terms(Batch(torch.rand(1, 1, 28, 28)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latent": 0}, "latent must be at least 1 dimension, got 0"),
        ({"unbiased": True}, "can be negative and has no root: set root=False or unbiased=False"),
    ],
)
@pytest.mark.usefixtures("no_shape_checks")
def test_bad_options_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GMMNConfig(**options)  # type: ignore[arg-type]
