"""Language: the answer is written in one of these languages, as py3langid (Barbaresi, after Lui and Baldwin 2012) tells them."""

from collections.abc import Sequence
from functools import cache
from math import nan
from typing import TYPE_CHECKING, Any

from engine.errors import UserError

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

REFERENCE = "language codes, such as en or zh"
LEAST, MOST = 20, 500  # letters below which it is not told, characters after which nothing is read
SURE = 0.5  # probability below which it is not told


def score(_prompt: list[dict[str, Any]], answer: str, reference: Sequence[str]) -> float:
    """1.0 if it is, else 0.0; nan for an answer too short or too mixed to tell, and without a reference.

    Raises UserError for a code that is none.
    """
    wanted = {_known(code) for code in reference if code.strip()}
    found = language_of(answer) if wanted else None
    return nan if found is None else float(found in wanted)


def language_of(text: str) -> str | None:
    """Its ISO 639 code, told from its beginning; None for a text with too little to tell it by."""
    begun = text[:MOST]
    # One character of Chinese or Japanese says as much as a few letters.
    letters = sum(3 if letter >= "\u2e80" else 1 for letter in begun if letter.isalpha())
    code, sure = _identifier().classify(begun) if letters >= LEAST else ("", 0.0)
    return str(code) if sure >= SURE else None


def _known(code: str) -> str:
    """en for "EN-us "."""
    plain = code.strip().lower().replace("_", "-").partition("-")[0]
    if plain not in _identifier().labels:
        message = "{code} is no language that can be told: give a code, such as en, de or zh"
        raise UserError(message, field="reference", code=repr(code)[:40])
    return plain


@cache
def _identifier() -> "LanguageIdentifier":
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
