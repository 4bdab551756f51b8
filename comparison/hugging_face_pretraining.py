"""ELECTRA's objective put together from Hugging Face's parts: what ours is compared with, in tests and speed.

Hugging Face has generators, encoders and ELECTRA's head for discriminators, but nothing that trains them together.
"""

from dataclasses import replace
from typing import Any, NamedTuple

from comparison.references import architecture_of
from conversion.formats import hugging_face_obstacle


class Outcome(NamedTuple):
    loss: Any
    gen_loss: Any
    disc_loss: Any
    disc_input_ids: Any


def nearest_generator(config):
    """The generator of a size, or where Hugging Face can't hold it, the same with as many heads as it needs."""
    if hugging_face_obstacle(config, architecture_of(config, "Generator")):
        return replace(config, num_attention_heads=config.head_ratio)
    return config


class HuggingFacePretraining:
    """generator, discriminator: hugging_face_reference.HuggingFace of a ConvBERT's or an ELECTRA's.

    The two share all embeddings and their LayerNorm.
    """

    def __init__(self, generator, discriminator, gen_weight=1.0, disc_weight=50.0):
        self.generator = generator.model
        self.gen_encoder, self.disc_encoder = generator.model.base_model, discriminator.model.base_model
        self.head = discriminator.head or discriminator.model.discriminator_predictions
        self.gen_encoder.embeddings = self.disc_encoder.embeddings
        self.generator.generator_lm_head.weight = self.disc_encoder.embeddings.word_embeddings.weight
        self.weights = gen_weight, disc_weight

    def parameters(self):
        """Without the shared ones twice."""
        parts = (self.generator, self.disc_encoder, self.head)
        return list(dict.fromkeys(parameter for part in parts for parameter in part.parameters()))

    def __call__(self, input_ids, token_type_ids, labels, disc_input_ids=None):
        """Tensors int [B, L]; labels: the original at masked positions, -100 elsewhere. Padding is id 0.

        disc_input_ids: what the generator put in; left out, it is drawn.
        """
        import torch
        from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

        masked, real = labels != -100, (input_ids != 0).float()
        context = dict(token_type_ids=token_type_ids, attention_mask=real)
        hidden = self.gen_encoder(input_ids, **context).last_hidden_state[masked]
        gen_logits = self.generator.generator_lm_head(self.generator.generator_predictions(hidden))
        gen_loss = cross_entropy(gen_logits, labels[masked])
        if disc_input_ids is None:
            disc_input_ids = input_ids.clone()
            shares = torch.softmax(gen_logits.detach().float(), -1)
            disc_input_ids[masked] = torch.multinomial(shares, 1).squeeze(-1)
        originals = torch.where(masked, labels, input_ids)
        logits = self.head(self.disc_encoder(disc_input_ids, **context).last_hidden_state)
        replaced = (disc_input_ids != originals).float()
        disc_loss = binary_cross_entropy_with_logits(logits[real > 0], replaced[real > 0])
        loss = self.weights[0] * gen_loss + self.weights[1] * disc_loss
        return Outcome(loss, gen_loss, disc_loss, disc_input_ids)
