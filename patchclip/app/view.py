"""What the page shows of a session: part of the page -> its properties, as Gradio names them."""

from __future__ import annotations

from typing import Any

from . import html, scale, table, words
from .html import Card
from .photos import Photo
from .session import Session

Props = dict[str, dict[str, Any]]

#: Parts of the page that belong together, so that what does not change is not sent.
TEACH = ("normals", "teach_summary", "unlabelled", "unlabelled_summary", "take_ticked", "clear_normals")
JUDGED = (
    *("cards", "verdict", "picture", "scale", "table", "origin"),
    *("place", "undo", "mark", "name_row", "saved", "exported"),
)
INSPECT = (*JUDGED, "threshold", "clear_inspected")
TAKE_ALONG = ("make_files", "saved", "exported")
ALL = tuple(dict.fromkeys(("learnt", *TEACH, *INSPECT, *TAKE_ALONG)))


def render(session: Session, names: tuple[str, ...]) -> Props:
    """These parts, as they should be now."""
    parts: Props = {}
    if set(names) & {*TEACH, "learnt"}:
        parts |= _teach(session)
    if set(names) & set(INSPECT):
        parts |= _inspect(session)
    parts["make_files"] = {"interactive": session.has_learnt}
    for name, path in (("saved", session.saved), ("exported", session.exported)):
        parts[name] = {"value": None if path is None else str(path), "visible": path is not None}
    return {name: parts[name] for name in names}


# --- teach ------------------------------------------------------------------------------------------------------------


def _teach(session: Session) -> Props:
    scores = session.normal_scores()
    cards = []
    for index, photo in enumerate(session.normals):
        note, kind = "not learnt yet", "plain"
        if index in scores:
            score, is_unlike = scores[index]
            note, kind = (f"unlike the others: {score:.2f}", "unusual") if is_unlike else (f"{score:.2f}", "normal")
        cards.append(_photo_card(photo, index, note, kind, "remove", "Remove"))
    empty = "No normal images yet. Four are enough to begin with; twenty make the threshold dependable."
    ticking = session.unlabelled
    ticks = []
    for index, score in ticking.in_order():
        is_ticked = index in ticking.ticked
        note = f"{score:.2f}, normal" if is_ticked else f"{score:.2f}"
        kind = "normal" if is_ticked else "plain"
        card = _photo_card(ticking.photos[index], index, note, kind, "tick", "Tick or untick", is_chosen=is_ticked)
        ticks.append(card)
    for index, photo in enumerate(ticking.photos):
        if photo.problem is not None:
            ticks.append(_photo_card(photo, index, "", "broken", None, ""))
    return {
        "learnt": {"value": html.message(words.learnt(session.detector, session.file_name))},
        "normals": {"value": html.cards(cards, empty=empty)},
        "teach_summary": {"value": html.message(_teach_summary(session, scores))},
        "unlabelled": {"value": html.cards(ticks, empty="") if ticks else ""},
        "unlabelled_summary": {"value": html.message(_unlabelled_summary(session))},
        "take_ticked": {"visible": bool(ticks), "interactive": bool(ticking.ticked)},
        "clear_normals": {"interactive": bool(session.normals)},
    }


def _photo_card(
    photo: Photo, index: int, note: str, kind: str, action: str | None, hint: str, *, is_chosen: bool = False
) -> Card:
    if photo.problem is not None:
        note, kind = photo.problem, "broken"
    return Card(
        index=index,
        name=photo.name,
        note=note,
        kind=kind,
        picture=photo.thumbnail,
        is_chosen=is_chosen,
        action=action,
        hint=hint,
    )


def _teach_summary(session: Session, scores: dict[int, tuple[float, bool]]) -> str:
    if not session.normals:
        return ""
    if not scores:
        return "Click an image to remove it. Press Learn, and each gets a score."
    unlike = sum(is_unlike for _, is_unlike in scores.values())
    text = "The number is how unlike the others an image is: 0 is just like them. Click an image to remove it."
    if unlike:
        text = (
            f"{words.count(unlike, 'image')} marked: look whether it shows a defect, remove it, and learn again. {text}"
        )
    return text


def _unlabelled_summary(session: Session) -> str:
    if not session.unlabelled.in_order():
        return ""
    unusual = session.unlabelled.unusual_count
    stand_out = "none stands apart, so the more normal half is ticked"
    if unusual is not None:
        stand_out = f"the first {unusual} stand apart from the rest, which is ticked"
    return f"The least like the others come first: {stand_out}. Click the images to tick those that are normal."


# --- inspect ----------------------------------------------------------------------------------------------------------


def _inspect(session: Session) -> Props:
    detector, item = session.detector, session.shown()
    threshold = 0.5 if detector is None else detector.threshold
    normal_scores = [] if detector is None else [normal.score for normal in detector.normal_scores_]
    inspected = [other.score for other in session.inspected if other.result is not None]
    end = scale.upper_end([*normal_scores, *inspected], threshold)
    result = None if item is None else item.result
    regions = 0 if result is None else len(result.regions)
    undo = session.undo_text
    return {
        "cards": {"value": _inspected_cards(session)},
        "verdict": {"value": _verdict(session)},
        "picture": {"value": _picture(session)},
        "scale": {
            "value": ""
            if detector is None
            else scale.draw(normal_scores, threshold, inspected, None if result is None else result.score, end)
        },
        "threshold": {"value": round(threshold, 3), "maximum": end, "interactive": detector is not None},
        "origin": {"value": "" if detector is None else html.message(words.threshold_origin(detector))},
        "table": {"value": table.to_html(session.inspected, session.sort, session.selected)},
        "place": {"visible": regions > 1, "maximum": max(1, regions), "value": 1},
        "name_row": {"visible": regions > 0 and session.has_learnt},
        "mark": {"interactive": result is not None and session.can_correct},
        "undo": {"visible": undo is not None, "value": f"Take back: {undo}"},
        "clear_inspected": {"interactive": bool(session.inspected)},
    }


def _inspected_cards(session: Session) -> str:
    cards = []
    for index, item in enumerate(session.inspected):
        kind, note = "broken", item.problem or ""
        if item.result is not None:
            kind = "unusual" if item.is_anomalous else "normal"
            note = f"{item.score:.2f} {item.result.defect or table.verdict_of(item)}"
        card = Card(
            index=index,
            name=item.photo.name,
            note=note,
            kind=kind,
            picture=item.thumbnail(),
            is_chosen=index == session.selected,
            action="show",
            hint="Show",
        )
        cards.append(card)
    return html.cards(cards, empty="Nothing inspected yet.")


def _verdict(session: Session) -> str:
    item = session.shown()
    if item is None:
        return '<p class="pc-empty pc-tall">The image that you choose is shown here, with what is unusual in it.</p>'
    if item.result is None:
        return html.verdict("This image cannot be used", item.problem or "", [], kind="broken", name=item.photo.name)
    headline, sentence = words.verdict(item.result)
    kind = "unusual" if item.is_anomalous else "normal"
    return html.verdict(headline, sentence, words.places(item.result), kind=kind, name=item.photo.name)


def _picture(session: Session) -> str:
    item = session.shown()
    view = None if item is None else item.view()
    if item is None or item.result is None or view is None:
        return ""
    return html.picture(view, item.result, [region.defect or "" for region in item.result.regions])
