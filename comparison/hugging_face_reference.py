"""Hugging Face's models behind the interface of `references.py`."""

from pathlib import Path

from comparison.references import EPSILON, NO_DROPOUT, NOISE, WEIGHT_DECAY, Outputs, prefix_of, settings_of
from conversion import weight_names
from conversion.formats import HUGGING_FACE_CLASSES, hugging_face_obstacle
from files.weights import read_weights, write_safetensors


class HuggingFace:
    library, packages = "huggingface", ("torch", "transformers")
    obstacle = staticmethod(hugging_face_obstacle)

    def __init__(self, architecture, model, head=None):
        self.architecture, self.model, self.head, self.config = architecture, model, head, model.config

    @classmethod
    def load(cls, architecture, folder, seed=0, **changes):
        """With the stored weights; what the folder lacks of the head starts at random."""
        import torch
        import transformers

        torch.manual_seed(seed)
        settings = getattr(transformers, f"{prefix_of(architecture)}Config").from_pretrained(folder)
        for name, value in {**NO_DROPOUT, **cls._summary(settings), **changes}.items():
            setattr(settings, name, value)
        model, report = cls._class(architecture).from_pretrained(
            folder, config=settings, output_loading_info=True, ignore_mismatched_sizes=True
        )
        found = cls(architecture, model, cls._head(architecture, model.config))
        own = dict(model.named_parameters())
        mismatched = {name for name, *_ in report["mismatched_keys"]}  # heads of two kinds may share a name
        new = sorted({*report["missing_keys"], *mismatched} & own.keys())
        for name in new:
            if name.endswith("bias"):
                own[name].data.zero_()  # some are left as the memory was
        found._disturb([own[name] for name in new])
        if found.head:
            prefix = "discriminator_predictions."
            stored = {n.removeprefix(prefix): w for n, w in read_weights(folder).items() if n.startswith(prefix)}
            found._disturb(found.head.parameters())
            found.head.load_state_dict({n: torch.from_numpy(w.copy()) for n, w in stored.items()}, strict=bool(stored))
        return found

    @classmethod
    def random(cls, architecture, config, seed=0, **changes):
        import torch
        import transformers

        torch.manual_seed(seed)
        settings = {**settings_of(config), **cls._summary(config), **changes}
        model = cls._class(architecture)(getattr(transformers, f"{prefix_of(architecture)}Config")(**settings))
        found = cls(architecture, model, cls._head(architecture, model.config))
        found._disturb(model.parameters())
        if found.head:
            found._disturb(found.head.parameters())
        return found

    @staticmethod
    def _class(architecture):
        import transformers

        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        return getattr(transformers, HUGGING_FACE_CLASSES.get(architecture, architecture))

    @staticmethod
    def _summary(config):
        """What multiple choice makes of the hidden states as this project does: of the first token, without dropout."""
        activation = {"summary_activation": config.hidden_act} if config.model_type == "electra" else {}
        return {"summary_type": "first", "summary_last_dropout": 0.0, **activation}

    @staticmethod
    def _head(architecture, config):
        """ELECTRA's discriminator's on ConvBERT, for which Hugging Face has none."""
        if architecture != "ConvBertDiscriminator":
            return None
        from transformers.models.electra.modeling_electra import ElectraDiscriminatorPredictions

        return ElectraDiscriminatorPredictions(config)

    @staticmethod
    def _disturb(parameters):
        import torch

        with torch.no_grad():
            for weight in parameters:
                weight.add_(torch.randn_like(weight) * NOISE)

    @staticmethod
    def tokenizer(folder, prefix):
        import transformers

        name = f"{prefix.replace('Ernie', 'Bert')}Tokenizer"
        fast = getattr(transformers, f"{name}Fast", None) or getattr(transformers, name)  # until and from 5
        return fast.from_pretrained(folder)

    def save(self, folder):
        self.model.save_pretrained(folder)
        if self.head:
            named = [
                *self.model.state_dict().items(),
                *self.head.state_dict(prefix="discriminator_predictions.").items(),
            ]
            write_safetensors(Path(folder) / "model.safetensors", {n: w.numpy() for n, w in named}, "pt")

    def run(self, inputs, labels=None):
        import torch

        labels = {name: torch.from_numpy(array) for name, array in (labels or {}).items()}
        arguments = {name: torch.from_numpy(array) for name, array in inputs.items()} | ({} if self.head else labels)
        found = self.model(**arguments, output_hidden_states=True, return_dict=True)
        if self.head:
            logits, loss = self.head(found.last_hidden_state), None
            if labels:
                counts = labels["labels"] != -100
                loss = torch.nn.functional.binary_cross_entropy_with_logits(
                    logits[counts], labels["labels"][counts].float()
                )
            return Outputs(found.hidden_states, [logits], loss)
        logits = [found[name] for name in ("logits", "start_logits", "end_logits") if name in found]
        return Outputs(found.hidden_states, logits, found.get("loss"))

    def forward(self, inputs):
        """Outputs in evaluation mode, as arrays."""
        import torch

        self.model.eval()
        with torch.no_grad():
            found = self.run(inputs)
        return Outputs([x.numpy() for x in found.hidden_states], [x.numpy() for x in found.logits])

    def parameters(self):
        head = self.head.named_parameters(prefix="discriminator_predictions") if self.head else ()
        return dict([*self.model.named_parameters(), *head])

    def gradients(self, inputs, labels):
        """dict: our name → gradient of the loss; parameters that the loss does not reach are left out."""
        self.model.train()
        self.run(inputs, labels).loss.backward()
        found = {name: weight.grad.numpy() for name, weight in self.parameters().items() if weight.grad is not None}
        for weight in self.parameters().values():
            weight.grad = None
        return weight_names.from_hugging_face(found, self.architecture, self.library)

    def train(self, batches, learning_rate):
        """One AdamW step for each (inputs, labels); yields each loss."""
        import torch

        named = self.parameters().items()
        plain = [weight for name, weight in named if "bias" in name or "LayerNorm" in name]
        decayed = [weight for name, weight in named if not ("bias" in name or "LayerNorm" in name)]
        groups = [{"params": plain, "weight_decay": 0.0}, {"params": decayed, "weight_decay": WEIGHT_DECAY}]
        optimizer = torch.optim.AdamW(groups, lr=learning_rate, eps=EPSILON)
        self.model.train()
        for inputs, labels in batches:
            loss = self.run(inputs, labels).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            yield loss.item()

    def weights(self):
        """dict: our name → array."""
        found = {name: weight.detach().numpy() for name, weight in self.parameters().items()}
        return weight_names.from_hugging_face(found, self.architecture, self.library)
