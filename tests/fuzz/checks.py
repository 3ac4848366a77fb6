"""Whether a call answers what the definitions say: values, gradients, NaN, and the same bits with and without graph.

What is demanded, with T the truth of `oracles.exact`:

* A value is T within VALUE[dtype] times the greatest value that the output can have (1, or the number of patches
  for Frobenius norms, and so on), or NaN where T is NaN, or where squares of float64 pixels overflow float64.
  Never another finite number, and never infinity. A value in [0, 1] by theory is not outside.
* It has the same bits with and without gradients asked for; all pairs of x alone are exactly symmetric with an exact
  diagonal.
* The gradient of each image is that of T within GRADIENT[dtype] of the largest entry that any single pair gives it
  (what cancels between pairs is not asked back). Where that entry is below FAINT of the largest slope that the
  formulas have, about |upstream| / (pixels * min(sqrt c1, sqrt c2)), as for equal images or images 1e20 times too
  bright, it need only be below one rounding error of that slope. Images of which some pair is NaN are left out; so is
  D, not squared, whose square is no normal number of the dtype, and MS-SSIM within 1e-6 of its kink.
* All pairs of the eager engine take d^2 from v - cov, with a rounding error of 1e-16 of the variances: there values are
  held to VALUE of float32, gradients to GRADIENT of float32, and those with a pair of D^2 < NEAR are left out.

Where T hangs on the last bit of float64, no float64 arithmetic can be asked for it: with a result outside, the truth
is taken again with taps moved by 2^-52, differences x - y rounded to 2^-53 (but flat patches left flat), and so the
images that MS-SSIM has halved; what moves it that far is counted as `ill-conditioned`, not as a failure. Sums of huge
pixels of both signs that cancel are of this kind, and images of float64 that differ by a constant.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from draws import PAIRS, Case

import ssimgen
from oracles import exact
from oracles.exact import LONG
from ssimgen import engine, losses, pairwise
from ssimgen._scales import WANG_SCALE_WEIGHTS

VALUE = {torch.float32: 1e-6, torch.float64: 1e-10}
GRADIENT = {torch.float32: 1e-4, torch.float64: 1e-5}  # the promise is 1e-4 for both
FAINT = 1e-12
NEAR = 1e-9
LEAST_ROOT, GREATEST_ROOT = 1e-12, 1e12  # of c1 and c2: within these, nothing may be refused


@dataclass
class Finding:
    """What went wrong: `kind` for counting, `text` for reading."""

    kind: str
    text: str


@dataclass
class Report:
    """What a case showed."""

    calls: int = 0
    worst: dict = field(default_factory=dict)  # of each kind, relative to the bar
    findings: list = field(default_factory=list)
    ill: int = 0
    refused: int = 0

    def measure(self, kind: str, ratio: float) -> None:
        self.worst[kind] = max(self.worst.get(kind, 0.0), ratio)


# --- the truth --------------------------------------------------------------------------------------------------


@dataclass
class Truth:
    """The output of a case, and gradients of sum(upstream * output), one pair by one, to x and to y."""

    value: np.ndarray
    gradients: object
    greatest: float  # value that the output can have
    pairs: tuple  # exact.Pairs or exact.Scales behind it
    fragile: object = False  # where float64 overflows
    rough: object = False  # where a gradient is not asked for


def bars(case: Case, name: str) -> tuple[float, float]:
    """Of values and gradients, in an engine."""
    dtype = torch.float32 if name == "eager" and not_by_pairs(case) else case.x.dtype
    return VALUE[dtype], GRADIENT[dtype]


def not_by_pairs(case: Case) -> bool:
    """Whether all pairs are asked for."""
    return case.what not in PAIRS


def truth_of(case: Case, taps=None, jitter=None) -> Truth:
    x = case.x.numpy()
    y = x if case.y is None else case.y.numpy()
    definition = exact.Definition.of(case.form, case.window, case.data_range, case.k1, case.k2, x.ndim - 2, taps)
    if case.what.startswith("ms"):
        return _scales_truth(case, x, y, replace(definition, form="product"), jitter)
    if case.what.startswith("all"):
        x, y = x[:, None], y[None]
    if case.what in ("ssim", "map", "all ssim"):
        definition = replace(definition, form="product")
    pairs = exact.Pairs(x, y, definition, jitter)
    count = pairs.patches
    if case.what == "map":
        fragile = np.expand_dims(pairs.overflows, definition.axes)
        return Truth(1 - pairs.squares, lambda u: pairs.gradients(-u), 1, (pairs,), fragile)
    if case.what in ("ssim", "all ssim"):
        return Truth(1 - pairs.mean, lambda u: pairs.gradients_of_mean(-u), 1, (pairs,), pairs.overflows)
    factor = count if case.norm == "frobenius" and case.what != "loss" else 1
    square = pairs.mean * factor
    if case.squared:
        value, slope, greatest, rough = square, np.full(square.shape, LONG(factor)), factor, False
    else:
        with np.errstate(all="ignore"):
            value, greatest = np.sqrt(square), factor**0.5
            slope = np.where(square > 0, factor / (2 * value), 0)
        rough = (square > 0) & (square / factor < torch.finfo(case.x.dtype).smallest_normal * 1e3)
    truth = Truth(value, lambda u: pairs.gradients_of_mean(u * slope), greatest, (pairs,), pairs.overflows, rough)
    return _reduced(case, truth) if case.what == "loss" else truth


def _scales_truth(case, x, y, definition, jitter):
    side, fitting = min(x.shape[-2:]), 1
    while side // 2 >= case.window.size:
        side, fitting = side // 2, fitting + 1
    kept = WANG_SCALE_WEIGHTS[:fitting]
    scales = exact.Scales(x, y, definition, case.weights or tuple(w / sum(kept) for w in kept), jitter)
    rough = (np.abs(scales.terms - LONG(exact.STRUCTURE_FLOOR)) < 1e-6).any((0, 2))
    sign = 1 if case.what == "ms loss" else -1
    value = scales.complement if sign > 0 else 1 - scales.complement
    truth = Truth(value, lambda u: scales.gradients(sign * u), 1, (scales,), scales.overflows, rough)
    return _reduced(case, truth) if case.what == "ms loss" else truth


def _reduced(case, truth):
    if case.reduction == "none":
        return truth
    batch = len(truth.value)
    share = 1 / batch if case.reduction == "mean" else 1
    return Truth(
        truth.value.sum() * share,
        lambda u: truth.gradients(np.full(batch, u * share)),
        truth.greatest * batch * share,
        truth.pairs,
        truth.fragile.any(),
        truth.rough,
    )


def nearby_truths(case: Case):
    """The truth for taps that are off by their last bit, and differences x - y rounded to float64."""
    rng = np.random.default_rng(0)
    for _ in range(4):
        taps = [np.array(axis.taps, LONG) for axis in case.window.axes(case.x.ndim - 2)]
        yield truth_of(case, tuple(tuple(t * (1 + rng.choice((-1, 1), len(t)) * LONG(2) ** -52)) for t in taps), rng)


# --- the library ------------------------------------------------------------------------------------------------


@contextmanager
def using(name: str):
    """Send every call to one engine."""
    kept = engine.fused_can, engine._matrix_products_win
    if name == "eager":
        engine.fused_can = lambda *images: False
    else:
        engine._matrix_products_win = lambda *arguments: False
    try:
        yield
    finally:
        engine.fused_can, engine._matrix_products_win = kept


def answer(case: Case, x, y):
    """The call."""
    options = case.options
    distances = {"form": case.form, "norm": case.norm, "squared": case.squared}
    match case.what:
        case "ssim":
            return ssimgen.ssim(x, y, **options)
        case "distance":
            return ssimgen.distance(x, y, **distances, **options)
        case "map":
            return ssimgen.ssim_map(x, y, **options)
        case "ms_ssim":
            return ssimgen.ms_ssim(x, y, weights=case.weights, **options)
        case "ms loss":
            return losses.MSSSIMLoss(weights=case.weights, reduction=case.reduction, **options)(x, y)
        case "loss" if case.form == "product" and case.squared:
            return losses.SSIMLoss(reduction=case.reduction, **options)(x, y)
        case "loss":
            loss = losses.StructuralDistanceLoss(
                form=case.form, squared=case.squared, reduction=case.reduction, **options
            )
            return loss(x, y)
        case "all ssim":
            return pairwise.ssim(x, y, **options)
        case "all distance":
            return pairwise.distance(x, y, **distances, **options)
    raise ValueError(case.what)


def laid_out(z: torch.Tensor, layout: str, needed: bool) -> torch.Tensor:
    """A view with the numbers of z, with a graph if needed."""

    def leaf(t):
        return t.detach().clone(memory_format=torch.contiguous_format).requires_grad_(needed)

    match layout:
        case "channels last":
            return z.detach().clone(memory_format=torch.channels_last).requires_grad_(needed)
        case "transposed":
            return leaf(z.transpose(-1, -2)).transpose(-1, -2)
        case "strided":
            wide = torch.full((*z.shape[:-1], 2 * z.shape[-1]), torch.nan, dtype=z.dtype)
            wide[..., ::2] = z
            return leaf(wide)[..., ::2]
        case "offset":
            wide = torch.full((z.shape[0] + 1, *z.shape[1:]), torch.nan, dtype=z.dtype)
            wide[1:] = z
            return leaf(wide)[1:]
        case "expanded":
            return leaf(z[:1]).expand(z.shape)
        case "negative bit":
            return torch._neg_view(leaf(-z))
    return leaf(z)


# --- the comparison ---------------------------------------------------------------------------------------------


def check(case: Case) -> Report:
    report = Report()
    truth = truth_of(case)
    for name in case.engines:
        kind = f"{case.what} {name} {str(case.x.dtype).removeprefix('torch.')}"
        try:
            with using(name):
                _check_engine(case, truth, name, kind, report)
        except ValueError as error:
            if "beyond the range" not in str(error) or _ordinary(case):
                report.findings.append(Finding(f"{kind} error", f"{type(error).__name__}: {error}"))
            report.refused += 1
        except Exception as error:
            report.findings.append(Finding(f"{kind} error", f"{type(error).__name__}: {error}"))
    return report


def _ordinary(case):
    lo, hi = case.data_range if isinstance(case.data_range, tuple) else (0.0, case.data_range)
    return all(LEAST_ROOT < k * (hi - lo) < GREATEST_ROOT for k in (case.k1, case.k2))


def _check_engine(case, truth, name, kind, report):
    views = [laid_out(case.x, case.layouts[0], False)]
    views.append(views[0] if case.one_tensor else None if case.y is None else laid_out(case.y, case.layouts[1], False))
    plain = answer(case, *views)
    report.calls += 1
    value_bar, gradient_bar = bars(case, name)
    _compare_values(case, truth, plain, f"{kind} value", value_bar, report)
    if case.y is None:
        _check_symmetry(case, plain, kind, report)

    x = laid_out(case.x, case.layouts[0], case.one_tensor or "x" in case.to)
    y = x if case.one_tensor else None if case.y is None else laid_out(case.y, case.layouts[1], "y" in case.to)
    output = answer(case, x, y)
    report.calls += 1
    if not torch.equal(output.detach().nan_to_num(9e9), plain.nan_to_num(9e9)):
        difference = (output.detach() - plain).abs().max().item()
        report.findings.append(Finding(f"{kind} bits", f"with gradient off by {difference:.3g}"))
    upstream = torch.randn(
        output.shape, generator=torch.Generator().manual_seed(case.upstream_seed), dtype=output.dtype
    )
    wanted = [z for z in ((x,) if case.one_tensor or y is None else (x, y)) if z.requires_grad]
    for run in range(1 + case.twice):
        found = torch.autograd.grad(
            output, wanted, upstream, retain_graph=case.twice and run == 0, create_graph=case.create_graph
        )
        unsure = _unsure(case, truth, NEAR if name == "eager" and not_by_pairs(case) else 0.0)
        _compare_gradients(case, truth, upstream, found, unsure, f"{kind} gradient", gradient_bar, report)


def _compare_values(case, truth, found, kind, precision, report):
    """Report every entry that is neither the truth nor, where allowed, NaN."""
    value, bar = np.asarray(truth.value), precision * truth.greatest
    got = found.numpy().astype(LONG)
    if got.shape != value.shape:
        report.findings.append(Finding(f"{kind} shape", f"{got.shape} for {value.shape}"))
        return
    fragile = np.broadcast_to(truth.fragile, value.shape)
    with np.errstate(all="ignore"):
        error = np.abs(got - value) / bar
    wanted_nan = np.isnan(value)
    bad = np.where(wanted_nan, ~np.isnan(got), ~(error <= 1) & ~(fragile & np.isnan(got)))
    fine = ~wanted_nan & ~bad & np.isfinite(error)
    report.measure(kind, float(error[fine].max()) if fine.any() else 0.0)
    if case.what.startswith("all") or case.what in ("ssim", "map", "distance"):
        above = got > 1 if "distance" not in case.what else got < 0
        if above.any():
            report.findings.append(Finding(f"{kind} bounds", f"{float(got[above][0])!r}"))
    if not bad.any():
        return
    if not (wanted_nan & bad).any() and np.isfinite(got[bad]).all():
        spread = np.max([np.abs(near.value - value) for near in nearby_truths(case)], 0)
        if (np.abs(got - value) <= bar + 8 * spread)[bad].all():
            report.ill += 1
            return
    at = tuple(int(i) for i in np.argwhere(bad)[0])
    how = "finite" if wanted_nan[at] else "nan" if np.isnan(got[at]) else "off"
    report.findings.append(
        Finding(
            f"{kind} {how}", f"{float(got[at]):.9g} for {float(value[at]):.9g} at {at}, {int(bad.sum())} of {bad.size}"
        )
    )


def _check_symmetry(case, found, kind, report):
    clean = found.nan_to_num(9e9)
    diagonal = found.diagonal()
    exact_diagonal = diagonal[~diagonal.isnan()] == (1 if case.what == "all ssim" else 0)
    if not torch.equal(clean, clean.T) or not exact_diagonal.all():
        report.findings.append(Finding(f"{kind} symmetry", f"diagonal {diagonal.tolist()}"))


def _compare_gradients(case, truth, upstream, found, unsure, kind, precision, report):
    u, pixels = upstream.numpy().astype(LONG), tuple(range(1, case.x.ndim))
    named = "x" if case.one_tensor or case.y is None else case.to
    wanted = _image_gradients(case, truth, u)
    for name, gradient in zip(named, found, strict=True):
        true, largest = wanted[name]
        got = gradient.detach().resolve_neg().numpy().astype(LONG)
        scale = _slope_scale(case, truth, u)
        vanishing = float(torch.finfo(case.x.dtype).eps) * scale
        bar = np.where(largest > FAINT * scale, precision * largest, vanishing)
        bar = bar + LONG(torch.finfo(case.x.dtype).smallest_normal)
        representable = largest < LONG(torch.finfo(case.x.dtype).max) / 16
        checked = ~unsure[name] & representable
        with np.errstate(all="ignore"):
            difference = np.abs(got - true).max(pixels)
            error = difference / bar
        fragile = np.isnan(difference) & np.broadcast_to(np.any(truth.fragile), difference.shape)
        bad = checked & ~(error <= 1) & ~fragile
        fine = checked & ~bad & np.isfinite(error)
        report.measure(kind, float(error[fine].max()) if fine.any() else 0.0)
        if not bad.any():
            continue
        if np.isfinite(difference[bad]).all():
            spread = np.max(
                [np.abs(_image_gradients(case, near, u)[name][0] - true) for near in nearby_truths(case)], 0
            )
            if (difference <= bar + 8 * spread.max(pixels))[bad].all():
                report.ill += 1
                continue
        i = int(bad.argmax())
        how = "nan" if np.isnan(difference[i]) else "off"
        report.findings.append(
            Finding(
                f"{kind} {how}",
                f"to {name}[{i}]: off by {float(difference[i]):.3g}, the largest is {float(largest[i]):.3g} "
                f"(ratio {float(difference[i] / largest[i]) if largest[i] else np.inf:.3g})",
            )
        )


def _image_gradients(case, truth, u):
    """{"x": (gradient, largest entry that a single pair gives), "y": ...}, one of each image."""
    by_pair = [np.where(np.isnan(g), 0, g) for g in truth.gradients(u)]
    largest = [np.abs(g).max(tuple(range(1 - case.x.ndim, 0))) for g in by_pair]
    if case.what.startswith("all"):
        sums = [by_pair[0].sum(1), by_pair[1].sum(0)]
        most = [largest[0].max(1), largest[1].max(0)]
    else:
        sums, most = by_pair, largest
    if case.one_tensor or case.y is None:
        return {"x": (sums[0] + sums[1], np.maximum(*most))}
    return {"x": (sums[0], most[0]), "y": (sums[1], most[1])}


def _unsure(case, truth, near):
    """Images with a pair that is NaN, or whose gradient is not asked for, or of D^2 below `near`."""
    pairs = truth.pairs[0]
    values = pairs.complement if isinstance(pairs, exact.Scales) else pairs.mean
    unsure = np.isnan(values) | np.broadcast_to(truth.rough, values.shape)
    if not case.what.startswith("all"):
        return {"x": unsure, "y": unsure}
    unsure = unsure | ((pairs.mean < near) & (np.eye(*pairs.mean.shape) == 0 if case.y is None else True))
    x, y = unsure.any(1), unsure.any(0)
    return {"x": x | y, "y": y} if case.one_tensor or case.y is None else {"x": x, "y": y}


def _slope_scale(case, truth, u):
    pairs = truth.pairs[0].scales[-1] if case.what.startswith("ms") else truth.pairs[0]  # of the scale with luminance
    definition = pairs.definition
    least = min(definition.c1, definition.c2) if definition.form in ("product", "sum") else definition.c2
    pixels = case.x[0].numel()
    return float(np.abs(u).max()) * truth.greatest / (pixels * np.sqrt(least))
