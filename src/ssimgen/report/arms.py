"""The models of a report: runs that differ only by their seed, in groups that are compared with each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ssimgen.report.charts import swatch
from ssimgen.report.folders import Run
from ssimgen.report.results import Result


@dataclass(frozen=True)
class Arm:
    """Runs that differ only by their seed."""

    group: str
    variant: str
    point: str
    label: str  # with the group, where there are several
    name: str  # without
    runs: tuple[Run, ...]
    baseline: bool


@dataclass(frozen=True)
class Group:
    """Arms that are compared with each other; a colour a variant."""

    name: str
    arms: tuple[Arm, ...]

    @property
    def styles(self) -> dict[str, int]:
        """The style of each variant in charts."""
        return {variant: i for i, variant in enumerate(dict.fromkeys(arm.variant for arm in self.arms))}

    def legend(self, variants: Iterable[str]) -> list[tuple[Markup, str]]:
        """Marks and names of some variants."""
        wanted = set(variants)
        return [(Markup(swatch(style)), variant) for variant, style in self.styles.items() if variant in wanted]


def arms_of(runs: Sequence[Run], records: Sequence[Result]) -> list[Arm]:
    """The arms of some runs, group by group in the order of the runs, the baseline of each group first."""
    by_folder = {record.folder: record for record in records}
    found: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        record = by_folder[str(run.path)]
        found.setdefault((record.group, record.variant, record.point), []).append(run)
    groups = {group for group, _, _ in found}
    arms = []
    for (group, variant, point), of_arm in found.items():
        record = by_folder[str(of_arm[0].path)]
        arm = record.arm
        label = arm if len(groups) == 1 or arm == group else f"{group} {arm}"
        ordered = tuple(sorted(of_arm, key=lambda run: run.seed))
        arms.append(Arm(group, variant, point, label, arm, ordered, variant == record.baseline))
    order = list(dict.fromkeys(arm.group for arm in arms))
    variants = list(dict.fromkeys((arm.group, arm.variant) for arm in arms))
    return sorted(
        arms, key=lambda arm: (order.index(arm.group), not arm.baseline, variants.index((arm.group, arm.variant)))
    )


def groups_of(arms: Sequence[Arm]) -> list[Group]:
    found: dict[str, list[Arm]] = {}
    for arm in arms:
        found.setdefault(arm.group, []).append(arm)
    return [Group(name, tuple(of_group)) for name, of_group in found.items()]
