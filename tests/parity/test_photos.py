"""From an image and a box to tags, categories and a caption, with nothing taken from elsewhere in between."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from dynrefer.model.crops import ViewBatch
from dynrefer.model.networks.dynrefer.model import DynReferModel
from dynrefer.model.views import GreyImage
from tests.goldens_reader import features_of
from tests.parity import reference
from tests.parity.conftest import Comparison, Goldens, Views
from tests.parity.stages import LOGITS, TIGHT
from tests.parity.test_generation import SCORE, settings
from tests.parity.test_views import Case, planned, read_photo

RUN = "C_official_yaml"


def view_batches(recorded: Goldens, source: str) -> list[ViewBatch]:
    """Our views of the regions of a source, in their order; a region's name is "image:box"."""
    if source == "official":
        images = recorded.json("processor.json")["cases"]
        read = {image["file"]: read_photo(recorded.folder / "photos" / image["file"]) for image in images}
    else:
        images = reference.processor_record(recorded.processor)
        read = {image["file"]: reference.read_image(image["file"]) for image in images}
    records = {f"{image['file']}:{each['name']}": (image["file"], each) for image in images for each in image["boxes"]}
    names = recorded.generation["regions"] if source == "official" else list(records)
    batches = []
    for name in names:
        file, record = records[name]
        case = Case(name, read[file], GreyImage(read[file]), record)
        batches.append(planned(case, recorded.config.num_views, recorded.config.view_size)[1])
    return batches


@dataclass(frozen=True)
class Expected:
    """Of every region: representation (R, Q, C), logits (R, T), captions with their scores."""

    representation: Tensor
    tags: Tensor
    categories: Tensor
    captions: list[str]
    scores: list[float]


@pytest.fixture
def expected(network: DynReferModel, recorded: Goldens, source: str, views: Views) -> Expected:
    """What was recorded; of our own images, what follows from the reference's tokens by the parts of the network."""
    theirs, texts, run = recorded.intermediates, recorded.embeddings, recorded.generation["runs"][RUN]
    if source == "official":
        logits = theirs["tag_logits"], theirs["cls_logits"]
        return Expected(theirs["qformer_out"], *logits, run["captions"], run["sequences_scores"])
    region = network.represent(features_of(views.tokens), views.boxes)
    logits = network.tag_decoder(region, texts["clip_embeds"]), network.region_text_decoder(region, texts["ov_embeds"])
    return Expected(region, *logits, *captions_of(network, recorded, region, run))


def captions_of(
    network: DynReferModel, recorded: Goldens, region: Tensor, run: dict[str, Any]
) -> tuple[list[str], list[float]]:
    """Captions and their scores, with a run's control words and settings."""
    ids, mask = recorded.controls(run["control_words"])
    captions = network.language.generate(region, ids, mask, **settings(run))
    return recorded.tokenizer.batch_decode(captions.tokens, skip_special_tokens=True), captions.score.tolist()


def test_from_images(
    network: DynReferModel, recorded: Goldens, source: str, expected: Expected, compare: Comparison
) -> None:
    batches, texts = view_batches(recorded, source), recorded.embeddings
    images = torch.stack([torch.from_numpy(batch.images) for batch in batches])
    boxes = torch.stack([torch.from_numpy(batch.boxes) for batch in batches])
    output = network(images, boxes, texts["clip_embeds"], texts["ov_embeds"])
    compare.tensor("representation", output.representation, expected.representation, TIGHT)
    compare.tensor("tags", output.tag_logits, expected.tags, LOGITS)
    compare.tensor("categories", output.region_text_logits, expected.categories, LOGITS)
    captions, scores = captions_of(network, recorded, output.representation, recorded.generation["runs"][RUN])
    assert captions == expected.captions
    for region, (mine, other) in enumerate(zip(scores, expected.scores, strict=True)):
        compare.number(f"score of region {region}", abs(mine - other) / max(1.0, abs(other)), SCORE)
