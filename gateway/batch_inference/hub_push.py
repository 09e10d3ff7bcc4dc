"""Puts a batch's results into a dataset repository of the Hugging Face hub.

With the hub's own library. HF_ENDPOINT and HF_TOKEN are its variables.
"""

import os
import time

import httpx

from gateway.batch_inference.results import Results
from gateway.client import CommandFailed

# Seconds between tries.
_PAUSES = (1.0, 4.0)
_CARD = """---
configs:
- config_name: default
  data_files: data/*.parquet
---

# {repo}

Answers of language models, written by GenPlat's `genplat batch`. One row a question:
`instructions`, `target_responses` (what was desired), `candidate_responses` (what the model said),
`model_id` and `model_sha` (the SHA-256 of the manifest of its weights).
"""


def check_push(repo: str | None) -> None:
    """Raise before hours of work where nothing could be pushed at their end."""
    if repo is None:
        return
    if not _token():
        raise CommandFailed(
            "push_to_hub: HF_TOKEN is not set. Set it to a token of yours that may write to "
            f"{repo}, or leave push_to_hub out."
        )
    try:
        import huggingface_hub  # noqa: F401
    except ImportError as error:
        raise CommandFailed(
            "push_to_hub: the package huggingface_hub is not installed: pip install 'genplat[ml]'."
        ) from error


def _token() -> str:
    """(What was read from a file ends in a line break, which no header may hold.)"""
    return os.environ.get("HF_TOKEN", "").strip()


def push(results: Results, *, repo: str, private: bool) -> str:
    """The address of the commit. A repository that is not there is made; of one that is, other
    files stay as they are. A hub that is busy or away is asked again a few times."""
    for pause in (*_PAUSES, None):
        try:
            return _push(results, repo, private)
        except Exception as error:
            # (Those of the HTTP client that the library uses at the time are not its own to name.)
            if pause is None or not _may_pass(error):
                said = str(error).strip().splitlines()
                raise CommandFailed(
                    f"push_to_hub: {repo} took nothing: "
                    f"{said[0][:300] if said else type(error).__name__} The results lie in "
                    f"{results.jsonl.parent}; start again to push them."
                ) from error
        time.sleep(pause)
    raise AssertionError("unreachable")


def _may_pass(error: Exception) -> bool:
    """Of what has no answer of the hub's, only what went wrong on the way may."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if not isinstance(status, int):
        return isinstance(error, httpx.TransportError | OSError)
    return status == 429 or status >= 500


def _push(results: Results, repo: str, private: bool) -> str:
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, token=_token())
    operations = [
        CommitOperationAdd(f"data/{results.parquet.name}", str(results.parquet)),
        CommitOperationAdd(f"jsonl/{results.jsonl.name}", str(results.jsonl)),
    ]
    api.create_repo(repo, repo_type="dataset", private=private, exist_ok=True)
    if not api.file_exists(repo, "README.md", repo_type="dataset"):
        card = _CARD.format(repo=repo).encode()
        operations.append(CommitOperationAdd("README.md", card))
    commit = api.create_commit(
        repo,
        operations,
        repo_type="dataset",
        commit_message=f"Answers of the batch {results.jsonl.stem}",
    )
    return str(commit.commit_url)
