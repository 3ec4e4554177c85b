"""Classifies texts with a model that knockline has trained."""

import os as _os

import numpy as _np

from ._knockline import KnocklineError, RawModel as _RawModel

__all__ = ["KnocklineError", "Model", "load"]


class Model:
    """A trained model. Use :func:`load` to open one."""

    def __init__(self, path):
        self._raw = _RawModel(_os.fspath(path))
        self.classes_ = _np.array(self._raw.labels(), dtype=object)

    def predict_proba(self, texts):
        """The probability of each class, float32 [texts, classes], in the order of ``classes_``."""
        return self._raw.predict_proba(_list(texts))[0]

    def predict(self, texts, min_probability=0.0):
        """The likeliest class of each text; None if nothing of a text is known, or if no class is that likely."""
        probabilities, known = self._raw.predict_proba(_list(texts))
        if len(probabilities) == 0:
            return _np.array([], dtype=object)
        labels = self.classes_[probabilities.argmax(axis=1)]
        labels[~(known & (probabilities.max(axis=1) >= min_probability))] = None
        return labels

    def score(self, texts, labels):
        """The share of texts whose predicted class is their label."""
        return float(_np.mean(self.predict(texts) == _np.asarray(labels, dtype=object)))

    def explain(self, text):
        """The answer to a text and what each word gives: ``label``, ``probabilities``, ``method`` and ``words``, a list of
        dictionaries with ``word``, ``start`` and ``end`` (in bytes of UTF-8) and ``contributions`` by class."""
        return self._raw.explain(text)

    @property
    def description(self):
        """What the model is, as the file says it."""
        return self._raw.description()

    def __repr__(self):
        about = self.description
        return f"<knockline.Model {about['run']} ({about['net']}), {len(self.classes_)} classes>"


def load(path):
    """Opens the model at ``path``."""
    return Model(path)


def _list(texts):
    if isinstance(texts, str):
        raise TypeError("give a list of texts, not one text")
    return texts if isinstance(texts, list) else list(texts)
