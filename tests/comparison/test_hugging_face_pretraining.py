"""Hugging Face's parts trained together, beside the joint models here: losses and gradients for the same words."""

import numpy as np
import paddle
import pytest
from conftest import needs

from comparison.hugging_face_pretraining import HuggingFacePretraining, nearest_generator
from comparison.hugging_face_reference import HuggingFace
from comparison.peer import masked_batch
from comparison.references import NO_DROPOUT, architecture_of
from conversion import weight_names
from family.architectures import config_class, model_class

SIZES = dict(
    vocab_size=1500, embedding_size=24, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
    intermediate_size=48, max_position_embeddings=40, **NO_DROPOUT,
)  # fmt: skip


def configs(model_type):
    return [config_class(model_type)(**{**SIZES, **changes}) for changes in ({}, {"hidden_size": 16})]


@needs("torch", "transformers")
@pytest.mark.parametrize("model_type", ["convbert", "electra"])
def test_losses_and_gradients(model_type):
    import torch

    config, small = configs(model_type)
    parts = {
        "generator": HuggingFace.random(architecture_of(small, "Generator"), small),
        "discriminator": HuggingFace.random(architecture_of(config, "Discriminator"), config, seed=1),
    }
    theirs = HuggingFacePretraining(**parts)
    ours = model_class(model_type, "ForPretraining")(config, small)
    for name in ("discriminator", "generator"):
        getattr(ours, name).load_weights(parts[name].weights(), "theirs", whole=True)

    ids, labels = masked_batch(config, 4, 30)
    found = ours(*map(paddle.to_tensor, (ids, np.zeros_like(ids))), labels=paddle.to_tensor(labels))
    drawn = torch.from_numpy(found.disc_input_ids.numpy())
    expected = theirs(*map(torch.from_numpy, (ids, np.zeros_like(ids), labels)), drawn)
    for mine, other in zip((found.loss, found.gen_loss, found.disc_loss), expected, strict=False):
        assert float(mine) == pytest.approx(other.item(), rel=1e-5)

    found.loss.backward()
    expected.loss.backward()
    assert len(theirs.parameters()) == len(ours.parameters())
    own = dict(ours.named_parameters())
    for part, reference in parts.items():
        raw = {name: weight.grad.numpy() for name, weight in reference.parameters().items()}
        gradients = weight_names.from_hugging_face(raw, reference.architecture, "theirs")
        largest = max(np.abs(gradient).max() for gradient in gradients.values())
        for name, gradient in gradients.items():
            weight = own.get(f"{part}.{name}")
            if weight is not None:  # else the embeddings, under the discriminator's name
                np.testing.assert_allclose(weight.grad.numpy(), gradient, rtol=0, atol=1e-4 * largest, err_msg=name)


@needs("torch", "transformers")
def test_parts_share_their_embeddings():
    config, small = configs("electra")
    theirs = HuggingFacePretraining(
        HuggingFace.random("ElectraGenerator", small), HuggingFace.random("ElectraDiscriminator", config)
    )
    assert theirs.gen_encoder.embeddings is theirs.disc_encoder.embeddings
    assert theirs.generator.generator_lm_head.weight is theirs.disc_encoder.embeddings.word_embeddings.weight


def test_the_nearest_generator():
    one = {"hidden_size": 8, "num_attention_heads": 1}
    assert nearest_generator(config_class("convbert")(**{**SIZES, **one})).num_attention_heads == 2
    electra = config_class("electra")(**{**SIZES, **one})
    assert nearest_generator(electra) == electra
