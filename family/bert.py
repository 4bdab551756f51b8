"""BERT in Paddle (Devlin et al. 2018, arXiv 1810.04805) on ConvBERT's encoder, layer and heads.

What the libraries' heads are made of, and what each weight is called (P PaddleNLP 3.0.0b4, whose names are ours;
H transformers 4.55 and 5.23). `pooler.dense` + tanh reads the first token:

| head | P: layers after the encoder | H, where it differs | pooler in P / H |
| --- | --- | --- | --- |
| sequence classification | pooler, dropout, `classifier` | | yes / yes |
| token classification | dropout, `classifier` | | kept, unread / none |
| question answering | `classifier` [E, 2] | `qa_outputs` | kept, unread / none |
| multiple choice | pooler, dropout, `classifier` [E, 1] | | yes / yes |
| masked language model | `cls.predictions.{transform, layer_norm, decoder_bias}`, words tied; `decoder.weight`, `decoder.bias` again | `cls.predictions.{transform.dense, transform.LayerNorm, bias}` | kept, unread / none |
| next sentence | `cls.seq_relationship`: read, and dropped by name | | yes / yes |

Weights start as in Google's code: truncated normals of deviation `initializer_range`, the heads' too.
"""  # noqa: E501

from types import MappingProxyType

import paddle.nn.functional as F
from paddle import nn

import modeling
from family.configurations import BertConfig
from family.self_attention import SelfAttention
from layers.dense import Linear, normalized
from layers.functions import ACTIVATIONS


class BertClassifier(Linear):
    """[B, E] → [B, num_labels]: dropout and a dense layer."""

    def __init__(self, config, dropout):
        super().__init__(config, config.hidden_size, config.num_labels)
        self.dropout = dropout

    def forward(self, x):
        return super().forward(F.dropout(x, self.dropout, training=self.training))


class BertPredictions(nn.Layer):
    """Hidden states [..., E] → [..., E], to be compared with the word embeddings."""

    def __init__(self, config):
        super().__init__()
        self.transform = Linear(config, config.hidden_size, config.hidden_size)
        self.activation = ACTIVATIONS[config.hidden_act]
        self.layer_norm = nn.LayerNorm(config.hidden_size, epsilon=config.layer_norm_eps)
        self.decoder_bias = self.create_parameter([config.vocab_size], is_bias=True)

    def forward(self, hidden):
        return normalized(self.activation(self.transform(hidden)), self.layer_norm)


class BertPretrainedModel(modeling.PretrainedModel):
    config_class, last_start, classifier_class = BertConfig, None, BertClassifier


class BertModel(BertPretrainedModel, modeling.ConvBertModel):
    """The encoder, with a pooler unless the configuration has none."""

    attention_class = SelfAttention


class BertHead(BertPretrainedModel):
    encoder_class = BertModel

    def __init__(self, config):
        config.require(config.has_pooler or not self.needs_pooler, f"{type(self).__name__} reads a pooler")
        super().__init__(config)


class BertForSequenceClassification(BertHead, modeling.ConvBertForSequenceClassification):
    needs_pooler = True


class BertForTokenClassification(BertHead, modeling.ConvBertForTokenClassification):
    pass


class BertForQuestionAnswering(BertHead, modeling.ConvBertForQuestionAnswering):
    pass


class BertForMultipleChoice(BertHead, modeling.ConvBertForMultipleChoice):
    needs_pooler = True


class BertForMaskedLM(BertHead, modeling.MaskedLanguageModel):
    checkpoint_part = "generator."
    tied = MappingProxyType(
        {
            "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
            "cls.predictions.decoder_weight": "bert.embeddings.word_embeddings.weight",
            "cls.predictions.decoder.bias": "cls.predictions.decoder_bias",
        }
    )

    def __init__(self, config):
        super().__init__(config)
        self.cls = nn.LayerDict({"predictions": BertPredictions(config)})

    def transformed(self, hidden):
        return self.cls["predictions"](hidden)

    @property
    def word_bias(self):
        return self.cls["predictions"].decoder_bias

    @word_bias.setter
    def word_bias(self, bias):
        self.cls["predictions"].decoder_bias = bias
