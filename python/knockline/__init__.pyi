from collections.abc import Iterable
from os import PathLike
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

class KnocklineError(Exception):
    """What is wrong, where, and what to do."""

class Word(TypedDict):
    word: str
    start: int
    end: int
    contributions: dict[str, float]

class Explanation(TypedDict):
    label: str | None
    probabilities: dict[str, float]
    method: str
    words: list[Word]

class Model:
    classes_: NDArray[np.object_]
    def __init__(self, path: str | PathLike[str]) -> None: ...
    def predict_proba(self, texts: Iterable[str]) -> NDArray[np.float32]: ...
    def predict(self, texts: Iterable[str], min_probability: float = 0.0) -> NDArray[np.object_]: ...
    def score(self, texts: Iterable[str], labels: Iterable[str]) -> float: ...
    def explain(self, text: str) -> Explanation: ...
    @property
    def description(self) -> dict[str, Any]: ...

def load(path: str | PathLike[str]) -> Model: ...
