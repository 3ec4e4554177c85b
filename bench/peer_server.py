"""The peers of `knockline serve`: FastAPI around fastText, or around scikit-learn. Run by bench/serving.py."""

import os

from fastapi import FastAPI
from pydantic import BaseModel

KIND, PATH = os.environ["PEER_KIND"], os.environ["PEER_MODEL"]
app = FastAPI()


class Ask(BaseModel):
    texts: list[str]


if KIND == "fasttext":
    import fasttext

    model = fasttext.load_model(PATH)

    @app.post("/predict")
    async def predict(ask: Ask):
        labels, probabilities = model.predict([text.replace("\n", " ") for text in ask.texts], k=4)
        return {"predictions": [{"label": l[0], "probability": float(p[0]), "top": [{"label": a, "probability": float(b)} for a, b in zip(l, p)]} for l, p in zip(labels, probabilities)]}

else:
    import joblib

    model = joblib.load(PATH)

    @app.post("/predict")
    async def predict(ask: Ask):
        answers = []
        for row in model.predict_proba(ask.texts):
            top = sorted(zip(model.classes_, row.tolist()), key=lambda one: -one[1])
            answers.append({"label": top[0][0], "probability": top[0][1], "top": [{"label": a, "probability": b} for a, b in top]})
        return {"predictions": answers}
