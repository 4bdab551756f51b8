"""Models of this project, of PaddleNLP and of numpy behind one interface, so that compare.py can ask all the same.

Hugging Face's are in `hugging_face_reference.py`.

No model has dropout. Inputs are dicts of int64 arrays (input_ids, token_type_ids, attention_mask, [B, L] each, or
[B, C, L] for multiple choice), labels what `labels_for` makes. Weights and gradients come under this project's names.
"""

from typing import NamedTuple

import numpy as np

from conversion import paddlenlp_models
from family.architectures import ARCHITECTURES, class_named, type_of_class

NOISE = 0.02  # standard deviation of what is added to every random weight, so that no bias or norm is trivial
NO_DROPOUT = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, classifier_dropout=0.0)
WEIGHT_DECAY, EPSILON = 0.01, 1e-6  # of AdamW; no decay on biases and norms


class Outputs(NamedTuple):
    hidden_states: list  # embeddings, then every layer: [B, L, E]
    logits: list  # one array, two for question answering, none for the bare encoder
    loss: object = None  # the library's own tensor


def kind_of(architecture):
    """A class's name without its architecture's: "ForMaskedLM" of BertForMaskedLM, and of ElectraGenerator too."""
    kind = architecture.removeprefix(prefix_of(architecture))
    return "ForMaskedLM" if kind == "Generator" else kind


def architecture_of(config, kind):
    """The name of the class of a kind; None where the configuration's architecture has none."""
    found = class_named(ARCHITECTURES[config.model_type].prefix + kind)
    return found and found.__name__


def prefix_of(architecture):
    """What the names of all classes of its architecture begin with, in every library."""
    return ARCHITECTURES[type_of_class(architecture)].prefix


def labels_for(architecture, inputs, num_labels, seed=0, ignore=True):
    """Random labels of the kind that a head learns from, as keyword arguments; ignore: let -100 occur."""
    random = np.random.default_rng(seed)
    ids, real = inputs["input_ids"], inputs["attention_mask"]
    rows, length = len(ids), ids.shape[-1]
    kind = kind_of(architecture)
    if kind == "ForQuestionAnswering":
        return {name: random.integers(0, length, rows) for name in ("start_positions", "end_positions")}
    if kind == "ForMultipleChoice":
        return {"labels": random.integers(0, ids.shape[1], rows)}
    if kind == "ForSequenceClassification":
        return {"labels": random.integers(0, num_labels, rows)}
    choices = {"ForMaskedLM": int(ids.max()), "Discriminator": 2}.get(kind, num_labels)
    labels = random.integers(0, choices, ids.shape)
    chosen = random.random(ids.shape) < 0.15 if kind == "ForMaskedLM" else real == 1
    return {"labels": np.where(chosen, labels, -100) if ignore else labels}


class _PaddleModel:
    """What this project and PaddleNLP have in common."""

    def __init__(self, model):
        self.model, self.config = model, model.config

    @property
    def encoder(self):
        return getattr(self.model, self.config.model_type, self.model)

    def clear_pad_row(self):
        """Makes the pad token's embedding zero, as which PaddleNLP's ConvBERT and ERNIE read any."""
        import paddle

        if self.config.model_type in ("convbert", "ernie"):
            with paddle.no_grad():
                self.encoder.embeddings.word_embeddings.weight[self.config.pad_token_id] = 0.0

    def run(self, inputs, labels=None):
        import paddle

        arguments = {name: paddle.to_tensor(array) for name, array in {**inputs, **(labels or {})}.items()}
        found = self.model(**arguments, output_hidden_states=True, **self.extra)
        if hasattr(found, "last_hidden_state"):  # the bare encoder's
            return Outputs(found.hidden_states, [])
        logits = [found.start_logits, found.end_logits] if hasattr(found, "start_logits") else [found.logits]
        return Outputs(found.hidden_states, logits, found.loss)

    def forward(self, inputs):
        """Outputs in evaluation mode, as arrays."""
        import paddle

        self.model.eval()
        with paddle.no_grad():
            found = self.run(inputs)
        return Outputs([x.numpy() for x in found.hidden_states], [x.numpy() for x in found.logits])

    def gradients(self, inputs, labels):
        """dict: our name → gradient of the loss; parameters that the loss does not reach are left out."""
        self.model.train()
        self.run(inputs, labels).loss.backward()
        named = self.parameters().items()
        found = {name: weight.grad.numpy() for name, weight in named if weight.grad is not None}
        self.model.clear_gradients(set_to_zero=False)
        return found

    def train(self, batches, learning_rate):
        """One AdamW step for each (inputs, labels); yields each loss."""
        from training.optimizer import adamw

        optimizer = adamw(self.model, learning_rate, WEIGHT_DECAY, EPSILON)
        self.model.train()
        for inputs, labels in batches:
            loss = self.run(inputs, labels).loss
            loss.backward()
            optimizer.step()
            optimizer.clear_grad()
            yield float(loss)

    def parameters(self):
        bare = kind_of(type(self.model).__name__) == "Model"
        prefix = f"{self.config.model_type}." if bare else ""
        return {prefix + name: weight for name, weight in self.model.named_parameters()}

    def weights(self):
        """dict: our name → array."""
        return {name: weight.numpy() for name, weight in self.parameters().items()}


