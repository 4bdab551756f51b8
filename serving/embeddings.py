"""Vectors of texts, by the encoder of any folder."""

import numpy as np

from files.downloads import shipped
from files.errors import InputError
from serving.predictor import NoNumber, stored_model_type
from tasks import programs
from tasks.classifiers import EncodedTexts, load_tokenizer
from tasks.glue import Example
from text.tokenizer_files import stored_length

POOLINGS = "cls", "mean"  # the first token's hidden state; the mean over all real ones


class Embedder:
    """A folder's encoder, whatever head lies beside it.

    Args:
        pooling: one of POOLINGS.
        max_seq_length: longer texts are cut to this many tokens; None: to as many as in training, else the positions.
        precision: a precision.Precision; None: float32, OwnInference.

    Attribute `cut`: how many texts were longer so far. Raises InputError: no folder with weights and a vocabulary.
    """

    def __init__(self, folder, pooling, max_seq_length=None, batch_size=32, precision=None):
        from conversion.sources import resolve
        from family.architectures import model_class
        from training.precision import OwnInference

        folder = shipped(folder)
        model_type = stored_model_type(folder)
        if programs.program_note(folder):
            raise InputError(f"{folder}: holds a program, which gives no vectors; name the folder that it was made of")
        source = resolve(str(folder), model_type)
        self.folder, self.pooling, self.batch_size, self.cut = folder, pooling, batch_size, 0
        self.tokenizer = load_tokenizer(model_type, source)
        model = model_class(model_type, "Model").from_pretrained(source)
        self.engine = programs.Dynamic(model, precision or OwnInference("float32"))
        self.width, self.positions = model.config.hidden_size, model.config.max_position_embeddings
        self.max_seq_length = min(max_seq_length or stored_length(source) or self.positions, self.positions)

    def __call__(self, texts, pairs=None):
        """float32 [N, E], in the order of the texts; batches are of texts of similar length. Raises NoNumber."""
        from training.order import batches_by_length

        examples = [Example(text, pair, None) for text, pair in zip(texts, pairs or [None] * len(texts), strict=True)]
        encoded = EncodedTexts(self.tokenizer, examples, self.max_seq_length)
        self.cut += encoded.cut
        vectors = np.zeros([len(texts), self.width], np.float32)
        with self.engine.session():
            for batch in batches_by_length(encoded.lengths, self.batch_size):
                arrays = encoded.arrays(batch)
                vectors[batch] = self._pooled(self.engine(arrays), arrays["attention_mask"])
        if not np.isfinite(vectors).all():
            raise NoNumber(f"{self.folder}: no number (NaN or infinity) comes out; its weights are damaged")
        return vectors

    def _pooled(self, hidden, mask):
        """hidden [B, L, E], mask [B, L] → [B, E]."""
        if self.pooling == "cls":
            return hidden[:, 0]
        return (hidden * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
