"""The stages of our network, under the names that the official code's outputs were recorded with.

The vision tower starts from images; whatever follows starts from the recorded output of the official tower.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from dynrefer.model.networks.dynrefer.decoders import synonym_maximum
from dynrefer.model.networks.dynrefer.model import DynReferModel
from tests.parity.conftest import Goldens, Views

Outputs = Mapping[str, Tensor]

TIGHT, LOGITS = 1e-5, 1e-4  # relative Frobenius norms: vision to Q-Former, and what follows


def view_major(values: Tensor) -> Tensor:
    """(R, V - 1, ...) -> ((V - 1) * R, ...), the order in which alignment was recorded."""
    return values.transpose(0, 1).flatten(0, 1)


def vision(network: DynReferModel, views: Views) -> Tensor:
    """The vision tower's tokens, (R * V, 1 + P, C), class token first."""
    found = network.encode(views.images.flatten(0, 1))
    assert found.cls is not None
    return torch.cat((found.cls[:, None], found.map.flatten(2).transpose(1, 2)), dim=1)


def region(network: DynReferModel, recorded: Goldens) -> Outputs:
    """RoIAlign, alignment, fusion and Q-Former, caught on their way through `represent`."""
    theirs, caught = recorded.intermediates, dict[str, Tensor]()

    def catch(name: str) -> Callable[..., None]:
        def hook(_module: object, _inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
            caught[name] = output if isinstance(output, Tensor) else output[0]

        return hook

    layers = network.qformer.encoder.layer
    hooks = [
        network.align.offset_mask.register_forward_hook(catch("offset_mask")),
        network.align.register_forward_hook(catch("align")),
        network.fusion.register_forward_hook(catch("cvem_mlp_out")),
        network.qformer.layernorm.register_forward_hook(catch("qformer_embeddings_out")),
        network.fusion.reduce.register_forward_pre_hook(lambda _module, inputs: caught.update(fusion_in=inputs[0])),
        *(layer.register_forward_hook(catch(f"qformer_layer{i}_out")) for i, layer in enumerate(layers)),
    ]
    caught["roi_feats"] = network.pool(recorded.features, theirs["boxes"].flatten(0, 1))
    caught["qformer_out"] = network.represent(recorded.features, theirs["boxes"])
    for hook in hooks:
        hook.remove()
    regions, views = theirs["boxes"].shape[:2]
    split = (regions, views - 1)
    offset_mask = view_major(caught.pop("offset_mask").unflatten(0, split)).flatten(1, 2)
    few = len(theirs["cvem_offset_mask_first4"]), len(theirs["cvem_mlp_in_first2"])
    caught["cvem_offset_mask_first4"] = offset_mask[: few[0]]
    caught["cvem_align_out"] = view_major(caught.pop("align").unflatten(0, split))
    caught["cvem_mlp_in_first2"] = caught.pop("fusion_in")[: few[1]]
    caught["qformer_embeddings_out"] = caught["qformer_embeddings_out"][:1]
    return caught


def representation(network: DynReferModel, recorded: Goldens) -> Tensor:
    """(R, Q, C) of all regions."""
    return network.represent(recorded.features, recorded.intermediates["boxes"])


def recognition(network: DynReferModel, recorded: Goldens) -> Outputs:
    """Tags, attributes and categories, with the recorded text embeddings."""
    found, texts = representation(network, recorded), recorded.embeddings
    hidden = network.tag_decoder.hidden(found, texts["clip_embeds"])
    synonyms = network.region_text_decoder(found, texts["att_embeds"])
    categories = network.region_text_decoder(found, texts["ov_embeds"])
    counts = torch.tensor(recorded.texts["att_len_synonyms"])
    owner = torch.arange(len(counts)).repeat_interleave(counts)
    few = len(recorded.intermediates["tag_head_out_first1"])
    return {
        "tag_head_out_first1": hidden[:few],
        "tag_logits": network.tag_decoder(found, texts["clip_embeds"]),
        "attr_syn_logits": synonyms,
        "attr_scores": synonym_maximum(synonyms, owner, len(counts)).sigmoid(),
        "cls_logits": categories,
        "cls_from_output": categories,
    }


def language(network: DynReferModel, recorded: Goldens) -> Outputs:
    """Projection, control words, encoder and teacher-forced decoder of run A."""
    run = recorded.generation["runs"]["A_brief"]
    found, (ids, mask) = representation(network, recorded), recorded.controls(run["control_words"])
    decoder = network.language
    embeddings, seen = decoder.prompt(found, ids, mask)
    few = recorded.intermediates["t5_teacher_forced_logits_first6_of_A"].shape[1]
    forced = torch.tensor([sequence[:few] for sequence in run["sequences"]])
    encoded = decoder.model.get_encoder()(inputs_embeds=embeddings, attention_mask=seen).last_hidden_state
    return {
        "control_input_ids": ids,
        "control_attention_mask": mask,
        "t5_proj_out": decoder.projection(found),
        "inputs_embeds": embeddings,
        "encoder_attention_mask": seen,
        "t5_encoder_out": encoded,
        "t5_teacher_forced_logits_first6_of_A": decoder.logits(found, ids, mask, forced),
    }


def text(network: DynReferModel, recorded: Goldens) -> Outputs:
    """The text tower on the recorded token ids."""
    return {"text_embeds": network.embed_texts(recorded.embeddings["token_ids"])}


Stage = Callable[[DynReferModel, Goldens], Outputs]
STAGES: tuple[Stage, ...] = (region, recognition, language)
