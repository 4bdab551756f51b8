"""Static programs of a classifier: made from a model, and run by Paddle Inference or by ONNX Runtime.

A folder of one holds `program.json` beside the program, the configuration with the labels, and the vocabulary.
"""

import contextlib
import logging
import os
import sys
import warnings
from pathlib import Path

import numpy as np

from files.errors import InputError
from files.json_files import read_json
from files.temporary import temporary_folder

INPUTS = ("input_ids", "token_type_ids", "attention_mask")  # int64 [B, L] each
OPSET = 17  # of ONNX
NOTE = "program.json"  # in a program's folder: engine, precision; max_seq_length: texts' usual length; …


# ------------------------------------------------------------------------------------------------------------- making


def one_tensor(logits):
    """Logits as they are; those of answers' starts and ends, [B, L] each, as [B, L, 2]."""
    import paddle

    return paddle.stack(logits, -1) if isinstance(logits, tuple) else logits


def save_program(model, folder):
    """Writes inference.json and inference.pdiparams, for any batch and length."""
    import paddle

    class Program(paddle.nn.Layer):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, input_ids, token_type_ids, attention_mask):
            inputs = dict(input_ids=input_ids, token_type_ids=token_type_ids, attention_mask=attention_mask)
            return one_tensor(self.model(**inputs))

    specification = [paddle.static.InputSpec([None, None], "int64", name) for name in INPUTS]
    program = Program()
    program.eval()
    with warnings.catch_warnings(), _stdout_to_stderr():
        warnings.simplefilter("ignore")
        static = paddle.jit.to_static(program, input_spec=specification, full_graph=True)
        paddle.jit.save(static, str(Path(folder) / "inference"))


def save_onnx(model, folder):
    """Writes model.onnx, for any batch and length. Raises InputError: paddle2onnx is not installed."""
    paddle2onnx = _optional("paddle2onnx")
    with temporary_folder() as work, _stdout_to_stderr():
        save_program(model, work)
        parts = (f"{work}/inference.json", f"{work}/inference.pdiparams", str(Path(folder) / "model.onnx"))
        paddle2onnx.export(*parts, opset_version=OPSET, optimize_tool=None)  # its default optimizer does not end


def quantise(folder):
    """Turns model.onnx into 8-bit integers: products with weights, whose inputs get their scale at run time."""
    _optional("onnxruntime").set_default_logger_severity(3)  # errors only
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    path = Path(folder) / "model.onnx"
    with temporary_folder() as work, _stdout_to_stderr():
        logging.disable(logging.INFO)
        try:
            # Without this step nothing is quantised; its symbolic inference does not get through Paddle's shapes.
            quant_pre_process(str(path), f"{work}/prepared.onnx", skip_symbolic_shape=True)
            products = ["MatMul", "Gemm"]
            settings = dict(weight_type=QuantType.QInt8, per_channel=True, op_types_to_quantize=products)
            quantize_dynamic(f"{work}/prepared.onnx", str(path), **settings)
        finally:
            logging.disable(logging.NOTSET)


@contextlib.contextmanager
def _stdout_to_stderr():
    """What C++ prints on stdout goes to stderr."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _optional(name):
    try:
        return __import__(name)
    except ImportError as error:
        raise InputError(f"needs {name} ({error}): make setup") from None


# ------------------------------------------------------------------------------------------------------------ running


class PaddleInference:
    """Runs a folder's inference.json: arrays of INPUTS → logits, float32 [B, num_labels]. Not for several threads."""

    name = "paddle_inference"
    session = staticmethod(contextlib.nullcontext)  # what calls run in, opened once for many

    def __init__(self, folder):
        from paddle import inference

        folder = Path(folder)
        config = inference.Config(str(folder / "inference.json"), str(folder / "inference.pdiparams"))
        config.disable_glog_info()
        config.disable_mkldnn()
        config.set_cpu_math_library_num_threads(_threads())
        self._predictor = inference.create_predictor(config)

    def __call__(self, arrays):
        for name in self._predictor.get_input_names():
            handle = self._predictor.get_input_handle(name)
            handle.reshape(arrays[name].shape)
            handle.copy_from_cpu(arrays[name])
        self._predictor.run()
        return self._predictor.get_output_handle(self._predictor.get_output_names()[0]).copy_to_cpu()


class OnnxRuntime:
    """Runs a folder's model.onnx: arrays of INPUTS → logits, float32 [B, num_labels]."""

    name = "onnxruntime"
    session = staticmethod(contextlib.nullcontext)

    def __init__(self, folder):
        onnxruntime = _optional("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = _threads()
        options.log_severity_level = 3
        path = str(Path(folder) / "model.onnx")
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._names = [entry.name for entry in self._session.get_inputs()]

    def __call__(self, arrays):
        return self._session.run(None, {name: arrays[name] for name in self._names})[0]


class Dynamic:
    """Runs a model itself, in a session of the precision.Precision, for which weights are converted once."""

    name = "dynamic"

    def __init__(self, model, precision):
        self.model, self._precision = model, precision
        model.eval()

    def within(self, part):
        """The same of a part of the model, by the name of its attribute."""
        return Dynamic(getattr(self.model, part), self._precision)

    @contextlib.contextmanager
    def session(self):
        import paddle

        with paddle.no_grad(), self._precision.context():
            yield

    def __call__(self, arrays):
        import paddle

        logits = one_tensor(self.model(**{name: paddle.to_tensor(array) for name, array in arrays.items()}))
        return logits.astype("float32").numpy()


ENGINES = {engine.name: engine for engine in (Dynamic, PaddleInference, OnnxRuntime)}


def program_note(folder):
    """What a folder says of its program, a dict; None for a folder without one. Raises InputError."""
    path = Path(folder) / NOTE
    if not path.is_file():
        return None
    note = read_json(path)
    if note.get("engine") not in ENGINES:
        raise InputError(f"{path}: engine {note.get('engine')!r} is unknown")
    return note


def _threads():
    return int(os.environ.get("OMP_NUM_THREADS", "1").partition(",")[0])


def check_batches(vocab_size, longest, pad_id):
    """Arrays of INPUTS for comparisons: one token, the longest text, and padded batches of texts of all lengths."""
    random = np.random.default_rng(0)
    for lengths in ([1], [longest], [3, 17, 1], random.integers(1, longest + 1, 8)):
        lengths = np.minimum(lengths, longest)
        mask = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int64)
        ids = np.where(mask == 1, random.integers(0, vocab_size, mask.shape), pad_id)
        ids = np.where((mask == 1) & (ids == pad_id), (pad_id + 1) % vocab_size, ids)
        types = (np.arange(max(lengths)) >= np.array(lengths)[:, None] // 2) * mask
        yield {"input_ids": ids, "token_type_ids": types, "attention_mask": mask}
