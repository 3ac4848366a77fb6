"""Pictures made to fit."""

import pytest
import torch

from ssimgen.data.fitting import Fit, scaled, scaled_size


@pytest.mark.parametrize("size", [12, 50])
def test_edges_do_not_leave_the_range(size: int) -> None:
    """Bicubic interpolation overshoots beside them."""
    edge = torch.zeros(1, 1, 20, 30)
    edge[..., 13:] = 1
    unbounded = torch.nn.functional.interpolate(edge, scaled_size(20, 30, size), mode="bicubic", antialias=True)
    assert unbounded.min() < 0
    assert unbounded.max() > 1
    for images in (scaled(edge, scaled_size(20, 30, size)), Fit(size)(edge)):
        assert images.min() == 0
        assert images.max() == 1


def test_the_shorter_side_is_scaled() -> None:
    assert scaled_size(20, 31, 10) == (10, 16)
    assert scaled_size(31, 20, 40) == (62, 40)
    assert Fit(10)(torch.rand(3, 20, 31)).shape == (3, 10, 10)
