"""Errors of colour against their definitions."""

import pytest
import torch

from ssimgen.evaluation import Bootstrap, colour_distance, colour_error, mean_colours

FEW = Bootstrap(resamples=50)


def test_mean_colours_and_their_errors() -> None:
    x, y = torch.rand(2, 5, 3, 6, 7)
    expected = ((x.mean((2, 3)) - y.mean((2, 3))) ** 2).sum(1).sqrt()
    torch.testing.assert_close(colour_error(mean_colours(x), mean_colours(y)), expected)


def test_details_do_not_matter() -> None:
    x = torch.rand(5, 3, 8, 8)
    flat = x.mean((2, 3), keepdim=True).expand_as(x)
    assert colour_error(mean_colours(x), mean_colours(flat)).max() < 1e-6


def test_the_distance_of_distributions_is_the_unbiased_energy_distance() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(6, 3, generator=generator), torch.rand(9, 3, generator=generator)

    def mean_distance(a: torch.Tensor, b: torch.Tensor, pairs: int) -> float:
        return sum(float((p - q).norm()) for p in a for q in b) / pairs

    expected = 2 * mean_distance(x, y, 54) - mean_distance(x, x, 30) - mean_distance(y, y, 72)
    found = colour_distance(x, y, bootstrap=FEW)
    assert found.value == pytest.approx(expected, abs=1e-6)
    assert found.low < found.high


def test_a_set_that_lost_its_variety_of_colours_is_far() -> None:
    x, y = torch.rand(2, 200, 3, generator=torch.Generator().manual_seed(0))
    mean = y.mean(0).expand_as(y)
    assert abs(colour_distance(x, y, bootstrap=FEW).value) < 0.02 < 0.1 < colour_distance(x, mean, bootstrap=FEW).value


@pytest.mark.usefixtures("no_shape_checks")
def test_unequal_numbers_are_no_pairs() -> None:
    with pytest.raises(ValueError, match="x has 3 rows and y 4"):
        colour_error(torch.rand(3, 3), torch.rand(4, 3))
