"""What went wrong with an endpoint, each in a sentence that says what to do."""

import html
import json
import re
import time
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from engine.errors import UserError
from engine.settings import SamplingSettings

if TYPE_CHECKING:
    from engine.endpoints import Endpoint

SHOWN = 300  # characters of what a server says
CONTEXT = re.compile(
    r"context.{0,30}(length|window|size)|maximum.{0,30}(length|tokens)|(prompt|input).{0,30}too long|too many tokens", re.IGNORECASE
)


class Refused(UserError):
    """The server will not answer this one question; others may well be answered."""


class Again(Exception):
    """Something that may pass by itself. `wait`: the seconds the server asks for."""

    def __init__(self, problem: UserError, wait: float | None = None) -> None:
        super().__init__(problem.message)
        self.problem, self.wait = problem, wait

    def after(self, tried: int) -> UserError:
        """The problem, once enough was tried."""
        wait = "" if self.wait is None else "; it says to wait {wait:.0f} s"
        times = "" if tried == 1 else "; asked {tried} times"
        return UserError(f"{self.problem.message}{wait}{times}", None, **self.problem.values, wait=self.wait, tried=tried)


def refuse_unsayable(model: str, sampling: SamplingSettings) -> None:
    """Raise UserError for settings that the API has no words for, rather than leave them out."""
    for name, given, neutral in (("top_k", sampling.top_k, None), ("repetition_penalty", sampling.repetition_penalty, 1.0)):
        if given != neutral:
            message = "{model} is an endpoint, and the OpenAI API has no {name}: set sampling.{name} to {neutral}, or leave endpoints out"
            raise UserError(message, f"sampling.{name}", model=model, name=name, neutral=neutral or "nothing")


def unreachable(endpoint: "Endpoint", why: str) -> UserError:
    """Nobody listens there, or there is no such place."""
    return _told("{address} cannot be reached ({why}): start the server, or connect again with the right address", endpoint, why=why)


def cut(endpoint: "Endpoint", why: str) -> UserError:
    """The connection broke before the answer was whole."""
    return _told("{address} broke off in the middle of its answer ({why}): look into its own log, then ask again", endpoint, why=why)


def slow(endpoint: "Endpoint", error: Exception | None = None) -> UserError:
    """No answer in time."""
    connecting = type(error).__name__ == "ConnectTimeout"
    what = "is not there after {seconds:g} s" if connecting else "gave no whole answer within {seconds:g} s"
    fix = "is the address right?" if connecting else "connect it again with a longer timeout, or with fewer questions at once"
    seconds = min(10.0, endpoint.timeout) if connecting else endpoint.timeout
    return _told(f"{{address}} {what}: {fix}", endpoint, seconds=seconds)


def endless(endpoint: "Endpoint") -> UserError:
    """More than any answer is."""
    return _told("{address} sends more than any answer is long, without end: is this the API's address?", endpoint)


def unfit_key(endpoint: "Endpoint") -> UserError:
    """What stands in the variable cannot be sent."""
    message = "the key in the environment variable {variable} has blanks or characters that no key has: set it again"
    return _told(message, endpoint, variable=endpoint.key_variable)


def no_choices(endpoint: "Endpoint") -> UserError:
    """JSON, and no answer in it."""
    return _told("{address} answers, but without any choice to read: is it an OpenAI-compatible API?", endpoint)


def nothing_said(endpoint: "Endpoint", reason: object) -> UserError:
    """An answer of null, or one that was withheld."""
    message = "{model} gave no text in answer to a prompt (finish reason: {reason}): reword or remove that prompt"
    return _told(message, endpoint, Refused, reason=reason or "none")


def not_json(endpoint: "Endpoint", text: str) -> UserError:
    """Something else than the API speaks."""
    if not text.strip():
        return _told("{address} gave an empty answer: look into its own log, then ask again", endpoint)
    if _is_page(text):
        message = "{address} answers with a web page ({why}), not JSON: is this the API's address? It usually ends in /v1"
    else:
        message = "{address} answers with broken JSON ({why}): look into its own log, then ask again"
    return _told(message, endpoint, why=_why(text))


