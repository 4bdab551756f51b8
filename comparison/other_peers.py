"""Hugging Face's and PaddleNLP's models as peers of benchmark.py."""

import contextlib
import functools

import numpy as np

from comparison.peer import LEARNING_RATE, WEIGHT_DECAY, Peer
from family.architectures import ARCHITECTURES
from family.configurations import preset


class HuggingFacePeer(Peer):
    """transformers on PyTorch, with PyTorch's fused AdamW."""

    def __init__(self, model, batch_size, length):
        import torch
        import transformers

        super().__init__(model, batch_size, length)
        torch.manual_seed(0)
        prefix = ARCHITECTURES[self.config.model_type].prefix
        config = getattr(transformers, f"{prefix}Config")(**self.config.to_dict())
        self.model = getattr(transformers, f"{prefix}ForSequenceClassification")(config)
        self.called = self.prepared(self.model)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
        )

    def prepared(self, model):
        """What is called in its place."""
        return model

    def precise(self):
        return contextlib.nullcontext()

    def tensor(self, array):
        import torch

        return torch.from_numpy(array)

    @contextlib.contextmanager
    def evaluation(self):
        import torch

        with torch.inference_mode(), self.precise():
            yield

    def forward(self, ids):
        self.model.eval()
        return self.called(input_ids=ids)

    def train(self, inputs=None, labels=None):
        self.model.train()
        inputs, labels = inputs or {"input_ids": self.batch[0]}, self.batch[1] if labels is None else labels
        with self.precise():
            loss = self.called(**inputs, labels=labels).loss
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    @functools.cached_property
    def pretraining(self):
        """The objective and its optimizer."""
        import torch

        from comparison import hugging_face_reference
        from comparison.hugging_face_pretraining import HuggingFacePretraining, nearest_generator

        config, generator = self.config, preset(f"{self.name}-generator")
        prefix = ARCHITECTURES[config.model_type].prefix
        parts = (f"{prefix}Generator", nearest_generator(generator)), (f"{prefix}Discriminator", config)
        objective = HuggingFacePretraining(*(hugging_face_reference.HuggingFace.random(*part) for part in parts))
        optimizer = torch.optim.AdamW(objective.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)
        objective.gen_encoder = self.prepared(objective.gen_encoder)
        objective.disc_encoder = self.prepared(objective.disc_encoder)
        return objective, optimizer

    def pretrain(self):
        import torch

        objective, optimizer = self.pretraining
        ids, labels = self.masked
        with self.precise():
            loss = objective(ids, torch.zeros_like(ids), labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    def epoch(self, texts, labels, vocab_file):
        """Random batches, each padded to its own longest row, as DataCollatorWithPadding makes them."""
        import transformers

        tokenizer = transformers.BertTokenizerFast(vocab_file)
        encoded = tokenizer(texts, truncation=True, max_length=128)
        order = np.random.default_rng(0).permutation(len(texts))
        for indices in np.split(order, range(self.batch_size, len(order), self.batch_size)):
            rows = {key: [values[index] for index in indices] for key, values in encoded.items()}
            self.train(dict(tokenizer.pad(rows, return_tensors="pt")), self.tensor(labels[indices]))


class HuggingFaceCompiledPeer(HuggingFacePeer):
    """The same under torch.compile; without gradients its weights are constants ("freezing")."""

    backend = "inductor"
    epoch = None  # has many lengths, and each would be compiled for itself

    def prepared(self, model):
        import torch
        import torch._inductor.config

        torch._inductor.config.freezing = True
        return torch.compile(model, dynamic=False, backend=self.backend)


class HuggingFaceBfloat16Peer(HuggingFacePeer):
    """The same under bfloat16 autocast."""

    precision = "bfloat16"

    def precise(self):
        import torch

        return torch.autocast("cpu", dtype=torch.bfloat16)

    def matrix_product(self, size):
        import torch

        a, b = torch.randn([size, size]).bfloat16(), torch.randn([size, size]).bfloat16()
        return lambda: a @ b


class HuggingFaceCompiledBfloat16Peer(HuggingFaceCompiledPeer, HuggingFaceBfloat16Peer):
    """Both."""


class ZentorchPeer(HuggingFaceCompiledPeer):
    """The same compiled by AMD's zentorch, which is for inference."""

    backend = "zentorch"
    train = pretrain = None

    def __init__(self, model, batch_size, length):
        import zentorch  # noqa: F401

        super().__init__(model, batch_size, length)


class ZentorchBfloat16Peer(ZentorchPeer, HuggingFaceBfloat16Peer):
    """The same under bfloat16 autocast."""


class PaddleNLPPeer(Peer):
    """PaddleNLP's model, in a process that sets nothing up."""

    def __init__(self, model, batch_size, length):
        from paddlenlp import transformers

        import paddle  # isort: skip

        paddle.seed(0)
        paddle.set_device("cpu")
        super().__init__(model, batch_size, length)
        left_out = "model_type", "classifier"
        settings = {name: value for name, value in self.config.to_dict().items() if name not in left_out}
        prefix = ARCHITECTURES[self.config.model_type].prefix
        config = getattr(transformers, f"{prefix}Config")(**settings)
        self.model = getattr(transformers, f"{prefix}ForSequenceClassification")(config)
        self.optimizer = paddle.optimizer.AdamW(
            LEARNING_RATE, parameters=self.model.parameters(), weight_decay=WEIGHT_DECAY
        )

    def tensor(self, array):
        import paddle

        return paddle.to_tensor(array)

    def evaluation(self):
        import paddle

        return paddle.no_grad()

    def forward(self, ids):
        self.model.eval()
        return self.model(ids)

    def train(self):
        import paddle.nn.functional as F

        self.model.train()
        F.cross_entropy(self.model(self.batch[0]), self.batch[1]).backward()
        self.optimizer.step()
        self.optimizer.clear_grad()


class PaddleNLPTunedPeer(PaddleNLPPeer):
    """PaddleNLP's model in a process that this project's runtime.py has set up."""
