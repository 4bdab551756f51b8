"""The implementations that benchmark.py measures, each as its users would run it at its best on this machine.

A peer is built for one model size and batch; then `infer()`, `train()` and `epoch(texts, labels)` do one batch, one
training step, and one pass over a list of sentences from raw text to updated weights. Forward passes run inside the
context that `evaluation()` opens, once for many of them, as when a data set is evaluated. All are classifiers of two
labels with dropout as configured, trained with AdamW. `pretrain()` is a step of replaced-token detection with a
generator, from token ids; gradients are clipped to length 1 there.
"""

import contextlib
import functools
import tempfile

import numpy as np

from family.architectures import ARCHITECTURES
from family.configurations import preset

LEARNING_RATE, WEIGHT_DECAY = 1e-4, 0.01


def random_batch(config, batch_size, length, seed=0):
    """Token ids [B, L] without padding, and labels [B]."""
    random = np.random.default_rng(seed)
    return random.integers(1, config.vocab_size, (batch_size, length)), random.integers(0, 2, batch_size)


MASKED_SHARE, MASK_ID = 0.15, 103


def masked_batch(config, batch_size, length):
    """Token ids and labels [B, L] with as many masked positions as pre-training has; -100 at all others."""
    from pretraining.masking import most_masked

    ids, _ = random_batch(config, batch_size, length)
    places = np.random.default_rng(0).random(ids.shape).argsort(axis=1) < most_masked(length, MASKED_SHARE)
    return np.where(places, MASK_ID, ids), np.where(places, ids, -100)


def own_classifier(name):
    """This project's classifier of a published size, with random weights."""
    from family.architectures import model_class

    config = preset(name)
    return model_class(config.model_type, "ForSequenceClassification")(config)


