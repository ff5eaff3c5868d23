"""Hold the token estimate against a vocabulary, and fit its weights anew where a corpus is given.

    pip install tiktoken
    python scripts/calibrate_tokens.py o200k_base.tiktoken [CORPUS]

Without a corpus it prints the error of every passage in tests/core/token_samples.json, none of which took
part in the fit. CORPUS holds one folder of UTF-8 texts for each kind, named "kind" or "kind@weight".
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from outrider.core.token_estimate import WEIGHTS, estimate, features
from outrider.vocabulary import O200K_BASE, load_vocabulary

SAMPLES = Path(__file__).parents[1] / "tests/core/token_samples.json"
PASSAGE = 1_500  # characters
SHORTEST = 100
PASSES = 3_000

# All others cost something: these correct features that contain them.
SIGNED = {"English 6 letters", "aA", "2 punctuation"}
# Too rare in any corpus to be fitted, and cheap to send in bulk.
LEAST = {"full width": 0.7, "other": 2.0}

Count = Callable[[str], int]


class Passage(NamedTuple):
    """One row of the fit: what was counted in a text, its tokens, and how much it matters."""

    features: tuple[float, ...]
    tokens: int
    weight: float


def main() -> None:
    """Fit if there is a corpus; print the errors."""
    count = load_vocabulary(Path(sys.argv[1]), O200K_BASE)
    if len(sys.argv) > 2:
        weights = fit(list(chain.from_iterable(passages(Path(sys.argv[2]), count))))
        print("WEIGHTS =", json.dumps(dict(zip(WEIGHTS, weights, strict=True)), indent=4))
        WEIGHTS.update(zip(WEIGHTS, weights, strict=True))
    for sample in json.loads(SAMPLES.read_text()):
        tokens = count(sample["text"])
        if tokens != sample["tokens"]:
            raise SystemExit(f"{sample['kind']}: {tokens} tokens, not {sample['tokens']} as the file says")
        error = estimate(sample["text"]) / tokens - 1
        print(f"{sample['kind']:24}{tokens:6}{len(sample['text']) / tokens:8.2f}{error:+8.0%}")


def passages(corpus: Path, count: Count) -> list[list[Passage]]:
    """The rows of each kind. Kinds count alike but for their weights, whatever their size."""
    kinds = []
    for folder in sorted(corpus.iterdir()):
        _, _, weight = folder.name.partition("@")
        texts = [file.read_text() for file in sorted(folder.iterdir())]
        pieces = [text[at : at + PASSAGE] for text in texts for at in range(0, len(text), PASSAGE)]
        rows = [(features(piece), count(piece)) for piece in pieces if len(piece) > SHORTEST]
        kinds.append([Passage(found, n, float(weight or 1) / len(rows)) for found, n in rows])
    return kinds


def fit(rows: list[Passage]) -> list[float]:
    """Weights with the least squared relative error, by descent along one weight after another."""
    names = list(WEIGHTS)
    size = range(len(names))
    square = [[0.0] * len(names) for _ in size]
    target = [0.0] * len(names)
    for found, tokens, weight in rows:
        scaled = [value / tokens for value in found] + [0.0] * (len(names) - len(found))
        for i in size:
            if scaled[i]:
                target[i] += weight * scaled[i]
                for j in size:
                    square[i][j] += weight * scaled[i] * scaled[j]
    weights = list(WEIGHTS.values())
    for _ in range(PASSES):
        for i in size:
            if square[i][i]:
                rest = target[i] - sum(square[i][j] * weights[j] for j in size if j != i)
                least = float("-inf") if names[i] in SIGNED else LEAST.get(names[i], 0.0)
                weights[i] = max(least, rest / square[i][i])
    return [round(weight, 2) for weight in weights]


if __name__ == "__main__":
    main()
