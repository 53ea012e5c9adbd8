"""Means over seeds of each category, method and number of shots, and over the categories of each data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from accuracy.measures import LOWER_IS_BETTER, METRICS, interval
from accuracy.plan import Shots
from accuracy.results import Unit

#: metric -> (seeds, 1 + resamples), the test set's value first.
Replicates = dict[str, np.ndarray]


def summarise(units: Sequence[Unit]) -> list[dict[str, Any]]:
    """One row for each category, method and number of shots, then the means over categories.

    Returns:
        Rows with dataset, category ("mean" over several, where all of them have figures for the shots that were asked
        for), method, shots (as asked, of a mean), seeds, images, and for each metric a dict of
        mean, sd (over seeds; None for one), worst (of the seeds: the lowest; of the false-positive rate the highest),
        low, high (95 % over images, of the mean); None where not defined. Over categories, the worst is of the seeds'
        means.
    """
    groups: dict[tuple[str, str, str, int], list[Unit]] = {}
    for unit in units:
        row = unit.row
        groups.setdefault((row["dataset"], row["category"], row["method"], row["shots"]), []).append(unit)
    rows = []
    averages: dict[tuple[str, str, Shots], list[list[Unit]]] = {}
    for (dataset, category, method, shots), members in groups.items():
        row = _summary_row(members, _replicates(members))
        rows.append({"dataset": dataset, "category": category, "method": method, "shots": shots, **row})
        for requested in members[0].requested_shots:
            averages.setdefault((dataset, method, requested), []).append(members)
    for (dataset, method, requested), parts in averages.items():
        categories = {category for name, category, *_ in groups if name == dataset}
        if len(categories) > 1 and len(categories) == len(parts):
            row = _mean_row(parts)
            rows.append({"dataset": dataset, "category": "mean", "method": method, "shots": requested, **row})
    return rows


def _replicates(units: Sequence[Unit]) -> Replicates:
    return {name: np.stack([unit.replicates[name] for unit in units]) for name in METRICS}


def _mean_row(parts: Sequence[Sequence[Unit]]) -> dict[str, Any]:
    """Over categories, seed by seed, as far as all categories have as many seeds."""
    seeds = min(len(members) for members in parts)
    each = [_replicates(members[:seeds]) for members in parts]
    mean = {name: np.stack([values[name] for values in each]).mean(0) for name in METRICS}
    everyone = [unit for members in parts for unit in members]
    return _summary_row(everyone, mean) | {"seeds": seeds}


def _summary_row(units: Sequence[Unit], replicates: Replicates) -> dict[str, Any]:
    first_seed = min(unit.row["seed"] for unit in units)
    of_first_seed = [unit.row for unit in units if unit.row["seed"] == first_seed]
    row: dict[str, Any] = {
        "seeds": len({unit.row["seed"] for unit in units}),
        "images": sum(row["images"] for row in of_first_seed),
        "anomalous": sum(row["anomalous"] for row in of_first_seed),
        "seconds_per_image": float(np.mean([unit.row["seconds_per_image"] for unit in units])),
    }
    for name, values in replicates.items():
        row[name] = _over_seeds(values, lowest_is_worst=name not in LOWER_IS_BETTER)
    return row


def _over_seeds(values: np.ndarray, *, lowest_is_worst: bool) -> dict[str, float | None] | None:
    """(seeds, 1 + resamples) -> mean, sd, worst, low, high."""
    mean = values.mean(0)
    bounds = interval(mean)
    if bounds is None:
        return None
    of_seeds = values[:, 0]
    spread = float(of_seeds.std(ddof=1)) if len(of_seeds) > 1 else None
    worst = float(of_seeds.min() if lowest_is_worst else of_seeds.max())
    return {"mean": float(mean[0]), "sd": spread, "worst": worst, "low": bounds[0], "high": bounds[1]}
