"""Run by the interpreter of supervision's environment: results of a service become its detections and are drawn by it.

    python in_supervision.py URL IMAGE [PICTURE]

Prints as JSON what supervision then knows. PICTURE: where what its annotators draw is written to.
"""

import json
import sys

import numpy as np
import supervision as sv
from PIL import Image

from dynrefer import Client

URL, IMAGE, *PICTURE = sys.argv[1:]


def known(detections):
    """What a program reads of them."""
    return {
        "xyxy": detections.xyxy.tolist(),
        "dtypes": [str(detections.xyxy.dtype), str(detections.confidence.dtype), str(detections.class_id.dtype)],
        "confidence": detections.confidence.tolist(),
        "class_id": detections.class_id.tolist(),
        "mask": None if detections.mask is None else [list(detections.mask.shape), str(detections.mask.dtype)],
        "mask_bounds": None if detections.mask is None else sv.mask_to_xyxy(detections.mask).tolist(),
        "data": {name: [list(v) if isinstance(v, tuple) else v for v in values] for name, values in lists(detections)},
    }


def lists(detections):
    return [(name, values.tolist()) for name, values in detections.data.items()]


done = {"version": sv.__version__}
with Client(URL) as client:
    found = client.detect(IMAGE, ["dog", "ball"], masks=True, describe=["caption", "tags", "attributes"])
    detections = found.to_supervision(names=["ball", "dog"])
    done["found"] = known(detections)
    done["one"] = known(detections[detections.confidence == detections.confidence.max()])
    done["merged"] = known(sv.Detections.merge([detections[:1], detections[1:]]))
    done["plain"] = known(client.detect(IMAGE, "dog").to_supervision())
    done["described"] = known(client.describe(IMAGE, [(100, 100, 300, 300), (0, 0, 90, 80)]).to_supervision())
    done["nothing"] = len(client.detect(IMAGE, "accordion", threshold=0.99).to_supervision())
    try:
        found.to_supervision(names=["ball"])
    except ValueError as error:
        done["strange"] = str(error)
scene = Image.open(IMAGE).convert("RGB")
labels = [f"{caption} {p:.2f}" for caption, p in zip(detections.data["caption"], detections.confidence, strict=True)]
drawn = sv.MaskAnnotator().annotate(scene.copy(), detections)
drawn = sv.BoxAnnotator().annotate(drawn, detections)
drawn = sv.LabelAnnotator().annotate(drawn, detections, labels)
done["changed"] = float(np.mean(np.any(np.asarray(drawn) != np.asarray(scene), axis=2)))
if PICTURE:
    drawn.save(PICTURE[0])
print(json.dumps(done))
