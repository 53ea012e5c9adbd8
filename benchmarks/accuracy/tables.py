"""The tables of a run as Markdown: for the terminal, table.md and RESULTS.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from accuracy.results import Run, Unit
from environment import one_line

#: metric -> head of its column, in the tables for people.
COLUMNS = {
    "image_auroc": "image AUROC",
    "image_ap": "AP",
    "image_f1_max": "F1-max",
    "accuracy": "accuracy",
    "false_positive_rate": "FPR",
    "recall": "recall",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "aupro": "AUPRO",
    "name_accuracy": "name",
}


def shown_columns(summary: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The columns in which any row has a value."""
    return {name: head for name, head in COLUMNS.items() if any(row[name] for row in summary)}


#: Metrics that a table gives the spread and the worst of the seeds of, and metrics with their interval.
_WITH_WORST = ("image_auroc", "pixel_auroc")
_WITH_INTERVAL = ("image_auroc", "aupro")


def cell(value: Mapping[str, Any] | None, *, worst: bool = False, interval: bool = False) -> str:
    """ "0.812", with the worst of several seeds "0.812 ± 0.010 (0.795)", with the interval "0.812 [0.770, 0.850]"."""
    if value is None:
        return "–"
    parts = [f"{value['mean']:.3f}"]
    if worst and value["sd"] is not None:
        parts.append(f"± {value['sd']:.3f} ({value['worst']:.3f})")
    if interval:
        parts.append(f"[{value['low']:.3f}, {value['high']:.3f}]")
    return " ".join(parts)


def summary_table(summary: Sequence[Mapping[str, Any]], *, timed: bool = True) -> str:
    """One row for each category, method and number of shots; with seconds an image where it is timed."""
    columns = shown_columns(summary)
    several = len({(row["dataset"], row["category"]) for row in summary}) > 1
    head = ["method", "shots", "images", *columns.values(), *(["s/image"] if timed else [])]
    lines = []
    for row in summary:
        values = [
            cell(row[metric], worst=metric in _WITH_WORST, interval=metric in _WITH_INTERVAL) for metric in columns
        ]
        images = f"{row['images'] - row['anomalous']} + {row['anomalous']}"
        shots = f"{row['shots']} x {row['seeds']}" if row["seeds"] > 1 else f"{row['shots']}"
        line = [row["method"], shots, images, *values]
        if timed:
            line.append(f"{row['seconds_per_image']:.3f}")
        lines.append([category_name(row), *line] if several else line)
    return markdown(["data", *head] if several else head, lines)


def category_name(row: Mapping[str, Any]) -> str:
    """ "dataset/category", or one word where both are the same."""
    return row["category"] if row["category"] == row["dataset"] else f"{row['dataset']}/{row['category']}"


#: What the columns of the summary mean; of those without times, and of all.
UNTIMED_LEGEND = (
    "mean ± standard deviation over seeds (worst seed) [95 % bootstrap interval over images]; shots x seeds, each of "
    "which draws other references; images: normal + "
    "anomalous; accuracy, FPR (normal images flagged) and recall (anomalous images flagged) at the method's own "
    "threshold, which aims at an FPR of 0.05 unless the command says otherwise; AUPRO up to an FPR of 0.3; name: "
    "rightly named among the defects that were flagged."
)
LEGEND = UNTIMED_LEGEND.removesuffix(".") + "; s/image with decoding."


LATENCY_HEAD = (
    "method",
    "shots",
    "batch",
    "median ms",
    "p95 ms",
    "images/s",
    "bare forward ms",
    "ratio",
    "peak MB",
    "runs",
)


def latency_cells(row: Mapping[str, Any]) -> list[str]:
    """Under `LATENCY_HEAD`."""
    return [
        row["method"],
        str(row["shots"]),
        str(row["batch"]),
        f"{1000 * row['median_s']:.1f}",
        f"{1000 * row['p95_s']:.1f}",
        f"{row['images_per_second']:.1f}",
        f"{1000 * row['bare_forward_s']:.1f}",
        f"{row['ratio']:.2f}",
        f"{row['peak_memory_mb']:.0f}",
        str(row["repetitions"]),
    ]


def latency_table(latency: Sequence[Mapping[str, Any]]) -> str:
    """One row for each method and batch size."""
    return markdown(LATENCY_HEAD, [latency_cells(row) for row in latency])


def parts_table(latency: Sequence[Mapping[str, Any]]) -> str:
    """Milliseconds of each part at batch 1; empty without any."""
    timed = [row for row in latency if row.get("parts_s")]
    if not timed:
        return ""
    names = list(dict.fromkeys(name for row in timed for name in row["parts_s"]))
    lines = []
    for row in timed:
        parts_s = row["parts_s"]
        cells = [f"{1000 * parts_s[name]:.1f}" if name in parts_s else "–" for name in names]
        lines.append([row["method"], str(row["shots"]), *cells])
    return markdown(["ms at batch 1", "shots", *names], lines)


