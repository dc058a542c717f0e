"""`python -m benchmarks.vocabularies`: what words of a request's own cost, once they are cached.

Over HTTP with the embedded model, whose words are placed in the graph of nouns; and in process with its network alone,
whose text tower is asked about every word, as that of official weights is; and of the recognition decoders alone at
the official sizes. Own words and others take turns.

    1,000 categories    one request of one region: its time with 1,000 categories, of the time with the model's own
    32 vocabularies     32 clients at a time, each with 50 categories and 50 tags of its own, of the time with one
                        vocabulary for all

Ratios are those of processor time (the service's processes, image workers included) and of time on the clock, medians
over the turns; on a shared machine the first says more. Writes results/vocabularies.json.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from dynrefer.model.images import upright_pixels
from dynrefer.model.loading import EMBEDDED, load_model
from dynrefer.model.networks.dynrefer.config import preset
from dynrefer.model.networks.dynrefer.decoders import PreparedTexts, RecognitionDecoder
from dynrefer.model.predictor import DynRefer
from dynrefer.model.text_embeddings import padded
from dynrefer.model.types import RegionQuery
from dynrefer.model.vocabulary_entries import read_vocabulary
from dynrefer.workbench.profiling.machine import provenance
from tests.repository import DOCS
from tests.service.conftest import in_base64
from tests.service.server.test_process import Server, running

RESULT = Path(__file__).parent / "results" / "vocabularies.json"
SCENE, BOX = DOCS / "scene.png", [41, 2, 117, 82]
CATEGORIES, CLIENTS, WORDS = 1_000, 32, 50
OFFICIAL = (4_585, 474, 80)  # tags, prompts of attributes, categories
TURNS, REQUESTS = 5, 2  # how often the two ways take turns; requests of a client, or in a row, in each turn
MOST = {"1,000 categories": 2.0, "32 vocabularies": 1.3}  # what the ratios are to stay below

Vocabulary = dict[str, list[str]] | None


def words() -> list[str]:
    """3,200 distinct things: the names of the evidence, and kinds of them."""
    names = json.loads((EMBEDDED / "evidence" / "names.json").read_text(encoding="utf-8"))["names"]
    own = [entry["name"] for entry in names]
    return list(
        dict.fromkeys([*own, *(f"{kind} {name}" for kind in ("tiny", "huge", "wooden", "old") for name in own)])
    )


def vocabularies(listed: Sequence[str]) -> list[Vocabulary]:
    """One per client; no two share a word."""
    step = 2 * WORDS
    parts = [listed[first : first + step] for first in range(0, CLIENTS * step, step)]
    return [{"categories": part[:WORDS], "tags": part[WORDS:]} for part in parts]


def processor_s(server: Server) -> float:
    """Processor time of the service's process and of its living children so far."""
    ticks, wanted = os.sysconf("SC_CLK_TCK"), {server.process.pid}
    total = 0.0
    stats = {int(each.name): each for each in Path("/proc").iterdir() if each.name.isdigit()}
    fields = {}
    for pid, folder in stats.items():
        try:
            fields[pid] = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
    while more := {pid for pid, each in fields.items() if int(each[1]) in wanted} - wanted:
        wanted |= more
    for pid in wanted & fields.keys():
        total += (int(fields[pid][11]) + int(fields[pid][12])) / ticks
    return total


def in_turn(ways: Sequence[Callable[[], object]], clock: Callable[[], float]) -> list[dict[str, float]]:
    """Medians per way: milliseconds of `clock`, of processor time, and on the wall."""
    spent: list[list[tuple[float, float]]] = [[] for _ in ways]
    for way in ways:
        way()  # fills the caches
    for _ in range(TURNS):
        for way, times in zip(ways, spent, strict=True):
            processor, wall = clock(), time.perf_counter()
            way()
            times.append((clock() - processor, time.perf_counter() - wall))
    return [
        {
            "processor_ms": round(1e3 * statistics.median(each[0] for each in times), 1),
            "wall_ms": round(1e3 * statistics.median(each[1] for each in times), 1),
        }
        for times in spent
    ]


def row(what: str, where: str, found: list[dict[str, float]]) -> dict[str, Any]:
    """Two ways side by side."""
    own, other = found
    ratios = {
        f"{kind}_ratio": round(other[f"{kind}_ms"] / max(own[f"{kind}_ms"], 0.1), 2) for kind in ("processor", "wall")
    }
    return {"what": what, "where": where, "reference": own, "found": other, **ratios, "at_most": MOST[what]}


