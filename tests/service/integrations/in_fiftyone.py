"""Run by the interpreter of FiftyOne's environment: what a service finds and describes, as FiftyOne's labels.

    python in_fiftyone.py URL IMAGE [PICTURE]

A `Dataset` needs MongoDB, which cannot be had here; samples without one hold the labels, and `apply_model` is taken the
way that it takes per sample: `read`, `predict`, `add_labels`. Prints as JSON what the samples then hold. PICTURE: where
what FiftyOne draws is written to.
"""

import json
import sys

import eta.core.image as etai
import fiftyone as fo
import fiftyone.core.models as fom
import fiftyone.utils.image as foui
import numpy as np

from dynrefer import Client
from dynrefer.service.client.fiftyone_model import DescribingModel, FindingModel

URL, IMAGE, *PICTURE = sys.argv[1:]


def held(sample, field):
    """What a program reads of a sample's detections."""
    return [
        {
            **{name: each[name] for name in each.field_names if name not in ("id", "mask", "mask_path")},
            "mask": None
            if each.mask is None
            else [list(each.mask.shape), str(each.mask.dtype), float(each.mask.mean())],
        }
        for each in sample[field].detections
    ]


done = {"version": fo.__version__}
sample = fo.Sample(filepath=IMAGE)
pixels = foui.read(IMAGE)
with Client(URL) as client:
    model = FindingModel(client, ["dog", "ball"], describe=["caption", "tags", "attributes"], masks=True)
    assert isinstance(model, fom.Model) and model.media_type == "image" and not model.ragged_batches
    with model:
        sample.add_labels(model.predict(pixels), label_field="found")
        several = model.predict_all([pixels, pixels[:, :, 0], pixels[:300]])
    done["found"], done["sizes"] = held(sample, "found"), [len(each.detections) for each in several]
    boxes = [fo.Detection(label="mine", bounding_box=[0.1, 0.2, 0.5, 0.6], confidence=0.25, by="a person")]
    boxes += [found.copy() for found in sample["found"].detections[:1]]
    sample["ground_truth"] = fo.Detections(detections=boxes)
    sample["nothing"] = fo.Detections()
    describing = DescribingModel(client, "ground_truth")
    assert isinstance(describing, fom.SamplesMixin) and describing.needs_fields == {"detections": "ground_truth"}
    sample.add_labels(describing.predict(pixels, sample=sample), label_field="described")
    done["described"] = held(sample, "described")
    done["empty"] = len(DescribingModel(client, "nothing").predict(pixels, sample=sample).detections)
    done["batch"] = [len(each.detections) for each in describing.predict_all([pixels] * 2, samples=[sample] * 2)]
    try:
        DescribingModel(client, "missing").predict(pixels, sample=sample)
    except ValueError as error:
        done["missing"] = str(error)
if PICTURE:
    from fiftyone.utils.annotations import draw_labeled_image

    draw_labeled_image(sample, PICTURE[0], label_fields=["found"], show_all_confidences=True)
    done["drawn"] = list(np.shape(etai.read(PICTURE[0])))
print(json.dumps(done))
