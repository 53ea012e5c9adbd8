"""report.html: one self-contained page with tables, curves, histograms and a gallery, from report.html.jinja."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from accuracy import charts, tables
from accuracy.measures import LOWER_IS_BETTER
from accuracy.names import NO_NAME
from accuracy.results import Run, Unit
from environment import one_line
from patchclip import metrics

Colours = Mapping[str, str]

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)

_DATA_KEYS = ("dataset", "category", "layout", "references", "normal", "anomalous", "with_mask")

#: What shows its spread over seeds.
_WITH_SPREAD = ("image_auroc", "pixel_auroc", "aupro")


def render_report(run: Run) -> str:
    """The whole page; it refers to nothing outside itself."""
    methods = dict.fromkeys(unit.row["method"] for unit in run.units)
    colours = _assign_colours(methods)
    columns = tables.shown_columns(run.summary)
    timed = [row for row in run.latency if row.get("parts_s")]
    part_colours = _assign_colours(dict.fromkeys(name for row in timed for name in row["parts_s"]))
    page = _TEMPLATES.get_template("report.html.jinja").render(
        environment_line=one_line(run.environment),
        command=run.environment["command"],
        colours=colours,
        normal_colour=charts.NORMAL,
        anomalous_colour=charts.ANOMALOUS,
        columns=columns,
        summary=_summary_groups(run.summary, columns, colours),
        categories=_categories(run.units, colours),
        latency=[tables.latency_cells(row) for row in run.latency],
        latency_head=tables.LATENCY_HEAD,
        part_bars=_part_bars(timed, part_colours),
        part_colours=part_colours,
        course=tables.course_tables(run.units),
        data=run.data,
        data_keys=_DATA_KEYS,
        problems=run.problems,
    )
    return page.lstrip()


def _assign_colours(names: Mapping[str, Any]) -> dict[str, str]:
    return {name: charts.PALETTE[index % len(charts.PALETTE)] for index, name in enumerate(names)}


# --- summary ------------------------------------------------------------------------------------------------------


def _summary_groups(
    summary: Sequence[Mapping[str, Any]], columns: Mapping[str, str], colours: Colours
) -> list[dict[str, Any]]:
    """One for each category, the means over categories first."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in sorted(summary, key=lambda row: row["category"] == "mean", reverse=True):
        groups.setdefault((row["dataset"], row["category"]), []).append(row)
    shown = []
    for (dataset, category), rows in groups.items():
        name = "mean of its categories" if category == "mean" else category
        best = {metric: _highest(rows, metric) for metric in columns}
        lines = []
        for row in rows:
            cells = [_summary_cell(metric, row[metric], best[metric], colours[row["method"]]) for metric in columns]
            lines.append({**row, "cells": cells})
        shown.append(
            {
                "name": dataset if dataset == category else f"{dataset}, {name}",
                "normal": rows[0]["images"] - rows[0]["anomalous"],
                "anomalous": rows[0]["anomalous"],
                "rows": lines,
            }
        )
    return shown


def _highest(rows: Sequence[Mapping[str, Any]], metric: str) -> float | None:
    """The value to mark; None where there is none, or where the lowest is the best."""
    if metric in LOWER_IS_BETTER:
        return None
    return max((row[metric]["mean"] for row in rows if row[metric]), default=None)


def _summary_cell(metric: str, value: Mapping[str, Any] | None, best: float | None, colour: str) -> dict[str, Any]:
    cell = {"metric": metric, "text": "–", "spread": None, "worst": None, "interval": None, "best": False, "mark": ""}
    if value is None:
        return cell
    mean, low, high = value["mean"], value["low"], value["high"]
    cell |= {"text": f"{mean:.3f}", "interval": f"{low:.3f} to {high:.3f}", "best": mean == best}
    if value["sd"] is not None and metric in _WITH_SPREAD:
        cell["spread"] = f"{value['sd']:.3f}"
        cell["worst"] = f"{value['worst']:.3f}"
    if metric == "image_auroc":
        cell["mark"] = charts.interval_mark(mean, low, high, colour)
    return cell


# --- one category -------------------------------------------------------------------------------------------------


def _categories(units: Sequence[Unit], colours: Colours) -> list[dict[str, Any]]:
    groups: dict[tuple[str, str], list[Unit]] = {}
    for unit in units:
        groups.setdefault((unit.row["dataset"], unit.row["category"]), []).append(unit)
    return [
        {
            "id": f"c{index}",
            "name": category,
            "title": category if category == dataset else f"{dataset}, {category}",
            **_category(_shown_units(members), colours),
        }
        for index, ((dataset, category), members) in enumerate(groups.items())
    ]


