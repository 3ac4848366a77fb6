"""The study of power: its tests keep their level, have the statistics of the library, and go on where they stopped."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from ssimgen.discrepancy import mmd2
from ssimgen.evaluation import Bootstrap, FeatureNetwork, c2st

NETWORK = FeatureNetwork("coarse pixels", lambda x: torch.nn.functional.avg_pool2d(x, 4).flatten(1))


@pytest.fixture
def power(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, of a tiny extent."""
    path = Path(__file__).parents[2] / "studies" / "power.py"
    spec = importlib.util.spec_from_file_location("power", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "power", module)
    spec.loader.exec_module(module)
    for name, value in {"SIZES": (10,), "TESTS": 100, "CLASSIFIER_TESTS": 2, "CLASSIFIER_PERMUTATIONS": 19}.items():
        monkeypatch.setattr(module, name, value)
    return module


def images(n: int = 60, channels: int = 1) -> torch.Tensor:
    return torch.rand(n, channels, 12, 12, generator=torch.Generator().manual_seed(0))


def test_where_nothing_was_changed_tests_reject_as_often_as_their_level(power: ModuleType) -> None:
    pool = power.Pool(images(), torch.arange(60) % 10)
    grams = power.matrices(pool, pool.images, NETWORK(pool.images).repeat(2, 1))
    rejected = power.kernel_tests(grams, torch.ones(60, dtype=torch.bool), 10)
    assert list(rejected) == list(power.KERNELS)
    assert all(count <= 14 for count in rejected.values())  # of 100 at 0.05: more by chance in 1 of 8,000


def test_statistics_are_the_unbiased_mmd_but_for_a_scale(power: ModuleType) -> None:
    gram = torch.rand(20, 20, generator=torch.Generator().manual_seed(0)).double()
    gram = (gram + gram.T).fill_diagonal_(0)
    labels = power.relabellings(10, seed=0)[:5].double()
    total = gram.sum()
    for found, row in zip(power.quadratic_forms(gram[None], labels)[0], labels, strict=True):
        x, y = (row > 0).nonzero()[:, 0], (row < 0).nonzero()[:, 0]
        expected = mmd2(gram[x][:, x], gram[x][:, y], gram[y][:, y])
        torch.testing.assert_close((total + found) / 180 - (total - found) / 200, expected)


def test_the_greatest_statistics_reject(power: ModuleType) -> None:
    rising = torch.arange(100.0).flip(0)
    assert power.rejects(rising[None])
    assert power.rejects(torch.stack([rising, -rising]))  # one of two is enough where the other has no greater one
    assert not power.rejects(rising.roll(-5)[None])
    assert power.rejects(rising.roll(-4)[None])  # the fifth of a hundred


def test_the_classifier_is_that_of_the_library(power: ModuleType) -> None:
    features = torch.randn(40, 90, generator=torch.Generator().manual_seed(0))
    found = power.classified(features, seed=3)
    expected = c2st(features[:20], features[20:], bootstrap=Bootstrap(resamples=2, seed=3)).value
    assert found[0].item() == pytest.approx(expected, abs=1e-4)
    assert len(found.unique()) == 20


def test_changes_are_of_one_kind(power: ModuleType) -> None:
    pool = power.Pool(images(channels=3), torch.arange(60) % 10)
    for change, severities in power.SEVERITIES.items():
        generator = torch.Generator().manual_seed(0)
        changed = power.CHANGES[change](pool.images, severities[-1], generator)
        assert changed.shape == pool.images.shape
        assert torch.equal(changed, pool.images) == (change in (power.NOTHING, power.MODES))
        there = power.kept(pool, change, severities[-1], generator)
        assert set(pool.modes[~there].tolist()) == ({0, 1, 2} if change == power.MODES else set())


def test_images_are_in_one_of_the_sets_only(power: ModuleType) -> None:
    there = torch.arange(60) >= 20
    for _, chosen in power.draws(there, 10, 5):
        first, second = chosen[:10], chosen[10:] - 60
        assert not set(first.tolist()) & set(second.tolist())
        assert there[second].all()


def test_it_goes_on_where_it_stopped(power: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "SEVERITIES", {power.NOTHING: (0.0,), "brightness": (0.1, 0.2, 0.5)})
    monkeypatch.setattr(power, "TESTS", 5)
    pool = power.Pool(images(), torch.arange(60) % 10)
    pools = {"noise": lambda: pool}
    power.carry_on(tmp_path, pools, NETWORK, 0)
    path = tmp_path / "power.csv"
    assert path.read_text().splitlines() == [",".join(power.HEAD)]
    power.carry_on(tmp_path, pools, NETWORK, 1)
    whole = path.read_text()
    assert len(whole.splitlines()) == 1 + 4 * (len(power.KERNELS) + 1)
    assert "noise,brightness,0.5,10,components,5,5\n" in whole
    rows = power.finished(path)
    of_components = [int(row["rejected"]) for row in rows if row["test"] == "components"]  # nothing first
    shares = [f"{sum(of_components[1:]) / 15:.2f}", f"{of_components[0] / 5:.2f}"]
    assert power.overview(rows).splitlines()[1].split() == ["components", *shares]
    path.write_text(whole[:-30])  # killed while it wrote
    power.carry_on(tmp_path, pools, NETWORK, 1)
    assert path.read_text() == whole
