"""Small models of BERT, ELECTRA and ERNIE."""

import numpy as np

from family.architectures import config_class, model_class

SETTINGS = dict(  # wide enough for a GELU by tanh to show
    vocab_size=1000, hidden_size=192, num_hidden_layers=2, num_attention_heads=4, intermediate_size=768, num_labels=3,
    max_position_embeddings=80,
)  # fmt: skip
CHANGES = {"bert": {}, "electra": {"embedding_size": 128}, "ernie": {"use_task_id": True, "type_vocab_size": 4}}
FAMILY = list(CHANGES)


def settings(model_type, **changes):
    """A configuration."""
    return config_class(model_type)(**{**SETTINGS, **CHANGES[model_type], **changes})


def saved(folder, model_type, kind, **changes):
    """Folder with a model of ours with random weights, no parameter at a trivial value."""
    model = model_class(model_type, kind)(settings(model_type, **changes))
    random = np.random.default_rng(0)
    for weight in model.parameters():
        weight.set_value(weight.numpy() + random.normal(0, 0.02, weight.shape).astype("f"))
    model.save_pretrained(folder)
    return str(folder)
