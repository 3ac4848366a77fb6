"""Paths between codes: ends, lengths, angles, degenerate cases."""

import math

import pytest
import torch

from ssimgen.models.interpolation import between


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Ends of six paths in 20 dimensions."""
    a, b = torch.randn(2, 6, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return a, b


@pytest.mark.parametrize("path", ["spherical", "linear"])
def test_paths_begin_and_end_where_they_should(path: str) -> None:
    a, b = pair()
    points = between(a, b, 5, path)
    assert points.shape == (6, 5, 20)
    torch.testing.assert_close(points[:, 0], a)
    torch.testing.assert_close(points[:, -1], b)


def test_the_straight_path_has_equal_steps() -> None:
    a, b = pair()
    torch.testing.assert_close(between(a, b, 5, "linear")[:, 1], a + (b - a) / 4)


def test_the_spherical_path_turns_and_grows_evenly() -> None:
    """A quarter circle from length 1 to length 3, by hand; and any other by its angles and lengths."""
    a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 3.0]])
    half = 2 / math.sqrt(2)
    torch.testing.assert_close(between(a, b, 3)[0], torch.tensor([[1.0, 0.0], [half, half], [0.0, 3.0]]))
    a, b = pair()
    points = between(a, b, 9)
    lengths = points.norm(dim=2)
    torch.testing.assert_close(lengths.diff(dim=1), ((b.norm(dim=1) - a.norm(dim=1)) / 8)[:, None].expand(6, 8))
    cosines = (points[:, :-1] * points[:, 1:]).sum(2) / (lengths[:, :-1] * lengths[:, 1:])
    whole = torch.acos((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)))
    torch.testing.assert_close(cosines.acos(), (whole / 8)[:, None].expand(6, 8))


def test_equal_and_opposite_ends_and_zero_are_no_trouble() -> None:
    a = torch.tensor([[1.0, 2.0]])
    torch.testing.assert_close(between(a, a, 4), a[:, None].expand(1, 4, 2))
    torch.testing.assert_close(between(a, 3 * a, 3)[0, 1], 2 * a[0])
    for b in (-a, torch.zeros_like(a)):
        points = between(a, b, 5)
        assert points.isfinite().all()
        torch.testing.assert_close(points[:, 0], a)
        torch.testing.assert_close(points[:, -1], b)


@pytest.mark.usefixtures("no_shape_checks")
def test_bad_options_are_named() -> None:
    a, b = pair()
    with pytest.raises(ValueError, match="path must be one of 'spherical', 'linear', got 'sphere'"):
        between(a, b, 5, "sphere")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 2 points, its ends, got 1"):
        between(a, b, 1)
