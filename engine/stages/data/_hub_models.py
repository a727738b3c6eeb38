"""A model from the hub, as a folder on this machine: safetensors, JSON and templates only."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import UserError
from engine.hub import require_hub
from engine.stages.data._fetching import in_background, watch

if TYPE_CHECKING:
    from engine.work import Work

WANTED = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "README.md")
SKIPPED = ("*/*",)  # other formats of the same weights live in folders


def fetch_model(work: "Work", hub_id: str, revision: str) -> tuple[Path, str]:
    """Download a model; returns its folder and commit. Raises UserError when the hub or the model cannot be had."""
    require_hub()
    from huggingface_hub import HfApi, errors

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    try:
        info = api.model_info(hub_id, revision=revision or None, files_metadata=True)
        files = [file for file in info.siblings or [] if file.rfilename.endswith(".safetensors") and "/" not in file.rfilename]
        size = sum(file.size or 0 for file in files)
        work.say(f"fetching {hub_id}, {size / 1e6:,.0f} MB of weights")
        # In the run's folder: an interrupted download goes on where it was, and nothing half-fetched is an artifact.
        folder = work.folder / "hub"
        wanted = {"local_dir": folder, "allow_patterns": list(WANTED), "ignore_patterns": list(SKIPPED)}
        got = in_background(lambda: api.snapshot_download(hub_id, revision=info.sha, **wanted))
        watch(work, lambda: not got.done(), folder, size)
        got.result()
    except errors.GatedRepoError as error:
        message = "{id} asks for consent first: accept its terms on the hub, and set HF_TOKEN where Dianjing is started"
        raise UserError(message, field="hub_id", id=hub_id) from error
    except errors.RevisionNotFoundError as error:
        message = "{id} has no revision {revision}: leave revision empty for the newest, or copy one from the hub"
        raise UserError(message, field="revision", id=hub_id, revision=revision) from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        message = "the hub has no model named {id}, or it is private: write it as owner/name, and set HF_TOKEN for a private one"
        raise UserError(message, field="hub_id", id=hub_id) from error
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, ConnectionError) as error:
        message = "{id} could not be downloaded ({reason}). Resume this run: it goes on where it stopped"
        raise UserError(message, field="hub_id", id=hub_id, reason=str(error).splitlines()[0]) from error
    return folder, info.sha or ""

