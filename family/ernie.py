"""ERNIE 1 to 3 in Paddle (Sun et al. 2019, arXiv 1904.09223; 2021, arXiv 2107.02137): BERT, with a table of tasks.

Its heads and their weights are BERT's, with `ernie` for `bert` (see `family/bert.py`), in PaddleNLP as in Hugging Face.
Where `use_task_id` is set, row `task_id` of `embeddings.task_type_embeddings` is added to every token's embedding; a
model of Hugging Face's can only have row 0 there. ERNIE 1's activation is ReLU, and it has 513 positions.
"""

from types import MappingProxyType

import paddle
from paddle import nn

from family import bert
from family.configurations import ErnieConfig
from layers.dense import truncated_normal
from modeling import ConvBertEmbeddings


class ErnieEmbeddings(ConvBertEmbeddings):
    def __init__(self, config):
        super().__init__(config)
        if config.use_task_id:
            self.task_type_embeddings = nn.Embedding(
                config.task_type_vocab_size, config.hidden_size, weight_attr=truncated_normal(config.initializer_range)
            )

    def kinds(self):
        kinds = super().kinds()
        return kinds + self.task_type_embeddings.weight[self.config.task_id] if self.config.use_task_id else kinds

    def of_types(self, token_type_ids):
        kinds = super().of_types(token_type_ids)
        tasks = paddle.full_like(token_type_ids, self.config.task_id)
        return kinds + self.task_type_embeddings(tasks) if self.config.use_task_id else kinds


class ErniePretrainedModel(bert.BertPretrainedModel):
    config_class = ErnieConfig


class ErnieModel(ErniePretrainedModel, bert.BertModel):
    embeddings_class = ErnieEmbeddings


class ErnieHead(ErniePretrainedModel, bert.BertHead):
    encoder_class = ErnieModel


class ErnieForSequenceClassification(ErnieHead, bert.BertForSequenceClassification):
    pass


class ErnieForTokenClassification(ErnieHead, bert.BertForTokenClassification):
    pass


class ErnieForQuestionAnswering(ErnieHead, bert.BertForQuestionAnswering):
    pass


class ErnieForMultipleChoice(ErnieHead, bert.BertForMultipleChoice):
    pass


class ErnieForMaskedLM(ErnieHead, bert.BertForMaskedLM):
    tied = MappingProxyType({n: same.replace("bert.", "ernie.") for n, same in bert.BertForMaskedLM.tied.items()})
