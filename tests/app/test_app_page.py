"""The page, as a person uses it, in headless Chromium."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from patchclip import Detector
from patchclip.runtime import load

from .conftest import DEMO, Served

pytestmark = pytest.mark.app

Open = Callable[..., Any]


def teach(page: Any) -> None:
    page.locator("#example-normals").click()
    page.locator("#normals .pc-card").nth(2).wait_for()
    page.get_by_label("What the images show").fill("tile")
    page.get_by_label("Defects to name").fill("crack, hole, scratch")
    page.locator("#learn").click()
    page.get_by_text("Learnt. Go on with 2 Inspect.").wait_for()


def inspect(page: Any) -> None:
    page.get_by_role("tab", name="2 Inspect").click()
    page.locator("#example-images").click()
    page.locator("#verdict .pc-unusual").wait_for()


def move_threshold(page: Any, value: float) -> None:
    page.locator("#threshold input[type=range]").fill(str(value))
    page.locator("#scale").get_by_text(f"threshold {value:.2f}").wait_for()


def score_in_table(page: Any, name: str) -> float:
    return float(page.locator("#table tr", has_text=name).locator("td").nth(2).inner_text())


def test_from_examples_to_files(open_page: Open, tmp_path: Path) -> None:
    page = open_page()
    teach(page)
    inspect(page)
    verdict = page.locator("#verdict")
    assert "Unusual: crack?" in verdict.inner_text()
    assert page.locator("#picture .pc-box").count() == 1
    assert page.locator("#cards .pc-unusual").count() == 1

    # the threshold: all verdicts follow
    move_threshold(page, 0.4)
    verdict.get_by_text("Looks normal").wait_for()
    assert page.locator("#cards .pc-normal").count() == 2
    assert page.locator("#picture .pc-box").count() == 0
    move_threshold(page, 0.1)
    verdict.get_by_text("Unusual").wait_for()
    assert page.locator("#cards .pc-unusual").count() == 2

    # a name for the marked place, normal after all, and back
    page.locator("#kind textarea, #kind input").fill("Riss")
    page.locator("#name-it").click()
    verdict.get_by_text("Unusual: Riss").wait_for()
    page.locator("#mark").click()
    message = page.locator("#correct-message")
    message.get_by_text("counts as normal. The threshold was 0.100 and is").wait_for()
    verdict.get_by_text("Looks normal").wait_for()
    page.locator("#undo").click()
    message.get_by_text("Taken back: “crack.jpg” counts as normal").wait_for()
    verdict.get_by_text("Unusual: Riss").wait_for()

    # both files give the same scores elsewhere
    shown = score_in_table(page, "crack.jpg")
    page.get_by_role("tab", name="3 Take along").click()
    page.locator("#make-files").click()
    page.get_by_text("Both files are ready.").wait_for()
    for elem_id, name in (("saved", "detector.safetensors"), ("exported", "detector.onnx")):
        with page.expect_download() as download:
            page.locator(f"#{elem_id}").click()
        assert download.value.suggested_filename == name
        download.value.save_as(tmp_path / name)
    for detector in (Detector.load(tmp_path / "detector.safetensors"), load(tmp_path / "detector.onnx")):
        result = detector.predict(DEMO / "crack.jpg")
        assert result.score == pytest.approx(shown, abs=6e-4)
        assert result.defect == "Riss"
        assert detector.threshold == pytest.approx(0.1)

    # and the file can be loaded again, in another session
    other = open_page()
    other.get_by_role("tab", name="3 Take along").click()
    other.locator("#detector-file input[type=file]").set_input_files(tmp_path / "detector.safetensors")
    other.get_by_text("Loaded. Go on with 2 Inspect.").wait_for()
    inspect(other)
    assert score_in_table(other, "crack.jpg") == shown
    assert other.locator("#mark").is_disabled()


def test_uploads_that_cannot_be_used(open_page: Open, tmp_path: Path) -> None:
    torn = tmp_path / "torn <b>${1+1}.jpg"
    torn.write_bytes((DEMO / "crack.jpg").read_bytes()[:3000])
    foreign = tmp_path / "notes.txt"
    foreign.write_text("no image")
    page = open_page()
    page.get_by_role("tab", name="2 Inspect").click()
    page.locator("#inspect-files input[type=file]").set_input_files([torn, DEMO / "crack.jpg", foreign])
    broken = page.locator("#cards .pc-broken")
    broken.nth(1).wait_for()
    assert "cannot be used" in broken.nth(0).inner_text()
    assert "no image in a format" in broken.nth(1).inner_text()
    assert page.locator("#cards b").count() == 0
    page.locator("#verdict").get_by_text("crack.jpg").wait_for()  # the one that can be used is shown
    assert "1 unusual, 2 cannot be used" in page.locator("#table").inner_text()
    broken.nth(1).click()
    page.locator("#verdict").get_by_text("This image cannot be used").wait_for()
    page.get_by_role("tab", name="3 Take along").click()
    page.locator("#detector-file input[type=file]").set_input_files(
        {"name": "wrong.safetensors", "mimeType": "application/octet-stream", "buffer": b"no detector"}
    )
    page.locator("#take-message .pc-broken").get_by_text("“wrong.safetensors” cannot be used").wait_for()


def test_two_people_at_once(open_page: Open, served: Served) -> None:
    first, second = open_page(), open_page()
    for page in (first, second):
        page.locator("#learnt").get_by_text("Nothing is learnt yet").wait_for()
    teach(first)
    first.get_by_role("tab", name="2 Inspect").click()
    first.locator("#inspect-files input[type=file]").set_input_files(DEMO / "normal_0.jpg")
    first.locator("#verdict").get_by_text("Looks normal").wait_for()
    second.get_by_role("tab", name="2 Inspect").click()
    second.locator("#cards").get_by_text("Nothing inspected yet.").wait_for()
    second.locator("#inspect-files input[type=file]").set_input_files(DEMO / "crack.jpg")
    second.locator("#cards .pc-card").wait_for()
    assert "Nothing is learnt yet" in second.locator("#learnt").inner_text()
    assert first.locator("#cards .pc-card").count() == second.locator("#cards .pc-card").count() == 1
    assert "crack.jpg" not in first.locator("#table").inner_text()
    private = [path for path in served.files() if "private" in path.parts]
    assert len(private) == 2
    first.close()
    for _ in range(100):
        second.wait_for_timeout(300)
        if len([path for path in served.files() if "private" in path.parts]) == 1:
            break
    else:
        raise AssertionError("the files of a page that was closed are still there")
    second.locator("#cards button").click()


def test_unsorted_images(open_page: Open) -> None:
    page = open_page()
    page.get_by_text("I do not know which images are normal").click()
    page.locator("#unlabelled-files input[type=file]").set_input_files(sorted(DEMO.glob("*.jpg")))
    cards = page.locator("#unlabelled .pc-card")
    cards.nth(4).wait_for()
    assert "crack.jpg" in cards.nth(0).inner_text()
    assert cards.nth(0).get_attribute("aria-pressed") == "false"
    assert cards.nth(4).get_attribute("aria-pressed") == "true"
    ticked = page.locator("#unlabelled .pc-chosen").count()
    cards.nth(4).click()
    page.wait_for_function(
        "count => document.querySelectorAll('#unlabelled .pc-chosen').length === count", arg=ticked - 1
    )
    page.locator("#take-ticked").click()
    page.locator("#normals .pc-card").nth(ticked - 2).wait_for()
    assert page.locator("#normals .pc-card").count() == ticked - 1


def test_keyboard_and_table(open_page: Open) -> None:
    page = open_page()
    inspect(page)
    names = page.locator("#table tbody tr td:first-child")
    assert names.all_inner_texts() == ["crack.jpg", "normal_0.jpg"]
    page.get_by_role("button", name="Score").focus()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Score ▼").wait_for()
    page.get_by_role("button", name="Score ▼").click()
    page.get_by_role("button", name="Score ▲").wait_for()
    assert names.all_inner_texts() == ["normal_0.jpg", "crack.jpg"]
    with page.expect_download() as download:
        page.get_by_text("Download as csv").click()
    lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("image,verdict,score,threshold")
    assert [line.split(",")[0] for line in lines[1:]] == ["crack.jpg", "normal_0.jpg"]


def test_nothing_is_loaded_from_elsewhere(open_page: Open, served: Served) -> None:
    """`open_page` fails on requests to elsewhere; the header makes the browser refuse them too."""
    page = open_page()
    response = page.request.get(served.address)
    assert "default-src 'self'" in response.headers["content-security-policy"]
    assert re.findall(r"""(?:src|href)=["']?https?://""", response.text()) == []
    theme = page.request.get(f"{served.address}theme.css").text()
    assert "http" not in theme.replace("http://www.w3.org/2000/svg", "")
    for path in ("gradio_api/file=http://127.0.0.1:9/", "gradio_api/proxy=http://127.0.0.1:9/", "openapi.json"):
        assert page.request.get(served.address + path).status in (403, 404)
    assert page.request.get(f"{served.address}gradio_api/file=/etc/passwd").status == 403


def test_a_password(open_page: Open, tmp_path: Path) -> None:
    process = Served(tmp_path, PATCHCLIP_APP_AUTH="anna:secret")
    try:
        for password, seen in (("wrong", "text=Incorrect Credentials"), ("secret", "#learn")):
            page = open_page(process.address)
            page.locator("input").first.fill("anna")
            page.locator("input").nth(1).fill(password)
            page.get_by_role("button", name="Login").click()
            page.locator(seen).wait_for()
            page.context.close()  # before the server ends, since it may still load parts
    finally:
        process.stop()
    assert process.files() == []
