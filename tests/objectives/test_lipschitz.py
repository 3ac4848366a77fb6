"""Penalties on steep discriminators against their formulas, and that they bound the slopes of what they train."""

import pytest
import torch
from torch import Tensor, nn

from ssimgen import distance
from ssimgen.objectives.lipschitz import Penalty, gradient_penalty, slope_penalty
from ssimgen.objectives.reconstruction import Reconstruction
from ssimgen.objectives.structure import Structure
from ssimgen.windows import Window

BLOCKS = Structure(form="sum", window="uniform", size=4, stride=4)


def images(n: int = 6, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(n, 1, 12, 12, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def linear(slope: float) -> nn.Linear:
    """A critic of constant gradient, of that length."""
    critic = nn.Linear(144, 1, bias=False).double()
    with torch.no_grad():
        critic.weight.mul_(slope / critic.weight.norm())
    return critic


def scored(critic: nn.Module):
    return lambda z: critic(z.flatten(1))


@pytest.mark.parametrize("slope", [0.25, 1.0, 3.0])
def test_the_gradient_of_a_linear_critic(slope: float) -> None:
    critic = linear(slope)
    value = gradient_penalty(scored(critic), images(), images(seed=1))
    assert value.item() == pytest.approx((slope - 1) ** 2, abs=1e-12)
    value.backward()  # 2 (|w| - 1) w / |w|
    torch.testing.assert_close(critic.weight.grad, 2 * (slope - 1) * critic.weight.detach() / slope)


def test_the_gradient_is_taken_between_the_images_of_a_pair() -> None:
    """That of |z|^2 / 2 is z: between a real image a and a generated one b of constant 1 and 3, from 12 to 36 long."""
    seen: list[Tensor] = []

    def half_square(z: Tensor) -> Tensor:
        seen.append(z.detach())
        return z.flatten(1).square().sum(1, keepdim=True) / 2

    torch.manual_seed(0)
    one = torch.ones(500, 1, 12, 12, dtype=torch.float64)
    value = gradient_penalty(half_square, one, 3 * one)
    between = seen[0][:, 0, 0, 0]
    assert 1 <= between.min() < 1.02
    assert 2.98 < between.max() <= 3
    assert between.mean().item() == pytest.approx(2, abs=0.1)
    torch.testing.assert_close(value, (12 * between - 1).square().mean())


def test_a_flat_critic_has_a_gradient_of_its_penalty() -> None:
    critic = nn.Linear(144, 1).double()
    nn.init.zeros_(critic.weight)
    value = gradient_penalty(scored(critic), images(), images(seed=1))
    value.backward()
    assert value.item() == 1
    assert critic.weight.grad.isfinite().all()


@pytest.mark.parametrize(("metric", "slope"), [("sum", 5.0), ("product", 5.0), ("l2", 2.0)])
def test_the_slope_between_images(metric: str, slope: float) -> None:
    """Of pairs some of which rise by more than they are apart, some by less."""
    critic, x, y = linear(slope), images(20), images(20, seed=1)
    if metric == "l2":
        error, apart = Reconstruction("l2"), (x - y).flatten(1).norm(dim=1) / 12
    else:
        error = Reconstruction("ssim", Structure(form=metric, window="uniform", size=4, stride=4))
        apart = distance(x, y, data_range=1.0, form=metric, window=Window.uniform(4, 4))
    value = slope_penalty(scored(critic), x, y, error)
    rises = ((x - y).flatten(1) @ critic.weight[0]).detach()
    excess = rises.abs() / apart - 1
    assert 2 < (excess > 0).sum() < 18
    excess[excess < 0] = 0
    torch.testing.assert_close(value.detach(), (excess**2).mean())
    value.backward()
    torch.testing.assert_close(critic.weight.grad[0], 2 * (excess * rises.sign() / apart) @ (x - y).flatten(1) / len(x))


def test_equal_images_are_no_division_by_zero() -> None:
    critic = linear(5.0)
    value = slope_penalty(scored(critic), images(), images(), Reconstruction("ssim", BLOCKS))
    value.backward()
    assert value.item() == 0
    assert critic.weight.grad.isfinite().all()


@pytest.mark.parametrize("weight", [0.1, 1.0, 10.0])
def test_a_penalty_of_slopes_below_1_keeps_critics_on_the_wrong_side(weight: float) -> None:
    """-s D + w (|s| - 1)^2 has its minimum at s = 1 + D / (2 w); from s = -1 gradient descent comes to -1 + D / (2 w)
    instead, as long as that is negative. With the maximum it comes to the minimum."""
    apart = 1.1

    def came_to(penalty) -> float:
        s = torch.tensor(-1.0, requires_grad=True)
        for _ in range(3000):
            (slope,) = torch.autograd.grad(-s * apart + weight * penalty(s.abs() - 1), s)
            s = (s - 0.02 / max(1.0, weight) * slope).detach().requires_grad_()
        return s.item()

    right, wrong = 1 + apart / (2 * weight), -1 + apart / (2 * weight)
    assert came_to(lambda z: z.square()) == pytest.approx(wrong if wrong < 0 else right, abs=1e-3)
    assert came_to(lambda z: z.clamp_min(0).square()) == pytest.approx(right, abs=1e-3)


def test_generated_images_get_no_gradient() -> None:
    """The penalty is of the discriminator."""
    generated = images(seed=1).requires_grad_()
    terms = Penalty("both", structure=BLOCKS).terms(scored(linear(2.0)), images(), generated)
    torch.stack(list(terms.values())).sum().backward()
    assert generated.grad is None


@pytest.mark.parametrize(
    ("kind", "weights"),
    [
        ("none", {}),
        ("gradient", {"gradient": 3.0}),
        ("slope", {"slope": 5.0}),
        ("both", {"gradient": 3.0, "slope": 5.0}),
    ],
)
def test_terms_and_their_weights(kind: str, weights: dict[str, float]) -> None:
    penalty = Penalty(kind, 3.0, 5.0, structure=BLOCKS)
    assert penalty.weights == weights
    assert list(penalty.terms(scored(linear(2.0)), images(), images(seed=1))) == list(weights)


@pytest.mark.parametrize("kind", ["gradient", "slope"])
def test_critics_that_are_trained_with_it_are_as_steep_as_it_says(kind: str) -> None:
    """Of two sets apart in brightness and contrast, in l2 and in D; without a penalty scores would go on to rise."""
    torch.manual_seed(0)
    x, y = 0.5 * images(64, 0, torch.float32), 0.5 + 0.2 * images(64, 1, torch.float32)
    critic = nn.Sequential(nn.Flatten(), nn.Linear(144, 32), nn.ReLU(), nn.Linear(32, 1))
    optimiser = torch.optim.Adam(critic.parameters(), 1e-2)
    penalty = Penalty(kind, structure=BLOCKS)
    for _ in range(150):
        terms = penalty.terms(critic, x, y)
        loss = critic(y).mean() - critic(x).mean() + sum(10 * term for term in terms.values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    rise = critic(x) - critic(y)
    apart = (x - y).flatten(1).norm(dim=1) if kind == "gradient" else BLOCKS.squared_distance(x, y).sqrt()
    assert 0.8 < (rise[:, 0] / apart).mean() < 1.3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "l2"}, "penalty kind must be one of 'none', 'gradient', 'slope', 'both', got 'l2'"),
        ({"error": "l1"}, "penalty error must be one of 'ssim', 'l2', got 'l1'"),
        ({"weight": -1.0}, "weight of the penalty must not be negative, got -1.0"),
        ({"slope_weight": float("nan")}, "slope_weight of the penalty must not be negative, got nan"),
    ],
)
@pytest.mark.usefixtures("no_shape_checks")
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Penalty(**options)  # type: ignore[arg-type]


def test_windows_overlap_by_half() -> None:
    assert Penalty().structure == Structure(form="sum", window="uniform", size=8, stride=4)
