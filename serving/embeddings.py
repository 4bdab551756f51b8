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
    """An encoder that gives vectors, which do not depend on the other texts.

    A ConvBERT's convolutions read padding, so its batches are of texts of one length.

    Args:
        engine: programs.Dynamic of an encoder.
        tokenizer: ConvBertTokenizer; folder: what messages name.
        max_seq_length: longer texts are cut to this many tokens.

    Attribute `cut`: how many texts were longer so far.
    """

    labels = ()

    def __init__(self, engine, tokenizer, folder, max_seq_length, batch_size=32):
        self.engine, self.tokenizer, self.folder, self.cut = engine, tokenizer, folder, 0
        config = engine.model.config
        self.width, self.positions, self.batch_size = config.hidden_size, config.max_position_embeddings, batch_size
        self.max_seq_length = min(max_seq_length, self.positions)
        self._reads_padding = config.model_type == "convbert" and not config.mask_conv_padding

    @classmethod
    def of_folder(cls, folder, max_seq_length=None, batch_size=32, precision=None):
        """A folder's encoder, whatever head lies beside it.

        Args:
            max_seq_length: None: as many as in training, else the positions.
            precision: a precision.Precision; None: float32, OwnInference.

        Raises:
            InputError: no folder with weights and a vocabulary.
        """
        from conversion.sources import resolve
        from family.architectures import model_class
        from training.precision import OwnInference

        folder = shipped(folder)
        model_type = stored_model_type(folder)
        if programs.program_note(folder):
            raise InputError(f"{folder}: holds a program, which gives no vectors; name the folder that it was made of")
        source = resolve(str(folder), model_type)
        tokenizer = load_tokenizer(model_type, source)
        model = model_class(model_type, "Model").from_pretrained(source)
        usual = stored_length(source) or model.config.max_position_embeddings
        engine = programs.Dynamic(model, precision or OwnInference("float32"))
        return cls(engine, tokenizer, folder, max_seq_length or usual, batch_size)

    @classmethod
    def inside(cls, predictor):
        """The encoder of what answers with its head, a predictor.Predictor or one of heads.HEADS that is no program."""
        engine = predictor.engine.within("backbone")
        return cls(engine, predictor.tokenizer, predictor.folder, predictor.max_seq_length, predictor.batch_size)

    def __call__(self, texts, pairs=None, pooling="mean"):
        """float32 [N, E], in the order of the texts. pooling: one of POOLINGS. Raises NoNumber."""
        if not texts:
            return np.zeros([0, self.width], np.float32)
        examples = [Example(text, pair, None) for text, pair in zip(texts, pairs or [None] * len(texts), strict=True)]
        encoded = EncodedTexts(self.tokenizer, examples, self.max_seq_length)
        self.cut += encoded.cut
        vectors = np.zeros([len(texts), self.width], np.float32)
        with self.engine.session():
            for batch in self._batches(encoded.lengths):
                arrays = encoded.arrays(batch)
                vectors[batch] = pooled(self.engine(arrays), arrays["attention_mask"], pooling)
        if not np.isfinite(vectors).all():
            raise NoNumber(f"{self.folder}: no number (NaN or infinity) comes out; its weights are damaged")
        return vectors

    def _batches(self, lengths):
        """Lists of indices, of texts of similar length."""
        from training.order import batches_by_length

        for batch in batches_by_length(lengths, self.batch_size):
            if not self._reads_padding:
                yield batch
                continue
            batch = np.asarray(batch)
            for length in np.unique(lengths[batch]):
                yield batch[lengths[batch] == length]


def pooled(hidden, mask, pooling):
    """hidden [B, L, E], mask [B, L] → [B, E]."""
    if pooling == "cls":
        return hidden[:, 0]
    return (hidden * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
