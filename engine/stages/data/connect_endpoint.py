"""Somebody else's server becomes a model that can answer.

What is kept is where it is and how to ask it, never the key. One tiny question is asked at once, so that a wrong
address, name or key is found here and not in the middle of a run.
"""

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from pydantic import Field

from engine.errors import UserError
from engine.stage import Input, Kind, Stage

if TYPE_CHECKING:
    from engine.work import Work

PATH = "/chat/completions"  # of the question, which people copy with the address


class ConnectEndpoint(Stage):
    """Use a model on another server: vLLM, Ollama, transformers serve, or any other OpenAI-compatible API."""

    outputs = {"model": Kind.MODEL}
    heavy = False
    online = True

    address: str = Field(title="Address", description="Where the API begins, such as http://127.0.0.1:8000/v1")
    model: str = Field(title="Model", min_length=1, description="Its name there; for transformers serve its folder or hub id.")
    key_variable: str = Field(
        "OPENAI_API_KEY", title="Key variable", description="The environment variable that holds the key, never the key itself."
    )
    context_length: int | None = Field(None, ge=1, title="Context length", description="Tokens it reads at most. Empty: not known.")
    limit_field: Literal["max_tokens", "max_completion_tokens"] = Field(
        "max_tokens", title="Name of the limit", description="OpenAI's reasoning models want max_completion_tokens."
    )
    parallel: int = Field(4, ge=1, le=64, title="Questions at once", description="Wait for this many answers at the same time.")
    requests_per_minute: float | None = Field(None, gt=0, le=100_000, title="Requests per minute", description="Empty: no limit.")
    timeout: float = Field(300, gt=0, le=3600, title="Timeout", description="Seconds a whole answer may take.")
    retries: int = Field(5, ge=0, le=20, title="Retries", description="When it is busy or fails, waiting longer each time.")

    def result_name(self, inputs: Mapping[int, Input]) -> str:
        """The model's own name."""
        return self.model.rstrip("/").rsplit("/", 1)[-1]

    def check(self, inputs: Mapping[int, Input]) -> None:
        """Refuse what is no address, and secrets: neither may be stored. What was given is not repeated."""
        _begin_of_api(self.address)
        if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", self.key_variable):
            message = "this is no name of an environment variable, such as OPENAI_API_KEY: write its name in capitals, never the key itself"
            raise UserError(message, field="key_variable")

    def run(self, work: "Work") -> None:
        """Ask one question, then keep the address."""
        from engine.endpoints import Endpoint
        from engine.settings import SamplingSettings

        settings = self.model_dump(exclude={"save_as", "address"}, exclude_none=True) | {"address": _begin_of_api(self.address)}
        endpoint = Endpoint.from_summary(settings | {"retries": 0})
        question = [{"role": "user", "content": "Say yes."}]
        reply = endpoint.answer(question, SamplingSettings(max_new_tokens=16, temperature=1), interrupted=lambda: work.stopping)
        work.say(f"{self.model} says: {reply.text or '(nothing yet: it was still reasoning)'}")
        (work.output("model") / "endpoint.json").write_text(json.dumps(settings, indent=2))
        note = f"{self.model} at {settings['address']}: it runs elsewhere and may change without notice"
        work.describe("model", format="endpoint", note=note, **settings)


def _begin_of_api(address: str) -> str:
    """An address without what people copy along. Raises UserError, which does not repeat an address that may hold a secret."""
    given = address.strip()
    try:
        parts = urlsplit(given)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        raise UserError("this is not a web address: write one such as http://127.0.0.1:8000/v1", field="address") from None
    if parts.username or parts.password or "@" in parts.netloc:
        message = "the address holds a user name or password, and would be stored: put the key into an environment variable and name that"
        raise UserError(message, field="address")
    if parts.query or parts.fragment:
        message = "the address holds more than where the API is (what stands after ? or #), and may hold a key: leave that away"
        raise UserError(message, field="address")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError("the address must name a server and begin with http, as http://127.0.0.1:8000/v1 does", field="address")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/').removesuffix(PATH).rstrip('/')}"
