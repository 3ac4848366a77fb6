"""What stands on image pairs, against its definitions: MMD, energy, conditional MMD, streaming, features of SSIM.

The truth is a weighted sum, W_xx, W_xy, W_yy against the kernel values of all pairs, of D^2 in extended precision. A
value is it within 4 VALUE (1 + L), where L is the slope of the kernel by D^2 or D and 4 the sum of all |W| of MMD;
gradients are as for image pairs, with 2 L VALUE more for the slope of the kernel. Where an image is not finite, a
ValueError or NaN is the answer: no number. Bars are those of the eager engine, which runs them.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from checks import FAINT, NEAR, Finding, Report, bars, using
from draws import Case

from oracles import exact
from oracles.exact import LONG
from ssimgen import kernels, losses, metrics, streaming
from ssimgen.discrepancy import cmmd2

OF_ROOT = ("mmd laplacian", "mmd distance", "energy")  # kernels of D, the others of D^2
CLASSES = 3


class Truth:
    """The discrepancy, and its gradients with the largest entry that a single pair gives."""

    def __init__(self, case: Case) -> None:
        x, y = case.x.numpy(), case.y.numpy()
        form = "product" if case.what in ("mmd ssim", "cmmd") else case.form
        definition = exact.Definition.of(form, case.window, case.data_range, case.k1, case.k2)
        sides = {"xx": (x, x), "xy": (x, y), "yy": (y, y)}
        self.pairs = {name: exact.Pairs(a[:, None], b[None], definition) for name, (a, b) in sides.items()}
        norms = case.norm if case.what not in ("mmd ssim", "cmmd") else "rms"
        self.factor = self.pairs["xy"].patches if norms == "frobenius" else 1
        self.weights, self.condition = _weights(case)
        kernel, self.slope = _kernel(case, self.factor)
        self.total = sum(np.abs(w).sum() for w in self.weights.values())
        self.value, self.slopes = LONG(0), {}
        with np.errstate(all="ignore"):
            for name, pairs in self.pairs.items():
                square = pairs.mean * self.factor
                values, slopes = kernel(square)
                self.value += (self.weights[name] * values).sum()
                self.slopes[name] = self.weights[name] * slopes * self.factor
        self.rough = any(((p.mean > 0) & (p.mean < NEAR)).any() for p in self.pairs.values())
        self.fragile = any(p.overflows.any() for p in self.pairs.values())

    def gradients(self):
        """{"x": (gradient, largest), "y": ...}"""
        sums, largest = {"x": LONG(0), "y": LONG(0)}, {"x": LONG(0), "y": LONG(0)}
        for name, pairs in self.pairs.items():
            for axis, (image, part) in enumerate(
                zip(name, pairs.gradients_of_mean(self.slopes[name]), strict=True), start=1
            ):
                sums[image] = sums[image] + part.sum(2 - axis)
                largest[image] = max(largest[image], np.abs(part).max())
        return {image: (sums[image], largest[image]) for image in "xy"}


def _kernel(case, factor):
    """D^2 -> (values of the kernel, its slopes by D^2), and its largest slope by what it is made of."""
    s = LONG(case.bandwidth)

    def of_root(by):
        def kernel(square):
            root = np.sqrt(square)
            values, slopes = by(root)
            return values, np.where(square > 0, slopes / (2 * root), 0)

        return kernel

    match case.what:
        case "mmd gaussian":
            return lambda d: (np.exp(-d / (2 * s * s)), -np.exp(-d / (2 * s * s)) / (2 * s * s)), factor / (2 * s * s)
        case "mmd laplacian":
            return of_root(lambda d: (np.exp(-d / s), -np.exp(-d / s) / s)), factor**0.5 / s
        case "mmd distance":  # the base cancels
            return of_root(lambda d: (-d / 2, np.full(d.shape, LONG(-0.5)))), factor**0.5 * 1.5
        case "energy":
            return of_root(lambda d: (-d, np.full(d.shape, LONG(-1)))), factor**0.5
    return lambda d: (1 - d, np.full(d.shape, LONG(-1))), 1.0


def _weights(case):
    """W of every pair, and how far rounding is magnified in them."""
    n, m = len(case.x), len(case.y)
    if case.what != "cmmd":
        same = [(1 - np.eye(k)) / (k * (k - 1)) if case.unbiased else np.full((k, k), 1 / (k * k)) for k in (n, m)]
        return {"xx": same[0], "xy": np.full((n, m), -2 / (n * m)), "yy": same[1]}, 1.0
    x, y = _conditions(case)
    gram = {
        name: (a[:, None] == b).astype(float) for name, (a, b) in {"xx": (x, x), "xy": (x, y), "yy": (y, y)}.items()
    }
    inverse = {k: np.linalg.inv(gram[2 * k] + _regularisation(case) * np.eye(len(gram[2 * k]))) for k in "xy"}
    weights = {ab: inverse[ab[0]] @ gram[ab] @ inverse[ab[1]] * (-2 if ab == "xy" else 1) for ab in gram}
    return weights, 1 + max(n, m) / _regularisation(case)


def _conditions(case):
    rng = np.random.default_rng(case.upstream_seed)
    return rng.integers(0, CLASSES, len(case.x)), rng.integers(0, CLASSES, len(case.y))


def _regularisation(case):
    return case.bandwidth / 20  # 0.01 to 0.5


def _made(case: Case):
    """The kernel, or the metric."""
    options = {"data_range": case.data_range, "window": case.window, "k1": case.k1, "k2": case.k2}
    if case.what in ("mmd ssim", "cmmd"):
        return kernels.SSIM(**options)
    metric = metrics.StructuralDistance(form=case.form, norm=case.norm, **options)
    match case.what:
        case "mmd gaussian":
            return kernels.Gaussian(metric, (case.bandwidth,))
        case "mmd laplacian":
            return kernels.Laplacian(metric, (case.bandwidth,))
        case "mmd distance":
            return kernels.DistanceInduced(metric, case.x[:1].detach())
    return metric


def check_sample(case: Case) -> Report:
    """One case of a discrepancy, or of features."""
    report = Report()
    kind = f"{case.what} {str(case.x.dtype).removeprefix('torch.')}"
    try:
        with using("eager"):
            (_check_features if case.what == "features" else _check_discrepancy)(case, kind, report)
    except Exception as error:
        report.findings.append(Finding(f"{kind} error", f"{type(error).__name__}: {error}"))
    return report


def _check_discrepancy(case, kind, report):
    truth, made = Truth(case), _made(case)
    x, y = (z.clone().requires_grad_() for z in (case.x, case.y))
    precision, slope_precision = bars(case, "eager")
    conditioned = 16 * float(torch.finfo(case.x.dtype).eps) * truth.condition if case.what == "cmmd" else 0.0
    bar = float(truth.total) * (precision * (1 + float(truth.slope)) + conditioned)
    calls = {"": lambda: _discrepancy(case, made, x, y)}
    if case.what != "cmmd":
        function = streaming.energy_distance if case.what == "energy" else streaming.mmd2
        parts = [list(z.split(2)) for z in (case.x, case.y)]
        calls[" streaming"] = lambda: function(*parts, made, unbiased=case.unbiased)
    for name, call in calls.items():
        report.calls += 1
        try:
            found = call()
            number = float(found.detach() if isinstance(found, torch.Tensor) else found)
        except ValueError as error:
            if np.isfinite(truth.value) and not truth.fragile:
                report.findings.append(Finding(f"{kind}{name} refused", f"for {float(truth.value):.6g}: {error}"))
            continue
        error = abs(number - float(truth.value)) / bar
        if np.isnan(number) and (np.isnan(truth.value) or truth.fragile):
            continue
        if error <= 1:
            report.measure(f"{kind}{name} value", error)
        else:
            text = f"{number:.9g} for {float(truth.value):.9g}, allowed {bar:.2g}"
            report.findings.append(Finding(f"{kind}{name} value", text))
        if name or truth.rough or not np.isfinite(truth.value):
            continue
        relative = slope_precision + 2 * precision * float(truth.slope) + conditioned
        _compare(case, truth, torch.autograd.grad(found, (x, y)), relative, kind, report)


def _compare(case, truth, found, relative, kind, report):
    definition = truth.pairs["xy"].definition
    least = min(definition.c1, definition.c2) if definition.form in ("product", "sum") else definition.c2
    weights = [np.abs(w) for w in truth.weights.values()]
    heaviest, of_image = max(w.max() for w in weights), max(w.sum(axis).max() for w in weights for axis in (0, 1))
    steepest = max(truth.slope, 1) / (case.x[0].numel() * np.sqrt(least))
    scale = heaviest * steepest
    vanishing = float(torch.finfo(case.x.dtype).eps) * of_image * steepest  # one rounding error of each of its pairs
    for (image, (true, largest)), gradient in zip(truth.gradients().items(), found, strict=True):
        bar = relative * largest if largest > FAINT * scale else vanishing
        bar = bar + LONG(torch.finfo(case.x.dtype).smallest_normal)
        ratio = np.abs(gradient.numpy().astype(LONG) - true).max() / bar
        if ratio <= 1:
            report.measure(f"{kind} gradient", float(ratio))
        elif not (truth.fragile and np.isnan(ratio)):
            text = f"to {image}: off by {float(ratio * bar):.3g}, the largest is {float(largest):.3g}"
            report.findings.append(Finding(f"{kind} gradient", text))


def _discrepancy(case, made, x, y):
    if case.what == "energy":
        return losses.EnergyLoss(made, unbiased=case.unbiased)(x, y)
    if case.what != "cmmd":
        return losses.MMDLoss(made, unbiased=case.unbiased)(x, y)
    a, b = (torch.from_numpy(c) for c in _conditions(case))
    grams = [(u[:, None] == v).to(x.dtype) for u, v in ((a, a), (a, b), (b, b))]
    return cmmd2(*grams, made(x), made(x, y), made(y), regularisation=_regularisation(case))


# --- features ---------------------------------------------------------------------------------------------------


def _check_features(case, kind, report):
    from ssimgen.features import SSIMFeatures

    lo, hi = case.data_range if isinstance(case.data_range, tuple) else (0.0, case.data_range)
    x, y = (z.clamp(lo, hi).numpy() for z in (case.x, case.y))
    transformer = SSIMFeatures(
        data_range=case.data_range, image_shape=x.shape[1:], form=case.form, window=case.window, k1=case.k1, k2=case.k2
    )
    rows = [z.reshape(len(z), -1) for z in (x, y)]
    report.calls += 1
    lo, hi = (float(x.dtype.type(end)) for end in (lo, hi))  # as the images can have them
    inside = all(((lo <= z.astype(LONG)) & (z.astype(LONG) <= hi)).all() for z in (x, y))
    try:
        a, b = (f.astype(LONG) for f in (transformer.fit(rows[0]).transform(rows[0]), transformer.transform(rows[1])))
    except ValueError as error:
        if inside:
            report.findings.append(Finding(f"{kind} refused", str(error)))
        return
    if not inside:
        report.findings.append(Finding(f"{kind} finite", "features of images that are outside the range or not finite"))
        return
    definition = exact.Definition.of(case.form, case.window, case.data_range, case.k1, case.k2)
    mean = exact.Pairs(x[:, None], y[None], definition).mean
    kernel = (2 if case.form == "sum" else 1) - mean
    rounding = 8 * float(torch.finfo(case.x.dtype).eps) * math.sqrt(a.shape[1])
    error = np.abs(a @ b.T - kernel).max() / (transformer.error_bound_ + rounding)
    report.measure(f"{kind} bound", float(error))
    if not error <= 1:
        report.findings.append(Finding(f"{kind} bound", f"{float(error):.4g} of the bound"))
