"""WordNet makes the graph of nouns that ships."""

from pathlib import Path

import pytest

from dynrefer.workbench.evidence.noun_graph import main
from tests.repository import ROOT

WORDNET = Path("/usr/share/wordnet")


@pytest.mark.slow
@pytest.mark.skipif(not WORDNET.is_dir(), reason="needs Debian's package wordnet-base")
def test_the_committed_file_is_made_again(tmp_path: Path) -> None:
    folder = ROOT / "model/embedded/evidence"
    main(WORDNET, folder / "names.json", tmp_path / "nouns.safetensors")
    assert (tmp_path / "nouns.safetensors").read_bytes() == (folder / "nouns.safetensors").read_bytes()