def says_no(endpoint: "Endpoint", text: str) -> UserError:
    """An error under the name of an answer."""
    return _told("{address} gives no answer and says: {why}", endpoint, why=_why(text))


def refusal(
    endpoint: "Endpoint", status: int, headers: Mapping[str, str], text: str, offered: Sequence[str], with_key: bool
) -> UserError | Again:
    """What a status that is not 200 means. `text` is the body, `offered` the models the server has."""
    why, variable = _why(text), endpoint.key_variable
    if status in (401, 403):
        wrong = "does not accept the key in the environment variable {variable} ({status}): set the right one"
        missing = "wants a key ({status}), and the environment variable {variable} is not set: set it"
        where = " where Dianjing is started, start it again, then ask again"
        return _told("{address} " + (wrong if with_key else missing) + where, endpoint, status=status, variable=variable)
    if status == 404:
        if offered:
            names = ", ".join(name[:80] for name in sorted(offered)[:10])
            return _told("{address} has no model {model} (404); it offers {names}: connect again with one of these", endpoint, names=names)
        message = "{address} has no model {model}, or is not the API's address (404: {why}): the address usually ends in /v1"
        return _told(message, endpoint, why=why)
    if 300 <= status < 400:
        place = urlsplit(headers.get("location", ""))
        to = f"{place.scheme}://{place.hostname}{place.path}" if place.hostname else place.path
        return _told("{address} sends elsewhere ({status}: {to}): connect again with that address", endpoint, status=status, to=to)
    if status in (400, 413, 422, 500) and CONTEXT.search(why):
        return _told("a prompt does not fit what {model} reads ({why}): shorten or remove it", endpoint, Refused, why=why)
    if status in (400, 413, 422):
        return _told("{model} refuses a prompt ({status}: {why}){fix}", endpoint, Refused, status=status, why=why, fix=_fix(why))
    if status == 429:
        message = "{address} is asked too often (429: {why}): connect it again with fewer requests per minute, or fewer at once"
        return Again(_told(message, endpoint, why=why), _wait(headers))
    if status in (408, 409, 425) or status >= 500:
        message = "{address} fails to answer as {model} ({status}: {why}): its own log says more; then ask again"
        return Again(_told(message, endpoint, status=status, why=why), _wait(headers))
    return _told("{address} refuses ({status}: {why})", endpoint, status=status, why=why)


def _told(message: str, endpoint: "Endpoint", kind: type[UserError] = UserError, **values: object) -> UserError:
    return kind(message, None, address=endpoint.address, model=endpoint.model, **values)


def _fix(why: str) -> str:
    if "max_completion_tokens" in why:
        return ": connect it again and choose max_completion_tokens for the limit"
    if "chat_template_kwargs" in why or "enable_thinking" in why:
        return ": set sampling.thinking to default"
    if "temperature" in why:
        return ": set sampling.temperature to what it allows"
    return ""


def _is_page(text: str) -> bool:
    return bool(re.match(r"\s*<(!doctype|html|head|body|\?xml)", text, re.I))


def _why(text: str) -> str:
    """What a server says of an error, short and on one line."""
    if _is_page(text):
        title = re.search(r"<title[^>]*>(.*?)</title>", text, re.I | re.S)
        text = html.unescape(title[1]) if title else "a web page"
    else:
        try:
            told = json.loads(text)
        except ValueError:
            told = None
        for name in ("error", "message", "detail"):
            if isinstance(told, dict) and told.get(name):
                told = told[name]
        text = told if isinstance(told, str) else text
    return " ".join(text.split())[:SHOWN] or "no reason given"


def _wait(headers: Mapping[str, str]) -> float | None:
    """The seconds of a Retry-After header: a number or a date."""
    given = headers.get("retry-after", "")
    try:
        return max(0.0, float(given))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(given).timestamp() - time.time())
    except ValueError:
        return None
