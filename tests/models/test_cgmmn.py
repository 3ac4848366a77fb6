"""The conditional moment-matching network: its loss for labels and for halves of images, its draws, what it refuses."""

import itertools

import pytest
import torch

from ssimgen.batches import Batch
from ssimgen.data import load_images
from ssimgen.discrepancy import cmmd2
from ssimgen.kernels import Gaussian
from ssimgen.metrics import Euclidean
from ssimgen.models.cgmmn import CGMMN, CGMMNConfig
from ssimgen.models.networks import Network
from ssimgen.objectives.moment_matching import PairKernel
from ssimgen.objectives.structure import Structure

pytestmark = pytest.mark.usefixtures("eager_engine")

SMALL = Network("mlp", hidden=(32,))
PIXELS = PairKernel("gaussian", "l2", (2.0, 5.0), relative=False)
BLOCKS = PairKernel(structure=Structure(form="sum", window="uniform", size=4, stride=4, k1=1.0, k2=1.0), scales=(1.0,))
STRUCTURE = PairKernel(
    "energy", structure=Structure(form="sum", window="uniform", size=4, stride=4, k1=0.3, k2=0.3), scales=(1.0,)
)
BOTH = pytest.mark.parametrize("condition", ["labels", "upper_half"])


def make(condition: str = "labels", kernel: PairKernel = PIXELS, network: Network = SMALL, **options: object) -> CGMMN:
    """A small model of 16 x 12 px images, three classes, with fixed weights."""
    torch.manual_seed(0)
    config = CGMMNConfig(
        condition, num_classes=3, latent=2, kernel=kernel, condition_kernel=PIXELS, network=network, **options
    )  # type: ignore[arg-type]
    return CGMMN(config, (1, 16, 12))


