"""What is on the page: its parts by their names, in tabs; what they do is in `page`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import html
from .photos import MAX_BYTES, MAX_PHOTOS

ASSETS = Path(__file__).parent.parent / "assets" / "app"

_BOUNDS = f"up to {MAX_PHOTOS}, of {MAX_BYTES // 2**20} MB each"

_TITLE = """<div class="pc-title"><h1>patchclip</h1>
<p>Shows what is unusual in a photograph, after a look at a few normal ones.</p></div>"""

_COMMANDS = """\
patchclip predict photos/ --detector detector.safetensors --out run
patchclip predict photos/ --detector detector.onnx --out run"""

_TWO_FILES = """Both files judge as this page does, with the threshold that is set now. The first can be loaded here
again; the second needs no PyTorch where it is used. In place of photos/ name your folder of images."""

Parts = dict[str, Any]


def build(gr: Any) -> Parts:
    """All parts, within the `gr.Blocks` that is open.

    Args:
        gr: the module gradio.
    """
    gr.HTML(_TITLE)
    parts = {"learnt": gr.HTML(html.message("Loading the model. This takes some seconds."), elem_id="learnt")}
    with gr.Tab("1 Teach", id="teach"):
        _step(
            gr, "Show what is normal.", "Add photographs of good parts, taken as later ones will be, and press Learn."
        )
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                parts |= _teaching(gr)
            with gr.Column(scale=3, min_width=320):
                parts["teach_message"] = gr.HTML(elem_id="teach-message")
                parts["normals"] = _clickable(gr, "normals")
                parts["teach_summary"] = gr.HTML()
    with gr.Tab("2 Inspect", id="inspect"):
        _step(gr, "Look at new images.", "Each gets a score, a verdict and a picture of what is unusual in it.")
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                parts |= _inspecting(gr)
            with gr.Column(scale=3, min_width=320):
                parts |= _judging(gr)
        parts["table"] = _clickable(gr, "table")
    with gr.Tab("3 Take along", id="take"):
        _step(gr, "Use it elsewhere.", "What was learnt, as files for the command line and for other machines.")
        with gr.Row():
            parts |= _taking_along(gr)
    return parts


def _step(gr: Any, what: str, more: str) -> None:
    gr.HTML(f'<p class="pc-step"><b>{what}</b> {more}</p>')


def _clickable(gr: Any, elem_id: str) -> Any:
    """HTML whose elements with `data-act` report clicks."""
    return gr.HTML(js_on_load=(ASSETS / "page.js").read_text(encoding="utf-8"), elem_id=elem_id)


def _teaching(gr: Any) -> Parts:
    parts = {
        "normal_files": gr.File(
            label=f"Normal images ({_BOUNDS})", file_count="multiple", height=170, elem_id="normal-files"
        )
    }
    with gr.Row():
        parts["example_normals"] = gr.Button("Use example images", size="sm", min_width=110, elem_id="example-normals")
        parts["clear_normals"] = gr.Button("Remove all", size="sm", min_width=90, interactive=False)
    with gr.Accordion("I do not know which images are normal", open=False):
        parts["unlabelled_files"] = gr.File(
            label=f"Unsorted images, most of them normal ({_BOUNDS})",
            file_count="multiple",
            height=160,
            elem_id="unlabelled-files",
        )
        parts["unlabelled_summary"] = gr.HTML()
        parts["unlabelled"] = _clickable(gr, "unlabelled")
        parts["take_ticked"] = gr.Button(
            "Use the ticked images as normal ones", visible=False, size="sm", elem_id="take-ticked"
        )
    parts["object_name"] = gr.Textbox(
        label="What the images show", info="A word or two; may be left empty.", placeholder="tile", max_length=60
    )
    parts["defects"] = gr.Textbox(
        label="Defects to name",
        info="With commas between them; may be left empty.",
        placeholder="crack, hole, scratch",
        max_length=300,
    )
    parts["learn"] = gr.Button("Learn", variant="primary", elem_id="learn")
    return parts


def _inspecting(gr: Any) -> Parts:
    parts = {
        "inspect_files": gr.File(
            label=f"Images to inspect ({_BOUNDS})", file_count="multiple", height=170, elem_id="inspect-files"
        )
    }
    with gr.Row():
        parts["example_images"] = gr.Button("Use example images", size="sm", min_width=110, elem_id="example-images")
        parts["clear_inspected"] = gr.Button("Remove all", size="sm", min_width=90, interactive=False)
    with gr.Accordion("Camera", open=False):
        parts["camera"] = gr.Image(sources=["webcam"], type="filepath", format="png", show_label=False, height=260)
        parts["snap"] = gr.Button("Inspect this picture", size="sm")
    parts["cards"] = _clickable(gr, "cards")
    return parts


def _judging(gr: Any) -> Parts:
    parts = {
        "inspect_message": gr.HTML(elem_id="inspect-message"),
        "verdict": gr.HTML(elem_id="verdict"),
        "picture": _clickable(gr, "picture"),
        "scale": gr.HTML(elem_id="scale"),
        "threshold": gr.Slider(
            0,
            1,
            0.5,
            step=0.001,
            label="Threshold",
            interactive=False,
            elem_id="threshold",
            info="Unusual is what scores above it.",
        ),
        "origin": gr.HTML(elem_id="origin"),
        "mark": gr.Button("This image is normal after all", interactive=False, elem_id="mark"),
    }
    with gr.Row(visible=False, elem_id="name-row") as parts["name_row"]:
        parts["place"] = gr.Number(
            1, label="Marked place", minimum=1, maximum=1, precision=0, visible=False, min_width=110, scale=1
        )
        parts["kind"] = gr.Textbox(
            label="What is marked here? Teach its name.",
            placeholder="crack",
            max_length=60,
            scale=3,
            min_width=160,
            elem_id="kind",
        )
        parts["name_it"] = gr.Button("Teach", scale=2, min_width=140, elem_id="name-it")
    parts["correct_message"] = gr.HTML(elem_id="correct-message")
    parts["undo"] = gr.Button("Take back", visible=False, size="sm", elem_id="undo")
    return parts


def _taking_along(gr: Any) -> Parts:
    parts = {}
    with gr.Column(min_width=320):
        parts["make_files"] = gr.Button("Make the files", variant="primary", interactive=False, elem_id="make-files")
        parts["take_message"] = gr.HTML(elem_id="take-message")
        parts["saved"] = gr.DownloadButton("Download detector.safetensors", visible=False, elem_id="saved")
        parts["exported"] = gr.DownloadButton("Download detector.onnx", visible=False, elem_id="exported")
        gr.Code(_COMMANDS, language="shell", label="The commands that use them", interactive=False)
        gr.HTML(f'<p class="pc-caption">{_TWO_FILES}</p>')
    with gr.Column(min_width=320):
        parts["detector_file"] = gr.File(
            label="Load a detector (.safetensors)", file_types=[".safetensors"], height=170, elem_id="detector-file"
        )
    return parts
