"""Traits as corpora spell them -> the words that rows use. Closed tables: unknown is None."""

# The seven emotions of the founding documents, and every spelling seen in a corpus for each.
_EMOTIONS = {
    "angry": ("angry", "anger"),
    "happy": ("happy", "happiness", "joy"),
    "sad": ("sad", "sadness"),
    "surprise": ("surprise", "surprised", "surprising", "pleasant surprise"),
    "neutral": ("neutral", "calm"),  # RAVDESS' "calm" is its second neutral
    "fear": ("fear", "fearful"),
    "disgust": ("disgust", "disgusted", "disgusting"),
}
_EMOTION_OF = {spelling: emotion for emotion, spellings in _EMOTIONS.items() for spelling in spellings}
EMOTIONS = tuple(_EMOTIONS)


def emotion(raw: str | None) -> str | None:
    """One of EMOTIONS for a corpus' spelling of it, else None: "Fearful" -> "fear"."""
    return None if raw is None else _EMOTION_OF.get(raw.strip().lower())
