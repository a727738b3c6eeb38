"""A folder onto the hub, as one commit. What the hub has already is not sent again, so a run done twice pushes once."""

import os
from concurrent.futures import wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import UserError
from engine.hub import require_hub
from engine.stages.data._fetching import in_background

if TYPE_CHECKING:
    from engine.work import Work

STALE = ["*.safetensors", "*.safetensors.index.json", "*.gguf"]  # weights of an earlier push under other names


def require_token() -> str:
    """This machine's token for the hub. Raises UserError that says where to put one."""
    from huggingface_hub import get_token

    if token := get_token():
        return token
    message = (
        "there is no hub token: make one with write access at https://huggingface.co/settings/tokens, set HF_TOKEN where Dianjing is "
        "started or run `hf auth login` there; or leave push_to_hub empty"
    )
    raise UserError(message, field="push_to_hub")


@dataclass(frozen=True)
class Push:
    """A place on the hub this machine may write to."""

    api: Any
    repository: str
    private: bool

    @classmethod
    def open(cls, repository: str, private: bool) -> "Push":
        """Raises UserError, within seconds, when the hub cannot be reached or does not know the token."""
        from huggingface_hub import HfApi, errors

        token = require_token()
        require_hub()
        api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=token)
        try:
            api.whoami()
        except errors.HfHubHTTPError as error:
            message = "the hub does not accept the token ({reason}): make a new one at https://huggingface.co/settings/tokens"
            raise UserError(message, field="push_to_hub", reason=_status(error)) from error
        return cls(api, repository, private)

    def send(self, work: "Work", folder: Path, message: str) -> dict[str, str]:
        """Upload the folder; where it is now. Raises UserError when the hub refuses it."""
        import httpx2
        from huggingface_hub import errors

        work.say(f"pushing to {self.repository}")
        sending = in_background(lambda: self._send(folder, message))
        try:
            while not sending.done():
                work.progress(90, 100)  # leaves when the person asks to stop; a commit is whole or not there
                wait([sending], timeout=0.5)
            commit = sending.result()
        except errors.HfHubHTTPError as error:
            what = "the hub does not take {repository} ({reason}): use a token with write access there, or another name"
            raise UserError(what, field="push_to_hub", repository=self.repository, reason=_status(error)) from error
        except (httpx2.HTTPError, OSError) as error:
            what = "the connection to the hub broke while pushing to {repository} ({reason}): resume this run; what arrived is kept"
            raise UserError(what, field="push_to_hub", repository=self.repository, reason=str(error) or type(error).__name__) from error
        return {"repository": self.repository, "commit": commit.oid, "address": commit.commit_url}

    def _send(self, folder: Path, message: str) -> Any:
        self.api.create_repo(self.repository, private=self.private, exist_ok=True)
        return self.api.upload_folder(repo_id=self.repository, folder_path=folder, commit_message=message, delete_patterns=STALE)


def _status(error: Any) -> str:
    """What the hub said, without addresses: its own sentence, or the number."""
    return str(error.server_message or f"status {error.response.status_code}")
