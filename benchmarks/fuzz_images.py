"""`python -m benchmarks.fuzz_images` decodes image files with damaged structure, and checks that each is an image or an
`ImageError`, never another exception, and that none takes more than a few seconds of CPU.

In a process of its own, so that a crash of a decoder is a finding like any other: the last file is kept. The same seed
makes the same files. Exits with 1 if there is a finding.
"""

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from benchmarks.corpus import sample_images
from benchmarks.image_damage import damaged_structures

MAX_PIXELS = 4_000_000
SLOW_S = 5.0  # CPU seconds of one file


def decode_all(seed: int, count: int, keep: Path) -> dict[str, object]:
    """Decode `count` damaged files. outcomes: what was raised, or "decoded"; findings: what must not be."""
    from dynrefer.model.errors import ImageError
    from dynrefer.model.images import decode_image

    outcomes: Counter[str] = Counter()
    findings = []
    for number, (origin, data) in enumerate(damaged_structures(seed, sample_images(), count)):
        (keep / "last.image").write_bytes(data)  # what a crash leaves behind
        began = time.process_time()
        try:
            decode_image(data, MAX_PIXELS)
            outcome = "decoded"
        except ImageError as error:
            outcome = type(error).__name__
        except Exception as error:
            outcome = f"finding: {type(error).__name__}"
        spent = time.process_time() - began
        outcomes[outcome] += 1
        if outcome.startswith("finding") or spent > SLOW_S:
            findings.append(f"{number}: {origin}: {outcome}, {spent:.1f} CPU s")
            (keep / f"{number}.image").write_bytes(data)
    return {"outcomes": dict(sorted(outcomes.items())), "findings": findings}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=Path("runs/fuzz-images"), help="folder for files with a finding")
    parser.add_argument("--here", action="store_true", help="in this process")
    options = parser.parse_args()
    options.keep.mkdir(parents=True, exist_ok=True)
    if options.here:
        print(json.dumps(decode_all(options.seed, options.files, options.keep), indent=2))
        return
    began = time.monotonic()
    command = [sys.executable, "-m", "benchmarks.fuzz_images", "--here", "--files", str(options.files)]
    command += ["--seed", str(options.seed), "--keep", str(options.keep)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    crashed = {"outcomes": {}, "findings": [f"the process ended with {done.returncode}; see last.image"]}
    report = crashed if done.returncode else json.loads(done.stdout)
    print(json.dumps({"files": options.files, "seconds": round(time.monotonic() - began, 1), **report}, indent=2))
    raise SystemExit(bool(report["findings"]))


if __name__ == "__main__":
    main()
