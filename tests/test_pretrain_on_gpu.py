"""docs/pretrain_on_gpu.py, tried out on a CPU: its texts, its objective, and what convert.py makes of it."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, needs

from pretraining.segments import Segments
from pretraining.token_store import prepare
from tokenizer import ConvBertTokenizer

sys.path.insert(0, str(ROOT / "docs"))
TINY = ROOT / "pretrained/convbert-tiny"


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """(file that `pack` wrote, the segments that it holds)."""
    folder = tmp_path_factory.mktemp("text")
    tokenizer = ConvBertTokenizer(TINY / "vocab.txt")
    store = prepare([str(ROOT / "samples/corpus.txt")], tokenizer, folder / "data")
    script = [sys.executable, str(ROOT / "docs/pretrain_on_gpu.py")]
    flags = ["--data", folder / "data", "--vocab_file", TINY / "vocab.txt", "--output", folder / "text.npz"]
    subprocess.run([*script, "pack", *map(str, flags), "--max_seq_length", "64"], check=True)
    return folder / "text.npz", Segments(store, tokenizer, 64, 0.01, False)


@needs("torch", "transformers")
def test_examples_are_those_of_run_pretrain(text):
    import pretrain_on_gpu
    import torch

    path, segments = text
    packed = pretrain_on_gpu.Text(np.load(path), torch.device("cpu"))
    assert len(packed.train) == len(segments)
    ids, types = packed.inputs(packed.train)
    expected, kinds = segments.inputs(np.arange(len(segments)))
    width = expected.shape[1]
    np.testing.assert_array_equal(ids.numpy()[:, :width], expected)
    np.testing.assert_array_equal(types.numpy()[:, :width], kinds)
    assert not ids.numpy()[:, width:].any()
    numbers = np.arange(len(segments))
    others, taken = (numbers + 7) % len(segments), numbers % 2 == 0
    ids, types = packed.inputs(packed.train, packed.train[others], torch.from_numpy(taken))
    for found, wanted in zip((ids, types), segments.inputs(numbers, others, taken), strict=True):
        np.testing.assert_array_equal(found.numpy()[:, : wanted.shape[1]], wanted)


@needs("torch", "transformers")
def test_attention_is_hugging_faces_and_losses_are_those_of_the_joint_model(text, monkeypatch):
    import pretrain_on_gpu
    import torch
    from transformers.models.convbert.modeling_convbert import ConvBertSelfAttention

    from comparison.hugging_face_pretraining import HuggingFacePretraining

    torch.manual_seed(0)
    monkeypatch.setattr(ConvBertSelfAttention, "forward", own := ConvBertSelfAttention.forward)
    packed = pretrain_on_gpu.Text(np.load(text[0]), torch.device("cpu"))
    no_dropout = dict.fromkeys(pretrain_on_gpu.DROPOUTS, 0.0)
    parts = pretrain_on_gpu.build(*pretrain_on_gpu.sizes(TINY, **no_dropout))
    for part in parts:
        for weight in part.parameters():
            weight.data.add_(torch.randn_like(weight) * 0.05)
    ids, types = packed.inputs(packed.train[:6])
    places, counts = pretrain_on_gpu.hide(packed, ids, torch.rand(ids.shape))
    noise = torch.rand(*places.shape, parts[1].config.vocab_size).clamp(1e-7, 1 - 1e-7)
    masked = torch.rand(places.shape) < 0.85
    found = pretrain_on_gpu.losses(parts, packed, ids, types, places, counts, noise, masked)
    assert (counts.sum(1) >= 1).all()
    told = [pretrain_on_gpu.losses(parts, packed, ids, types, places, counts, noise, masked, word.repeat(6)) for word in
            (torch.tensor([False]), torch.tensor([True]))]  # fmt: skip
    assert told[0]["disc_loss"].item() == found["disc_loss"].item() != told[1]["disc_loss"].item()
    assert told[0]["first_token_right"].item() == pytest.approx(1 - told[1]["first_token_right"].item())
    assert packed.maskable[ids.gather(1, places)[counts]].all()

    monkeypatch.setattr(ConvBertSelfAttention, "forward", own)
    again = pretrain_on_gpu.losses(parts, packed, ids, types, places, counts, noise, masked)
    for name, value in found.items():
        assert value.item() == pytest.approx(again[name].item(), rel=1e-5), name

    class Part:
        def __init__(self, model, head=None):
            self.model, self.head = model, head

    generator, discriminator, head = parts
    joint = HuggingFacePretraining(Part(generator), Part(discriminator, head))
    labels = torch.full_like(ids, -100)
    for row, (chosen, counted) in enumerate(zip(places, counts, strict=True)):
        labels[row, chosen[counted]] = ids[row, chosen[counted]]
    inputs = ids.scatter(1, places, torch.where(counts & masked, packed.mask, ids.gather(1, places)))
    logits = generator.generator_lm_head(
        generator.generator_predictions(
            pretrain_on_gpu.encode(generator.convbert, inputs, types, ids != packed.pad).gather(
                1, places[..., None].expand(-1, -1, generator.config.hidden_size)
            )
        )
    )
    drawn = (logits - torch.log(-torch.log(noise))).argmax(-1)
    seen = ids.scatter(1, places, torch.where(counts, drawn, ids.gather(1, places)))
    expected = joint(inputs, types, labels, seen)
    assert found["gen_loss"].item() == pytest.approx(expected.gen_loss.item(), rel=1e-5)
    assert found["disc_loss"].item() == pytest.approx(expected.disc_loss.item(), rel=1e-5)


@pytest.mark.slow
@needs("torch", "transformers")
def test_a_run_that_convert_reads(text, tmp_path):
    from modeling import ConvBertDiscriminator

    script = [sys.executable, str(ROOT / "docs/pretrain_on_gpu.py"), "train"]
    flags = ["--text", text[0], "--size", TINY, "--output_dir", tmp_path / "out", "--steps", "2", "--notes", "1"]
    flags += ["--batch_size", "4", "--device", "cpu", "--mode", "", "--nsp_prob", "0.5"]
    done = subprocess.run([*script, *map(str, flags)], check=True, capture_output=True, text=True)
    assert "held_out_disc_loss" in done.stdout
    converted = [sys.executable, str(ROOT / "convert.py"), "--input", tmp_path / "out/discriminator"]
    subprocess.run([*map(str, converted), "--output", str(tmp_path / "ours")], check=True)
    model = ConvBertDiscriminator.from_pretrained(str(tmp_path / "ours"))
    assert model.config.hidden_dropout_prob == 0.1