def _shown_units(units: Sequence[Unit]) -> dict[str, Unit]:
    """method -> its first seed at its highest number of shots."""
    shown: dict[str, Unit] = {}
    for unit in units:
        row = unit.row
        if row["seed"] == 0 and row["shots"] >= shown.get(row["method"], unit).row["shots"]:
            shown[row["method"]] = unit
    return shown


def _category(shown: Mapping[str, Unit], colours: Colours) -> dict[str, Any]:
    """Curves, histograms, kinds of defect and pictures."""
    pictured = {name: unit.gallery for name, unit in shown.items() if unit.gallery}
    main = "dense+bank" if "dense+bank" in pictured else next(reversed(pictured), None)
    by_kind = {name: unit.row.get("by_kind", {}) for name, unit in shown.items()}
    kinds: Mapping[str, Any] = next(filter(None, by_kind.values()), {})
    return {
        "shots": {name: unit.row["shots"] for name, unit in shown.items()},
        "curves": _curve_charts(shown, colours),
        "histograms": _histograms(shown),
        "kinds": {kind: entry["images"] for kind, entry in kinds.items()},
        "kind_areas": {name: _areas(found, kinds) for name, found in by_kind.items()},
        "names": {name: _confusions(unit.row["names"]) for name, unit in shown.items() if unit.row.get("names")},
        "galleries": pictured,
        "open_gallery": main,
    }


def _confusions(measured: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One table for each number of examples: rows are kinds, columns are the names that were given."""
    confusions = []
    for entry in measured:
        confusion = entry["confusion"]
        given = sorted({name for names in confusion.values() for name in names if name} | confusion.keys())
        columns = [*given, NO_NAME]
        rows = {kind: [names.get(column, 0) for column in columns] for kind, names in confusion.items()}
        count = entry["examples"]
        by = f"after examples of each kind: {count}" if count else "by the text"
        title = f"{by}; right {entry['right']:.2f} of {entry['images']} images, without a name {entry['none']:.2f}"
        heads = [*given, "no name"]
        right = [[kind == column for column in columns] for kind in rows]
        confusions.append({"title": title, "heads": heads, "rows": list(zip(rows.items(), right, strict=True))})
    return confusions


def _areas(by_kind: Mapping[str, Any], kinds: Iterable[str]) -> list[float | None]:
    """Image AUROC of each kind of defect; None where the method has none."""
    return [by_kind[kind]["image_auroc"] if kind in by_kind else None for kind in kinds]


def _curve_charts(shown: Mapping[str, Unit], colours: Colours) -> dict[str, str]:
    """Caption -> chart, of the curves that there are."""
    drawn = {}
    roc = {name: unit.curves["roc"] for name, unit in shown.items() if "roc" in unit.curves}
    if roc:
        x_title, y_title = "false-positive rate of images", "true-positive rate"
        chart = charts.curve_chart(roc, colours, x_title=x_title, y_title=y_title, diagonal=True)
        drawn["ROC of images"] = chart
    pro = {name: unit.curves["pro"] for name, unit in shown.items() if "pro" in unit.curves}
    if pro:
        x_title, y_title = "false-positive rate of pixels", "region overlap"
        chart = charts.curve_chart(pro, colours, x_title=x_title, y_title=y_title, x_limit=metrics.PRO_LIMIT)
        drawn["PRO of pixels"] = chart
    return drawn


def _histograms(shown: Mapping[str, Unit]) -> dict[str, str]:
    drawn = {}
    for name, unit in shown.items():
        normal = [score["score"] for score in unit.scores if not score["label"]]
        anomalous = [score["score"] for score in unit.scores if score["label"]]
        if normal or anomalous:
            drawn[name] = charts.histogram_chart(normal, anomalous, unit.row["threshold"])
    return drawn


# --- latency ------------------------------------------------------------------------------------------------------


def _part_bars(timed: Sequence[Mapping[str, Any]], colours: Colours) -> list[dict[str, Any]]:
    """The parts of the time at batch 1, on one scale."""
    totals = [sum(row["parts_s"].values()) for row in timed]
    bars = []
    for row, total_s in zip(timed, totals, strict=True):
        chart = charts.stacked_bar(row["parts_s"], colours, max(totals))
        bars.append({"method": row["method"], "chart": chart, "total_ms": 1000 * total_s})
    return bars