class Ours(_PaddleModel):
    library, extra = "paddle", {}

    @classmethod
    def load(cls, architecture, folder):
        return cls(class_named(architecture).from_pretrained(folder, **NO_DROPOUT))

    @classmethod
    def random(cls, architecture, config, seed=0):
        import paddle

        paddle.seed(seed)
        model = cls(class_named(architecture)(config))
        _disturb(model.model.parameters(), seed)
        return model


class PaddleNLP(_PaddleModel):
    library, packages, extra = "paddlenlp", ("paddlenlp",), {"return_dict": True}

    @staticmethod
    def obstacle(config, architecture):
        """Why PaddleNLP can't run such a model; None if it can."""
        kind = kind_of(architecture)
        if config.hidden_act == "gelu_new":
            return "PaddleNLP's layers have no gelu_new"
        if config.layer_norm_eps != 1e-12 and config.model_type in ("electra", "ernie"):
            return f"layer_norm_eps is {config.layer_norm_eps}; PaddleNLP's {config.title} has 1e-12 always"
        if config.model_type != "convbert":
            return None
        if config.num_attention_heads < config.head_ratio:
            return "PaddleNLP drops the convolution when there are fewer heads than head_ratio"
        if config.head_ratio != 2:
            return f"PaddleNLP crashes with head_ratio {config.head_ratio}"
        if kind == "Discriminator":
            return "PaddleNLP's discriminator crashes in forward"
        if kind == "ForSequenceClassification" and config.classifier != "pooled_mlp":
            return f"PaddleNLP has no {config.classifier} head"
        if config.mask_conv_padding:
            return "PaddleNLP's convolutions always read padding"
        return None

    @classmethod
    def load(cls, architecture, folder, **changes):
        settings = {**NO_DROPOUT, "num_choices": 2, "ignore_mismatched_sizes": True, **changes}
        found = cls(getattr(cls._transformers(), architecture).from_pretrained(str(folder), **settings))
        found.clear_pad_row()
        return found

    @classmethod
    def random(cls, architecture, config, seed=0, **changes):
        """PaddleNLP's own start and noise on top."""
        import paddle

        paddle.seed(seed)
        transformers = cls._transformers()
        settings = {**settings_of(config), "num_choices": 2, **changes}
        settings = getattr(transformers, f"{prefix_of(architecture)}Config")(**settings)
        model = cls(getattr(transformers, architecture)(settings))
        _disturb(model.model.parameters(), seed)
        model.clear_pad_row()
        return model

    def run(self, inputs, labels=None):
        if kind_of(type(self.model).__name__) != "Discriminator":
            return super().run(inputs, labels)
        import paddle
        from paddle.nn.functional import binary_cross_entropy_with_logits

        inputs = {name: paddle.to_tensor(array) for name, array in inputs.items()}
        found = self.encoder(**inputs, output_hidden_states=True, **self.extra)  # the whole gives its logits only
        logits, loss = self.model.discriminator_predictions(found.last_hidden_state), None
        if labels:
            loss = binary_cross_entropy_with_logits(logits, paddle.to_tensor(labels["labels"], "float32"))
        return Outputs(found.hidden_states, [logits], loss)

    def save(self, folder):
        self.model.save_pretrained(str(folder))

    @classmethod
    def tokenizer(cls, folder, prefix):
        return getattr(cls._transformers(), f"{prefix}Tokenizer").from_pretrained(str(folder))

    @staticmethod
    def _transformers():
        paddlenlp_models.paddlenlp_module("utils.log").logger.set_level("ERROR")
        return paddlenlp_models.paddlenlp_module()


class NumpyLoops:
    """The equations as loops in float64, for what no library can hold; forward only."""

    library = "numpy loops"

    def __init__(self, ours):
        from comparison.numpy_model import NumpyModel

        weights = {name: array.astype(np.float64) for name, array in ours.weights().items()}
        self.model, self.config = NumpyModel(weights, ours.config), ours.config
        kind = kind_of(type(ours.model).__name__)
        self.head = {
            "ForMaskedLM": self.model.word_logits, "ForSequenceClassification": self.model.class_logits
        }.get(kind)  # fmt: skip

    def forward(self, inputs):
        states = self.model.forward(*(inputs[name] for name in ("input_ids", "token_type_ids", "attention_mask")))
        return Outputs(states, [self.head(states[-1])] if self.head else [])


def _disturb(parameters, seed):
    random = np.random.default_rng(seed)
    for weight in parameters:
        weight.set_value(weight.numpy() + random.normal(0, NOISE, weight.shape).astype(np.float32))


def settings_of(config):
    """What another library's configuration is made of; labels by their number only, which may be changed."""
    content = {**config.to_dict(), **NO_DROPOUT, "num_labels": config.num_labels}
    return {name: value for name, value in content.items() if name not in ("id2label", "label2id", "model_type")}