def document(run: Run) -> str:
    """All tables of a run, with the command and the machine: table.md."""
    blocks = [
        f"`{run.environment['command']}`",
        one_line(run.environment),
        summary_table(run.summary),
        LEGEND,
        course_tables(run.units),
        names_table([unit.row for unit in run.units]),
    ]
    if run.latency:
        blocks += [latency_table(run.latency), parts_table(run.latency)]
    blocks.append("\n".join(f"- {problem}" for problem in run.problems))
    return "\n\n".join(block for block in blocks if block) + "\n"


# --- the course's layout ------------------------------------------------------------------------------------------

_COURSE_HEAD = (
    "class",
    "total",
    "correct",
    "accuracy",
    "normal similarity",
    "anomaly similarity",
    "seconds",
    "s/image",
)


def course_tables(units: Sequence[Unit]) -> str:
    """The course's table of each method on a course layout, first seed; empty without one."""
    blocks = []
    for unit in units:
        row = unit.row
        if row["layout"] != "course" or row["seed"] != 0:
            continue
        groups = {
            "normal": [score for score in unit.scores if not score["label"]],
            "anomaly": [score for score in unit.scores if score["label"]],
            "all": unit.scores,
        }
        lines = [_course_line(name, scores) for name, scores in groups.items() if scores]
        title = f"{row['dataset']}, {row['method']}"
        blocks.append(f"{title}, {row['shots']} references a class\n\n{markdown(_COURSE_HEAD, lines)}")
        if row.get("training"):
            blocks.append(f"{title}, training\n\n{_training_table(row['training'])}")
    return "\n\n".join(blocks)


def _course_line(name: str, scores: Sequence[Mapping[str, Any]]) -> list[str]:
    total = len(scores)
    correct, accuracy = "–", "–"
    decided = [score for score in scores if score["threshold"] is not None]
    if decided:
        right = sum((score["score"] > score["threshold"]) == bool(score["label"]) for score in decided)
        correct, accuracy = str(right), f"{100 * right / total:.2f} %"
    similarities = ["–", "–"]
    known = [score["similarity"] for score in scores if score["similarity"]]
    if known:
        similarities = [f"{value:.4f}" for value in np.mean(known, axis=0)]
    seconds = sum(score["elapsed_s"] for score in scores)
    return [name, str(total), correct, accuracy, *similarities, f"{seconds:.2f}", f"{seconds / total:.4f}"]


def _training_table(epochs: Sequence[Mapping[str, Any]]) -> str:
    best = min(epochs, key=lambda epoch: epoch["loss"])
    lines = []
    for epoch in epochs:
        kept = " (kept)" if epoch is best else ""
        lines.append([f"{epoch['epoch']:.0f}{kept}", f"{epoch['loss']:.4f}", f"{epoch['accuracy']:.4f}"])
    return markdown(["epoch", "loss", "accuracy"], lines)


# --- names of defects -------------------------------------------------------------------------------------------------

_NAMES_HEAD = (
    "data",
    "shots x seeds",
    "examples of a kind",
    "right",
    "no name",
    "right of the names shown",
    "likeliest kind right",
    "no name: kind not taught",
    "no name: kinds taught",
)


def names_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Names of defects by the text and after examples, mean over the seeds; empty where none were measured."""
    groups: dict[tuple[str, str, int, int], list[Mapping[str, Any]]] = {}
    for row in rows:
        for entry in row.get("names", ()):
            key = (row["dataset"], row["category"], row["shots"], entry["examples"])
            groups.setdefault(key, []).append(entry)
    lines = []
    for (dataset, category, shots, examples), entries in groups.items():
        data = category if category == dataset else f"{dataset}, {category}"
        columns = ("right", "none", "right_of_shown", "likeliest", "untaught_none", "taught_none")
        cells = [_mean_cell([entry[column] for entry in entries]) for column in columns]
        lines.append([data, f"{shots} x {len(entries)}", str(examples) if examples else "text", *cells])
    return markdown(_NAMES_HEAD, lines) if lines else ""


def _mean_cell(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{np.mean(known):.2f}" if known else "–"


# --- Markdown -----------------------------------------------------------------------------------------------------


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with aligned columns."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    ruler = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    first, *others = [_line(cells, widths) for cells in (head, *rows)]
    return "\n".join([first, ruler, *others])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(text.ljust(width) for text, width in zip(cells, widths, strict=True)) + " |"
