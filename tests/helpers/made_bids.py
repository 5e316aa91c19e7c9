"""Small BIDS data sets of empty files, for tests that read names and sidecars only."""

from __future__ import annotations

import json

DESCRIPTION = {"Name": "made", "BIDSVersion": "1.10.0"}
SIDECAR = {"ResonantNucleus": "1H", "SpectrometerFrequency": 123.2, "SpectralWidth": 2000, "EchoTime": 0.03}


def make(root, files, description=DESCRIPTION):
    """Write files: text as it is, dictionaries as JSON, None as an empty file."""
    root.mkdir(parents=True, exist_ok=True)
    for name, content in {"dataset_description.json": description, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content) if content else "", "utf-8")
    return root
