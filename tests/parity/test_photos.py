"""From a photo and a box to tags, categories and a caption, with nothing recorded in between."""

import torch

from dynrefer.model.crops import ViewBatch
from dynrefer.model.networks.dynrefer.model import DynReferModel
from dynrefer.model.views import GreyImage
from tests.parity.conftest import Comparison, Goldens
from tests.parity.stages import LOGITS, TIGHT
from tests.parity.test_generation import SCORE, settings
from tests.parity.test_views import Case, planned, read_photo


def view_batches(recorded: Goldens) -> list[ViewBatch]:
    """Our views of the recorded regions, in their order; a region's name is "photo:box"."""
    records = {
        f"{photo['file']}:{record['name']}": (photo["file"], record)
        for photo in recorded.json("processor.json")["cases"]
        for record in photo["boxes"]
    }
    batches = []
    for region in recorded.generation["regions"]:
        file, record = records[region]
        image = read_photo(recorded.folder / "photos" / file)
        case = Case(region, image, GreyImage(image), record)
        batches.append(planned(case, recorded.config.num_views, recorded.config.view_size)[1])
    return batches


def test_from_photos(network: DynReferModel, recorded: Goldens, compare: Comparison) -> None:
    batches, theirs, texts = view_batches(recorded), recorded.intermediates, recorded.embeddings
    images = torch.stack([torch.from_numpy(batch.images) for batch in batches])
    boxes = torch.stack([torch.from_numpy(batch.boxes) for batch in batches])
    output = network(images, boxes, texts["clip_embeds"], texts["ov_embeds"])
    compare.tensor("representation", output.representation, theirs["qformer_out"], TIGHT)
    compare.tensor("tags", output.tag_logits, theirs["tag_logits"], LOGITS)
    compare.tensor("categories", output.region_text_logits, theirs["cls_logits"], LOGITS)
    run = recorded.generation["runs"]["C_official_yaml"]
    ids, mask = recorded.controls(run["control_words"])
    captions = network.language.generate(output.representation, ids, mask, **settings(run))
    assert recorded.tokenizer.batch_decode(captions.tokens, skip_special_tokens=True) == run["captions"]
    for region, (mine, other) in enumerate(zip(captions.score.tolist(), run["sequences_scores"], strict=True)):
        compare.number(f"score of region {region}", abs(mine - other) / max(1.0, abs(other)), SCORE)
