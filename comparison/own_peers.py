"""This project's models as peers of benchmark.py, and the programs that export.py makes of them."""

import contextlib
import functools
import tempfile

import numpy as np

from comparison.peer import LEARNING_RATE, WEIGHT_DECAY, Peer
from family.configurations import preset


def own_classifier(name):
    """This project's classifier of a published size, with random weights."""
    import paddle

    from family.architectures import model_class

    paddle.seed(0)
    config = preset(name)
    return model_class(config.model_type, "ForSequenceClassification")(config)


class OurPeer(Peer):
    """This project, as run_glue.py uses it."""

    ours = True

    def __init__(self, model, batch_size, length):
        from training.optimizer import adamw

        super().__init__(model, batch_size, length)
        self.model = own_classifier(model)
        self.optimizer = adamw(self.model, LEARNING_RATE, WEIGHT_DECAY, 1e-6)
        self.computing, self.packed = self.chosen_precision(), None

    def chosen_precision(self):
        from training.precision import Precision

        return Precision()

    def tensor(self, array):
        import paddle

        return paddle.to_tensor(array)

    def matrix_product(self, size):
        import paddle

        a, b = paddle.randn([size, size]), paddle.randn([size, size])
        return lambda: paddle.matmul(a, b)

    @contextlib.contextmanager
    def evaluation(self):
        import paddle

        from training.precision import OwnInference

        self.model.eval()
        self.packed = self.packed or OwnInference(self.precision)
        with paddle.no_grad(), self.packed.context():
            yield

    def forward(self, ids):
        return self.model(ids)

    def train(self, inputs=None, labels=None):
        self.model.train()
        inputs, labels = inputs or {"input_ids": self.batch[0]}, self.batch[1] if labels is None else labels
        self._step(self.optimizer, lambda: self.model(**inputs, labels=labels).loss)

    def _step(self, optimizer, loss):
        with self.computing.training():
            loss().backward()
        self.computing.step(optimizer)
        optimizer.clear_grad()
        self.packed = None  # of weights that were others

    @functools.cached_property
    def pretraining(self):
        """Model and optimizer."""
        from family.architectures import model_class
        from training.optimizer import adamw

        generator = preset(f"{self.name}-generator")
        model = model_class(self.config.model_type, "ForPretraining")(self.config, generator)
        return model, adamw(model, LEARNING_RATE, WEIGHT_DECAY, 1e-6, 1.0)

    def pretrain(self):
        model, optimizer = self.pretraining
        ids, labels = self.masked
        self._step(optimizer, lambda: model(ids, labels=labels).loss)

    def epoch(self, texts, labels, vocab_file):
        """Batches of similar lengths, each padded to its own longest row."""
        from tokenizer import ConvBertTokenizer
        from training.order import shuffled_batches

        tokenizer = ConvBertTokenizer(vocab_file)
        encoded = tokenizer(texts, truncation=True, max_length=128)
        lengths = [len(ids) for ids in encoded["input_ids"]]
        for indices in shuffled_batches(lengths, self.batch_size, seed=0, epoch=0):
            rows = {key: [values[index] for index in indices] for key, values in encoded.items()}
            inputs = {key: self.tensor(array) for key, array in tokenizer.pad(rows).items()}
            self.train(inputs, self.tensor(labels[indices]))

    def save(self, folder, vocab_file):
        from tokenizer import ConvBertTokenizer

        self.model.save_pretrained(folder)
        ConvBertTokenizer(vocab_file).save_pretrained(folder)


class OurBfloat16Peer(OurPeer):
    """The same with bfloat16 products."""

    precision = "bfloat16"
    save = None  # served in float32 only

    def matrix_product(self, size):
        import paddle

        from cpu.products import matmul

        a, b = (paddle.randn([size, size]).astype("bfloat16") for _ in range(2))
        return lambda: matmul(a, b)

    def chosen_precision(self):
        from training.precision import OwnBfloat16

        return OwnBfloat16()


class OurInt8Peer(OurPeer):
    """The same with products of 8-bit integers, for inference."""

    precision = "int8"
    train = epoch = pretrain = save = matrix_product = None


class ProgramPeer(Peer):
    """A program that export.py makes, for any batch and length, in the engine that `load(folder)` gives."""

    def __init__(self, model, batch_size, length):
        super().__init__(model, batch_size, length)
        self.require()
        dynamic = own_classifier(model)
        dynamic.eval()
        with tempfile.TemporaryDirectory() as folder:
            self.export(dynamic, folder)
            self.engine = self.load(folder)

    tensor = staticmethod(np.asarray)

    def forward(self, ids):
        from tasks.programs import INPUTS

        return self.engine(dict(zip(INPUTS, (ids, np.zeros_like(ids), np.ones_like(ids)), strict=True)))


class PaddleInferencePeer(ProgramPeer):
    """Paddle Inference."""

    def require(self):
        """Imports what may not be installed, so that it is missed before the work begins."""

    def export(self, model, folder):
        from tasks.programs import save_program

        save_program(model, folder)

    def load(self, folder):
        from tasks.programs import PaddleInference

        return PaddleInference(folder)


class OnnxRuntimePeer(ProgramPeer):
    """ONNX Runtime."""

    def require(self):
        import onnxruntime  # noqa: F401
        import paddle2onnx  # noqa: F401

    def export(self, model, folder):
        from tasks.programs import save_onnx

        save_onnx(model, folder)

    def load(self, folder):
        from tasks.programs import OnnxRuntime

        return OnnxRuntime(folder)


class OnnxRuntimeInt8Peer(OnnxRuntimePeer):
    """The same with weights as 8-bit integers."""

    precision = "int8"

    def export(self, model, folder):
        from tasks.programs import quantise

        super().export(model, folder)
        quantise(folder)


class OpenVinoPeer(OnnxRuntimePeer):
    """The same ONNX in OpenVINO."""

    hint = "f32"  # else it takes bfloat16 wherever the processor has it

    def require(self):
        import openvino  # noqa: F401
        import paddle2onnx  # noqa: F401

    def load(self, folder):
        import openvino

        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": self.hint}
        program = openvino.Core().compile_model(f"{folder}/model.onnx", "CPU", settings)
        return lambda arrays: program(arrays)[0]


class OpenVinoBfloat16Peer(OpenVinoPeer):
    """The same with bfloat16 products."""

    precision, hint = "bfloat16", "bf16"