def batch(n: int = 12, seed: int = 0) -> Batch:
    """Images of three classes that differ in the column that is bright, with rows of one random brightness."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    images = torch.zeros(n, 1, 16, 12)
    for i, label in enumerate(labels):
        images[i, :, :, 4 * label : 4 * label + 4] = 0.4 + 0.6 * torch.rand(1, generator=generator)
    return Batch(images, labels)


def test_with_labels_the_loss_is_the_sum_of_the_mmd2_of_each_class() -> None:
    """K is one block of ones a class, so K~^-1 K K~^-1 is a block of 1 / (n_c + lambda)^2: MMD^2 of each class, summed,
    times (n_c / (n_c + lambda))^2."""
    model, data, regularisation = make(root=False, regularisation=0.5), batch(11), 0.5
    torch.manual_seed(3)
    value = model.terms(data)["cmmd"]
    torch.manual_seed(3)
    drawn = model.generate(data.labels)
    k = Gaussian(Euclidean(), (2.0, 5.0))
    expected = 0.0
    for label in range(3):
        x, y = data.images[data.labels == label], drawn[data.labels == label]
        mmd2 = k(x).mean() + k(y).mean() - 2 * k(x, y).mean()
        expected += (len(x) / (len(x) + regularisation)) ** 2 * mmd2.item()
    assert value.item() == pytest.approx(expected, rel=1e-4)


def test_windows_must_fit_what_is_compared_halves_or_whole_images() -> None:
    """Of windows of 4, 8 and 12 px all fit images of 16 x 12 px, and two their halves of 8 x 12 px."""
    structured = PairKernel(relative=False, scales=(0.5, 1.0, 1.5))
    options = {"num_classes": 3, "latent": 2, "kernel": structured, "condition_kernel": structured, "network": SMALL}
    whole, halves = (CGMMN(CGMMNConfig(c, **options), (1, 16, 12)) for c in ("labels", "upper_half"))
    assert len(whole.outcomes.metrics) == 3
    assert (len(halves.outcomes.metrics), len(halves.conditions.metrics)) == (2, 2)
    for model in (whole, halves):
        assert model.terms(batch())["cmmd"].isfinite()


def test_with_halves_the_loss_is_the_cmmd_of_lower_halves_given_upper_ones() -> None:
    model, data = make("upper_half"), batch()
    torch.manual_seed(3)
    value = model.terms(data)["cmmd"]
    torch.manual_seed(3)
    drawn = model.generate(data.images[:, :, :8])[:, :, 8:].double()
    upper, lower = data.images[:, :, :8].double(), data.images[:, :, 8:].double()
    kernel = Gaussian(Euclidean(), (2.0, 5.0))
    k = kernel(upper)
    expected = cmmd2(k, k, k, kernel(lower), kernel(lower, drawn), kernel(drawn), regularisation=1e-3).sqrt()
    assert value.item() == pytest.approx(expected.item(), rel=1e-3)  # float32 against float64


@BOTH
@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_draws_are_images(condition: str, kind: str) -> None:
    model = make(condition, network=Network(kind, hidden=(16,), width=4))
    model.terms(batch())
    drawn = model.sample(5, torch.Generator().manual_seed(0))
    assert drawn.shape == (5, 1, 16, 12)
    assert not drawn.requires_grad
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    assert torch.equal(drawn, model.sample(5, torch.Generator().manual_seed(0)))


@pytest.mark.usefixtures("no_shape_checks")  # which would take most of the time
@pytest.mark.parametrize(
    ("condition", "kernel"),
    [("labels", PIXELS), ("upper_half", PIXELS), ("labels", STRUCTURE), ("labels", BLOCKS)],
    ids=["labels-pixels", "halves-pixels", "labels-energy-of-D", "labels-gaussians-on-D"],
)
def test_it_learns_what_belongs_to_a_condition(condition: str, kernel: PairKernel) -> None:
    """After training, the bright column of a drawn image is that of its class, or of its upper half."""
    model, data = make(condition, kernel, Network("mlp", hidden=(64, 64))), batch(30)
    (step,) = model.steps()
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(120):
        loss = step.terms(data)["cmmd"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    new = batch(9, seed=1)
    drawn = model.complete(new.images) if condition == "upper_half" else model.sample(9, labels=new.labels)
    columns = drawn[:, 0, 8:].mean(1).view(9, 3, 4).mean(2)  # (9, 3): brightness of each class's columns
    assert torch.equal(columns.argmax(1), new.labels)


@pytest.mark.usefixtures("no_shape_checks")  # which would take most of the time
def test_completions_need_a_regularisation_that_pools_conditions() -> None:
    """The numbers of docs/kernels.md, F9 (d): by default all completions of digits are alike after 80 batches."""
    train, held_out = load_images("mnist5k")
    upper = held_out.first(40).images
    found = {}
    for regularisation in (1e-3, 50.0):
        torch.manual_seed(0)
        options = CGMMNConfig(
            condition="upper_half",
            regularisation=regularisation,
            kernel=PairKernel(metric="l2"),
            network=Network(width=8, norm="batch"),
        )
        model = CGMMN(options, (1, 28, 28))
        (step,) = model.steps()
        optimiser = torch.optim.Adam(model.parameters(), 5e-3)
        for real in itertools.islice(train.batches(128, seed=0), 80):
            loss = step.terms(real)["cmmd"]
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        lower = torch.stack([model.eval().complete(upper)[:, :, 14:] for _ in range(10)])
        found[regularisation] = lower.mean(0).std(0).mean().item(), lower.std(0).mean().item()
    between, within = found[1e-3]
    assert max(between, within) < 0.02
    between, within = found[50.0]
    assert between == pytest.approx(0.13, abs=0.03)
    assert within == pytest.approx(0.04, abs=0.02)
    assert upper[:, :, 14:].std(0).mean().item() == pytest.approx(0.19, abs=0.005)


def test_classes_are_drawn_in_turn_unless_asked_for() -> None:
    model, generator = make(), torch.Generator()
    in_turn = model.sample(4, generator.manual_seed(1))
    asked = model.sample(4, generator.manual_seed(1), torch.tensor([0, 1, 2, 0]))
    assert torch.equal(in_turn, asked)
    assert not torch.equal(in_turn, model.sample(4, generator.manual_seed(1), torch.tensor([1, 1, 2, 0])))


def test_upper_halves_are_kept_and_those_of_the_first_batch_shown() -> None:
    model, data = make("upper_half"), batch()
    assert torch.equal(model.complete(data.images)[:, :, :8], data.images[:, :, :8])
    assert not torch.equal(model.complete(data.images)[:, :, 8:], data.images[:, :, 8:])
    model.terms(data)
    model.terms(batch(seed=5))
    assert torch.equal(model.sample(14)[:, :, :8], data.images[torch.arange(14) % 12, :, :8])
    again = make("upper_half")
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.sample(3)[:, :, :8], data.images[:3, :, :8])


@pytest.mark.parametrize(("condition", "encoder", "shown"), [("labels", set(), 0), ("upper_half", {"encoder"}, 64)])
def test_checkpoints_name_the_same_parts_whatever_the_condition(condition: str, encoder: set[str], shown: int) -> None:
    state = make(condition).state_dict()
    assert {key.split(".")[0] for key in state} == {"generator", "outcomes", "conditions", "shown"} | encoder
    assert state["shown"].shape == (shown, 1, 8, 12)


def test_labels_are_required() -> None:
    with pytest.raises(ValueError, match="condition='labels' needs images with class numbers, and these have none"):
        make().terms(Batch(batch().images))


@pytest.mark.parametrize("labels", [[0, 3], [-1, 0]])
def test_labels_must_be_classes(labels: list[int]) -> None:
    with pytest.raises(ValueError, match=rf"class numbers from 0 to 2, got {min(labels)} to {max(labels)}"):
        make().sample(2, labels=torch.tensor(labels))


def test_a_model_of_halves_knows_no_classes() -> None:
    with pytest.raises(ValueError, match="this model knows no classes: leave labels out"):
        make("upper_half").sample(2, labels=torch.tensor([0, 1]))


def test_a_model_of_classes_completes_nothing() -> None:
    with pytest.raises(ValueError, match="train with condition='upper_half'"):
        make().complete(batch().images)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"condition": "label"}, "condition must be one of 'labels', 'upper_half', got 'label': did you mean 'labels'"),
        ({"num_classes": 0}, "num_classes must be at least 1, got 0"),
        ({"latent": 0}, "latent must be at least 1, got 0"),
        ({"features": 0}, "features must be at least 1, got 0"),
        ({"regularisation": 0.0}, "regularisation must be a positive number, got 0.0: 1e-3 is usual"),
    ],
)
@pytest.mark.usefixtures("no_shape_checks")
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CGMMNConfig(**options)  # type: ignore[arg-type]