class OurPeer:
    """This project, as run_glue.py uses it."""

    precision = "float32"

    def __init__(self, model, batch_size, length):
        import paddle

        from training.optimizer import adamw

        paddle.seed(0)
        self.name = model
        self.model = own_classifier(model)
        self.optimizer = adamw(self.model, LEARNING_RATE, WEIGHT_DECAY, 1e-6)
        self.batch_size, self.length = batch_size, length
        self.batch = [paddle.to_tensor(array) for array in random_batch(self.model.config, batch_size, length)]

    def matrix_product(self, size):
        """A function that multiplies two random matrices of that size."""
        import paddle

        a, b = paddle.randn([size, size]), paddle.randn([size, size])
        return lambda: paddle.matmul(a, b)

    def evaluation(self):
        import paddle

        return paddle.no_grad()

    def infer(self):
        self.model.eval()
        self.model(self.batch[0])

    def train(self, inputs=None, labels=None):
        self.model.train()
        inputs, labels = inputs or {"input_ids": self.batch[0]}, self.batch[1] if labels is None else labels
        self.model(**inputs, labels=labels).loss.backward()
        self.optimizer.step()
        self.optimizer.clear_grad()

    @functools.cached_property
    def pretraining(self):
        """Model, optimizer, and a batch of masked ids and labels."""
        import paddle

        from family.architectures import model_class
        from training.optimizer import adamw

        configs = [preset(name) for name in (self.name, f"{self.name}-generator")]
        model = model_class(configs[0].model_type, "ForPretraining")(*configs)
        batch = masked_batch(configs[0], self.batch_size, self.length)
        return model, adamw(model, LEARNING_RATE, WEIGHT_DECAY, 1e-6, 1.0), *map(paddle.to_tensor, batch)

    def pretrain(self):
        model, optimizer, ids, labels = self.pretraining
        model(ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.clear_grad()

    def epoch(self, texts, labels, vocab_file):
        """Batches of similar lengths, each padded to its own longest row."""
        import paddle

        from tokenizer import ConvBertTokenizer
        from training.order import shuffled_batches

        tokenizer = ConvBertTokenizer(vocab_file)
        encoded = tokenizer(texts, truncation=True, max_length=128)
        lengths = [len(ids) for ids in encoded["input_ids"]]
        for indices in shuffled_batches(lengths, self.batch_size, seed=0, epoch=0):
            rows = {key: [values[index] for index in indices] for key, values in encoded.items()}
            inputs = {key: paddle.to_tensor(array) for key, array in tokenizer.pad(rows).items()}
            self.train(inputs, paddle.to_tensor(labels[indices]))


class OurBfloat16Peer(OurPeer):
    """The same with bfloat16 products."""

    precision = "bfloat16"

    def matrix_product(self, size):
        import paddle

        from cpu.products import matmul

        a, b = (paddle.randn([size, size]).astype("bfloat16") for _ in range(2))
        return lambda: matmul(a, b)

    @contextlib.contextmanager
    def evaluation(self):
        from layers.fast_path import bfloat16

        with super().evaluation(), bfloat16():
            yield

    def train(self, inputs=None, labels=None):
        from layers.fast_path import bfloat16

        with bfloat16():
            super().train(inputs, labels)

    def pretrain(self):
        from layers.fast_path import bfloat16

        with bfloat16():
            super().pretrain()


class OnnxRuntimePeer:
    """What export.py makes of it, in ONNX Runtime."""

    precision, form, int8 = "float32", "onnx", False

    def __init__(self, model, batch_size, length):
        import paddle

        from tasks import programs

        if self.form == "onnx":
            import onnxruntime  # noqa: F401  (missing ones are named before the work begins)
            import paddle2onnx  # noqa: F401
        paddle.seed(0)
        dynamic = own_classifier(model)
        dynamic.eval()
        with tempfile.TemporaryDirectory() as folder:
            save, engine = programs.save_program, programs.PaddleInference
            if self.form == "onnx":
                save, engine = programs.save_onnx, programs.OnnxRuntime
            save(dynamic, folder)
            if self.int8:
                programs.quantise(folder)
            self.engine = engine(folder)
        ids, _ = random_batch(dynamic.config, batch_size, length)
        arrays = ids, np.zeros_like(ids), np.ones_like(ids)
        self.batch = dict(zip(programs.INPUTS, arrays, strict=True))

    def evaluation(self):
        return contextlib.nullcontext()

    def infer(self):
        self.engine(self.batch)


class PaddleInferencePeer(OnnxRuntimePeer):
    """The same in Paddle Inference."""

    form = "paddle_inference"


class Int8Peer(OnnxRuntimePeer):
    """The same in ONNX Runtime, with weights as 8-bit integers."""

    precision, int8 = "int8", True


class HuggingFacePeer:
    """transformers on PyTorch, with PyTorch's fused AdamW."""

    precision = "float32"

    def __init__(self, model, batch_size, length):
        import torch
        import transformers

        torch.manual_seed(0)
        self.name, own = model, preset(model)
        prefix = ARCHITECTURES[own.model_type].prefix
        config = getattr(transformers, f"{prefix}Config")(**own.to_dict())
        self.model = self.prepared(getattr(transformers, f"{prefix}ForSequenceClassification")(config))
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
        )
        self.batch_size, self.length = batch_size, length
        self.batch = [torch.from_numpy(array) for array in random_batch(config, batch_size, length)]

    def prepared(self, model):
        return model

    def precise(self):
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def evaluation(self):
        import torch

        with torch.inference_mode(), self.precise():
            yield

    def infer(self):
        self.model.eval()
        self.model(input_ids=self.batch[0])

    def train(self, inputs=None, labels=None):
        self.model.train()
        inputs, labels = inputs or {"input_ids": self.batch[0]}, self.batch[1] if labels is None else labels
        with self.precise():
            loss = self.model(**inputs, labels=labels).loss
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    @functools.cached_property
    def pretraining(self):
        """The objective, its optimizer, and a batch of masked ids and labels."""
        import torch

        from comparison import hugging_face_reference
        from comparison.hugging_face_pretraining import HuggingFacePretraining, nearest_generator

        config, generator = (preset(name) for name in (self.name, f"{self.name}-generator"))
        prefix = ARCHITECTURES[config.model_type].prefix
        parts = (f"{prefix}Generator", nearest_generator(generator)), (f"{prefix}Discriminator", config)
        objective = HuggingFacePretraining(*(hugging_face_reference.HuggingFace.random(*part) for part in parts))
        optimizer = torch.optim.AdamW(objective.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)
        objective.gen_encoder = self.prepared(objective.gen_encoder)
        objective.disc_encoder = self.prepared(objective.disc_encoder)
        batch = masked_batch(config, self.batch_size, self.length)
        return objective, optimizer, *map(torch.from_numpy, batch)

    def pretrain(self):
        import torch

        objective, optimizer, ids, labels = self.pretraining
        with self.precise():
            loss = objective(ids, torch.zeros_like(ids), labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    def epoch(self, texts, labels, vocab_file):
        """Random batches, each padded to its own longest row, as DataCollatorWithPadding makes them."""
        import torch
        import transformers

        tokenizer = transformers.BertTokenizerFast(vocab_file)
        encoded = tokenizer(texts, truncation=True, max_length=128)
        order = np.random.default_rng(0).permutation(len(texts))
        for indices in np.split(order, range(self.batch_size, len(order), self.batch_size)):
            rows = {key: [values[index] for index in indices] for key, values in encoded.items()}
            self.train(dict(tokenizer.pad(rows, return_tensors="pt")), torch.from_numpy(labels[indices]))


class HuggingFaceCompiledPeer(HuggingFacePeer):
    """The same under torch.compile."""

    def prepared(self, model):
        import torch

        return torch.compile(model)


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


class PaddleNLPPeer:
    """PaddleNLP's model, in a process that sets nothing up."""

    precision = "float32"

    def __init__(self, model, batch_size, length):
        from paddlenlp import transformers

        import paddle  # isort: skip

        paddle.seed(0)
        paddle.set_device("cpu")
        own = preset(model)
        settings = {name: value for name, value in own.to_dict().items() if name not in ("model_type", "classifier")}
        prefix = ARCHITECTURES[own.model_type].prefix
        config = getattr(transformers, f"{prefix}Config")(**settings)
        self.model = getattr(transformers, f"{prefix}ForSequenceClassification")(config)
        self.optimizer = paddle.optimizer.AdamW(
            LEARNING_RATE, parameters=self.model.parameters(), weight_decay=WEIGHT_DECAY
        )
        self.batch = [paddle.to_tensor(array) for array in random_batch(config, batch_size, length)]

    def evaluation(self):
        import paddle

        return paddle.no_grad()

    def infer(self):
        self.model.eval()
        self.model(self.batch[0])

    def train(self):
        import paddle.nn.functional as F

        self.model.train()
        F.cross_entropy(self.model(self.batch[0]), self.batch[1]).backward()
        self.optimizer.step()
        self.optimizer.clear_grad()


class PaddleNLPTunedPeer(PaddleNLPPeer):
    """PaddleNLP's model in a process that this project's runtime.py has set up."""


PEERS = {
    "ours": OurPeer,
    "ours-bf16": OurBfloat16Peer,
    "ours-paddle": PaddleInferencePeer,
    "ours-onnx": OnnxRuntimePeer,
    "ours-onnx-int8": Int8Peer,
    "hf": HuggingFacePeer,
    "hf-compile": HuggingFaceCompiledPeer,
    "hf-bf16": HuggingFaceBfloat16Peer,
    "paddlenlp": PaddleNLPPeer,
    "paddlenlp-tuned": PaddleNLPTunedPeer,
}
