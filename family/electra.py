"""ELECTRA in Paddle (Clark et al. 2020, arXiv 2003.10555) on ConvBERT's encoder, layer and heads.

What the libraries' heads are made of, and what each weight is called (P PaddleNLP 3.0.0b4, whose names are ours;
H transformers 4.55 and 5.23). None has a pooler:

| head | P: layers after the encoder | H, where it differs |
| --- | --- | --- |
| sequence classification | dropout, `classifier.dense`, GELU, dropout, `classifier.out_proj` | |
| token classification | dropout, `classifier` | |
| question answering | `classifier` [E, 2] | `qa_outputs` |
| multiple choice | first token, `sequence_summary.dense`, GELU, dropout, `classifier` [E, 1] | `sequence_summary.summary` |
| generator | `generator_predictions.{dense, layer_norm}`, words tied, `generator_lm_head_bias` | `ElectraForMaskedLM`: `generator_predictions.{dense, LayerNorm}`, `generator_lm_head.{weight, bias}` |
| discriminator | `discriminator_predictions.{dense, dense_prediction}` | `ElectraForPreTraining` |
| both at once | `generator.…`, `discriminator.…` (`ElectraForTotalPretraining`) | none |

The heads' GELU is `hidden_act` in P, here and in H's discriminator. In H's classifier and generator it is always GELU,
in its multiple choice `summary_activation`.
"""  # noqa: E501

from paddle import nn

import modeling
from family.configurations import ElectraConfig
from family.self_attention import SelfAttention
from layers.dense import Linear
from layers.functions import ACTIVATIONS


class ElectraPretrainedModel(modeling.PretrainedModel):
    config_class = ElectraConfig


class ElectraModel(ElectraPretrainedModel, modeling.ConvBertModel):
    """The encoder without a head."""

    attention_class = SelfAttention


class ElectraHead(ElectraPretrainedModel):
    encoder_class = ElectraModel


class ElectraForSequenceClassification(ElectraHead, modeling.ConvBertForSequenceClassification):
    pass


class ElectraForTokenClassification(ElectraHead, modeling.ConvBertForTokenClassification):
    pass


class ElectraForQuestionAnswering(ElectraHead, modeling.ConvBertForQuestionAnswering):
    pass


class ElectraSummary(nn.Layer):
    """[B, L, E] → [B, E]: the first token through a dense layer and the activation."""

    def __init__(self, config):
        super().__init__()
        self.dense = Linear(config, config.hidden_size, config.hidden_size)
        self.activation = ACTIVATIONS[config.hidden_act]

    def forward(self, hidden):
        return self.activation(self.dense(hidden[:, 0]))


class ElectraForMultipleChoice(ElectraHead, modeling.ConvBertForMultipleChoice):
    def __init__(self, config):
        super().__init__(config)
        self.sequence_summary = ElectraSummary(config)

    def pool(self, hidden):
        return self.sequence_summary(hidden)


class ElectraGenerator(ElectraHead, modeling.ConvBertGenerator):
    pass


ElectraForMaskedLM = ElectraGenerator


class ElectraDiscriminator(ElectraHead, modeling.ConvBertDiscriminator):
    pass


class ElectraForPretraining(ElectraPretrainedModel, modeling.ConvBertForPretraining):
    discriminator_class, generator_class = ElectraDiscriminator, ElectraGenerator
