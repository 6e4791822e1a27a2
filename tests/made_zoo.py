"""Released models made by tests."""

import hashlib
import json

from fsdbev.checkpoint import to_half, write_weights


def write_model(folder, name, weights, config="fsdbev_tiny_synthetic.py", **changes):
    """Writes half-precision weights and their model card to a folder.

    Args:
        folder: the folder.
        name: name of the model.
        weights: tensors by name.
        config: config of the model, relative to ``configs/``.
        changes: other values of the card; None leaves a key out.
    """
    path = folder / f"{name}.safetensors"
    write_weights(to_half(weights), str(path), entry="model")
    card = dict.fromkeys(("about", "data", "command", "hours", "licence"), "-")
    card |= {"config": config, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), **changes}
    card = {key: value for key, value in card.items() if value is not None}
    (folder / f"{name}.yaml").write_text(json.dumps(card))  # JSON is YAML
