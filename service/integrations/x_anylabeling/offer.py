"""What X-AnyLabeling's window shows of a model: the tasks, and the controls that each of them has.

The names of controls are those of the program's own window (`RemoteServer` of x-anylabeling-cvhub 4.2.1).
"""

from dataclasses import dataclass
from typing import Any

from dynrefer.model import ModelCard

# A threshold of 0 is what the window shows at first, and stands for the finder's own.
THRESHOLD = {"input_conf": {}, "edit_conf": {"tooltip": "Least score; 0 leaves it to the model."}}
OVERLAP = {"input_iou": {}, "edit_iou": {"tooltip": "Boxes of one name that overlap by more are one object."}}
OUTLINE: dict[str, dict[str, str]] = {"mask_fineness_slider": {}, "mask_fineness_value_label": {}}
KEEP: dict[str, dict[str, str]] = {"toggle_preserve_existing_annotations": {}}
FIND = {**THRESHOLD, **OVERLAP, **KEEP}


@dataclass(frozen=True, slots=True)
class OfferedTask:
    """name: in the window's list, which shows ten characters of it. controls: what the window shows with it, and their
    texts.

    batch: how the program runs it over all images: "default", "text_prompt" (asks for the text first), or not at all.
    needs: of the model: "detection", or a prompt. masks: whether its shapes are outlines and not boxes.
    """

    name: str
    controls: dict[str, dict[str, str]]
    batch: str | None = "default"
    needs: str = "box"
    masks: bool = False


NAMES = {"edit_text": {"placeholder": "dog, leash, traffic light"}, "button_send": {}}
SENTENCE = {"edit_text": {"placeholder": "a man in a red coat beside a dog"}, "button_send": {}}

FIND_NAMES, FIND_NAMES_MASKS, FIND_SENTENCE = "find_names", "find_names_masks", "find_sentence"
FIND_ALL, FIND_ALL_MASKS = "find_all", "find_all_masks"
DESCRIBE_BOXES, OUTLINE_CLICKED, DESCRIBE_IMAGE = "describe_boxes", "outline_clicked", "describe_image"

TASKS = {
    FIND_NAMES: OfferedTask("Names", {**NAMES, **FIND}, "text_prompt", "detection"),
    FIND_NAMES_MASKS: OfferedTask("Name outlines", {**NAMES, **FIND, **OUTLINE}, "text_prompt", "detection", True),
    FIND_SENTENCE: OfferedTask("Sentence", {**SENTENCE, **FIND}, "text_prompt", "detection"),
    FIND_ALL: OfferedTask("Everything", {"button_run": {}, **FIND}, needs="detection"),
    FIND_ALL_MASKS: OfferedTask("All outlines", {"button_run": {}, **FIND, **OUTLINE}, needs="detection", masks=True),
    DESCRIBE_BOXES: OfferedTask("My boxes", {"add_pos_rect": {}, "button_run_rect": {}, "button_clear": {}}, None),
    OUTLINE_CLICKED: OfferedTask(
        "Clicks",
        {
            **{"button_add_point": {}, "button_remove_point": {}, "button_clear": {}, "button_finish_object": {}},
            **OUTLINE,
        },
        None,
        "points",
        True,
    ),
    DESCRIBE_IMAGE: OfferedTask("Image", {"button_run": {}}),
}
# What the controls are set to when the model is chosen.
VALUES = {"edit_conf": 0.0, "edit_iou": 0.5, "mask_fineness_slider": 10, "toggle_preserve_existing_annotations": False}


def offered(card: ModelCard) -> dict[str, OfferedTask]:
    """The tasks that a model can do, by their ids."""
    able = {*card.prompts, *(("detection",) if card.detection else ())}
    return {name: task for name, task in TASKS.items() if task.needs in able}


def described(card: ModelCard) -> dict[str, Any]:
    """A model as the program reads it."""
    tasks = offered(card)
    controls = dict.fromkeys(control for task in tasks.values() for control in task.controls)
    return {
        "display_name": f"DynRefer ({card.name})",
        "widgets": [{"name": name, "value": VALUES.get(name)} for name in controls],
        "params": {},
        "available_tasks": [
            {"id": name, "name": task.name, "active_widgets": task.controls, "batch_processing_mode": task.batch}
            for name, task in tasks.items()
        ],
    }
