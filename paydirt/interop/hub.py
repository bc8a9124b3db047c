"""A finished export to a hub, as a data set with its card: Hugging Face's own client, wherever HF_ENDPOINT says.

What enters: the folder of an export and the name of a data set. What leaves: its address. The client finds its token by
itself (`hf auth login`, or HF_TOKEN); paydirt reads and keeps none.
"""

from __future__ import annotations

from pathlib import Path

from paydirt.core.artifacts import open_artifact

KEPT_HOME = ["manifest.json", "ledger.jsonl", "key"]  # bookkeeping of this machine


def push(export: Path, name: str, public: bool = False) -> str:
    """Upload the export as data set `name`, private unless `public`; returns its URL.

    ValueError with the client's own word where it cannot: no token, no right, no network.
    """
    from huggingface_hub import HfApi

    folder = open_artifact(export, "export").path
    try:
        api = HfApi()
        url = api.create_repo(name, repo_type="dataset", private=not public, exist_ok=True)
        api.upload_folder(
            repo_id=url.repo_id,
            repo_type="dataset",
            folder_path=folder,
            ignore_patterns=KEPT_HOME,
            commit_message="Data and receipt, by paydirt export",
        )
    except Exception as error:  # the client's own kinds, and those of whatever HTTP library it has
        said = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"--to-hub {name}: {said}; the export itself is whole in {folder}. Check the name (ORG/NAME), the token "
            "(`hf auth login`) and the network, and run the same command again"
        ) from error
    return str(url)