def over_http(listed: Sequence[str]) -> list[dict[str, Any]]:
    """Both figures, with the embedded model behind its command line."""
    image = {"base64": in_base64(SCENE.read_bytes())}

    def ask(server: Server, vocabulary: Vocabulary) -> None:
        for _ in range(REQUESTS):
            request = {"image": image, "regions": [{"box": BOX}], "vocabulary": vocabulary}
            status, answer = server.describe(request)
            assert status == 200, answer

    def ask_together(server: Server, each: Sequence[Vocabulary]) -> None:
        with ThreadPoolExecutor(len(each)) as clients:
            list(clients.map(lambda vocabulary: ask(server, vocabulary), each))

    with running("dynrefer.service.cli", "serve", "--device", "cpu", "--log-level", "warning") as server:
        server.await_ready()

        def clock() -> float:
            return processor_s(server)

        many: Vocabulary = {"categories": list(listed[:CATEGORIES])}
        alone = in_turn([lambda: ask(server, None), lambda: ask(server, many)], clock)
        own = vocabularies(listed)
        together = in_turn([lambda: ask_together(server, own[:1] * CLIENTS), lambda: ask_together(server, own)], clock)
    return [row("1,000 categories", "HTTP", alone), row("32 vocabularies", "HTTP", together)]


def in_process(listed: Sequence[str]) -> list[dict[str, Any]]:
    """Both figures for the network alone, whose text tower scores every word; one batch of 32 regions."""
    torch.set_num_threads(1)
    loaded = load_model("embedded", device="cpu", dtype="float32", evidence=False)
    loaded.network.config.noun_placeholder = None
    model = DynRefer(loaded)
    image = upright_pixels(SCENE)
    boxes = [(10.0 + i, 20.0 + i, 100.0 + 2 * i, 120.0 + i) for i in range(CLIENTS)]

    def run(each: Sequence[Vocabulary]) -> Callable[[], object]:
        asked = [None if one is None else read_vocabulary(one) for one in each]
        queries = [RegionQuery(box, vocabulary=one) for box, one in zip(boxes, asked, strict=False)]
        regions = model.prepare(image, queries)
        return lambda: [model.finish(*pair) for pair in zip(regions, model.run(regions), strict=True)]

    many: Vocabulary = {"categories": list(listed[:CATEGORIES])}
    own = vocabularies(listed)
    alone = in_turn([run([None]), run([many])], time.process_time)
    together = in_turn([run(own[:1] * CLIENTS), run(own)], time.process_time)
    return [row("1,000 categories", "network", alone), row("32 vocabularies", "network", together)]


def official_heads() -> list[dict[str, Any]]:
    """Both figures for the recognition decoders alone, at the official sizes with random weights and lists as long as
    the official ones; the rest of a request costs the same whatever is asked."""
    torch.manual_seed(0)
    config = preset("flan-t5-xl")
    tags, texts = (RecognitionDecoder(config, normalised=normalised).eval() for normalised in (False, True))
    regions = torch.randn(CLIENTS, config.num_queries, config.qformer_config.hidden_size)

    def listed(decoder: RecognitionDecoder, count: int) -> PreparedTexts:
        return decoder.prepare(torch.randn(count, config.text_config.projection_dim))

    def run(categories: PreparedTexts) -> None:
        tags.score(regions[:1], own_tags)
        texts.score(regions[:1], own_attributes)
        texts.score(regions[:1], categories)

    def run_each(each: Sequence[tuple[PreparedTexts, PreparedTexts]]) -> None:
        tags.score_each(regions, [asked for asked, _ in each])
        texts.score_each(regions, [asked for _, asked in each])

    def run_one(one: tuple[PreparedTexts, PreparedTexts]) -> None:
        tags.score(regions, one[0])
        texts.score(regions, one[1])

    with torch.inference_mode():
        own_tags, own_attributes, own = (
            listed(tags, OFFICIAL[0]),
            listed(texts, OFFICIAL[1]),
            listed(texts, OFFICIAL[2]),
        )
        many = listed(texts, padded(CATEGORIES))
        asked = [(listed(tags, padded(WORDS)), listed(texts, padded(WORDS))) for _ in range(CLIENTS)]
        alone = in_turn([lambda: run(own), lambda: run(many)], time.process_time)
        together = in_turn([lambda: run_one(asked[0]), lambda: run_each(asked)], time.process_time)
    where = "official heads"
    return [row("1,000 categories", where, alone), row("32 vocabularies", where, together)]


def main() -> None:
    """Measure all and write the file."""
    listed = words()
    rows = over_http(listed) + in_process(listed) + official_heads()
    report = {**provenance(), "turns": TURNS, "requests": REQUESTS, "rows": rows}
    RESULT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print("| what | where | processor time, of the reference | time | at most |\n|---|---|---|---|---|")
    for each in rows:
        shown = [each[name] for name in ("what", "where", "processor_ratio", "wall_ratio", "at_most")]
        print(f"| {' | '.join(map(str, shown))} |")


if __name__ == "__main__":
    main()
