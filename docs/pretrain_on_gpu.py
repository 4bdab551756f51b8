"""Pre-trains a ConvBERT on one GPU with PyTorch: ELECTRA's objective from Hugging Face's parts.

    python run_pretrain.py --input_dir TEXTS --model_name_or_path convbert-tiny --vocab_file vocab.txt \
        --output_dir RUN --prepare_only
    python docs/pretrain_on_gpu.py pack --data RUN/data --vocab_file vocab.txt --output text.npz
    python docs/pretrain_on_gpu.py train --text text.npz --size pretrained/convbert-tiny --output_dir OUT --seconds 480
    python convert.py --input OUT/discriminator --output WEIGHTS --dtype float16
    python convert.py --input OUT/generator --output WEIGHTS/generator --dtype float16

`train` needs PyTorch, transformers and numpy alone, so it runs on a machine without Paddle (`--device cpu --mode ''`
tries it out). A step has no branch that depends on data, and all text lies on the device, so it is compiled as a whole.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

MASKED = 0.15  # of the tokens
GENERATOR, DISCRIMINATOR = 1.0, 50.0  # weights of the losses
WARM_UP = 0.04  # of the steps
TIMED = 100  # steps, the first ones left out, from which the number of all is told
DROPOUTS = "hidden_dropout_prob", "attention_probs_dropout_prob"
DECAYED = 0.01  # weight decay, of matrices


def pack(args):
    """A store of tokens and its packed examples as one file: tokens [T], train and held_out [N, 3] as segments.pack."""
    from pretraining.masking import Vocabulary
    from pretraining.segments import Segments
    from pretraining.token_store import TokenStore
    from tokenizer import ConvBertTokenizer

    tokenizer = ConvBertTokenizer(args.vocab_file)
    store = TokenStore.open(Path(args.data))
    examples = [Segments(store, tokenizer, args.max_seq_length, args.validation_share, held) for held in (False, True)]
    train, held_out = (np.array(part._index, np.int32) for part in examples)
    maskable = Vocabulary(tokenizer).maskable
    special = [tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id, tokenizer.mask_token_id]
    np.savez_compressed(
        args.output, tokens=np.array(store.tokens, np.uint16), train=train, held_out=held_out, maskable=maskable,
        special=np.array(special), length=args.max_seq_length,
    )  # fmt: skip
    print(f"{len(store.tokens):,} tokens, {len(train):,} + {len(held_out):,} examples: {args.output}")


class Text:
    """Packed examples on a device: input_ids and token_type_ids of some of them, made there."""

    def __init__(self, packed, device):
        import torch

        self.tokens = torch.from_numpy(packed["tokens"].astype(np.int32)).to(device)
        self.train, self.held_out = (torch.from_numpy(packed[name]).to(device) for name in ("train", "held_out"))
        self.maskable = torch.from_numpy(packed["maskable"]).to(device)
        self.begin, self.end, self.pad, self.mask = packed["special"].tolist()
        self.length = int(packed["length"])
        self.places = torch.arange(self.length, device=device)[None]

    def inputs(self, examples, others=None, taken=None):
        """What Segments.inputs gives, for rows of train or held_out, int [B, 3]; int64 [B, L] twice."""
        import torch

        start, middle, stop = (column[:, None].long() for column in examples.unbind(1))
        begin, size = middle, stop - middle  # of the second segment
        if others is not None:
            _, theirs, until = (column[:, None].long() for column in others.unbind(1))
            begin, size = torch.where(taken[:, None], theirs, middle), torch.minimum(size, until - theirs)
        ends = (
            1 + middle - start,
            2 + middle - start + size,
        )  # places of the two [SEP]; the second one if there is a pair
        paired, place = size > 0, self.places
        second = place > ends[0]
        where = torch.where(second, begin + place - ends[0] - 1, start + place - 1).clamp(0, len(self.tokens) - 1)
        ids = self.tokens[where].long()
        ids = torch.where(place == 0, self.begin, ids)
        ids = torch.where((place == ends[0]) | (paired & (place == ends[1])), self.end, ids)
        last = torch.where(paired, ends[1], ends[0])
        return torch.where(place > last, self.pad, ids), (second & (place <= last)).long()


def build(config, generator_config):
    """The two models and the discriminator's head, all embeddings shared; new ones."""
    from transformers import ConvBertConfig, ConvBertForMaskedLM, ConvBertModel
    from transformers.models.convbert.modeling_convbert import ConvBertSelfAttention
    from transformers.models.electra.modeling_electra import ElectraDiscriminatorPredictions

    config, generator_config = (ConvBertConfig(**c, attn_implementation="eager") for c in (config, generator_config))
    generator, discriminator = ConvBertForMaskedLM(generator_config), ConvBertModel(config)
    head = ElectraDiscriminatorPredictions(config)
    for layer in (head.dense, head.dense_prediction):
        layer.weight.data.normal_(0.0, config.initializer_range)
        layer.bias.data.zero_()
    ConvBertSelfAttention.forward = attend
    generator.convbert.embeddings = discriminator.embeddings
    generator.generator_lm_head.weight = discriminator.embeddings.word_embeddings.weight
    return generator, discriminator, head


def attend(self, hidden, mask=None, *ignored, **others):
    """What Hugging Face's ConvBertSelfAttention computes, by sums over the K taps: its products of K numbers, and its
    depthwise convolution, take most of a step on a GPU. hidden [B, L, E] → [B, L, E]."""
    import torch
    from torch.nn.functional import linear, pad, scaled_dot_product_attention

    (size, length, _), heads, taps = hidden.shape, self.num_attention_heads, self.conv_kernel_size
    apart = (size, length, heads, -1)
    queries, keys, values = self.query(hidden), self.key(hidden), self.value(hidden)

    def shifted(x):
        x = pad(x, (0, 0, taps // 2, taps // 2))
        return [x[:, tap : tap + length] for tap in range(taps)]

    convolution = self.key_conv_attn_layer
    by_tap = convolution.depthwise.weight[:, 0].unbind(1)  # K times [E]
    span = sum(x * weight for x, weight in zip(shifted(hidden), by_tap, strict=True))
    span = linear(span, convolution.pointwise.weight[..., 0]) + convolution.bias[:, 0]  # the key that sees its span
    kernels = torch.softmax(self.conv_kernel_layer(span * queries).view(size, length, heads, taps).float(), -1)
    kernels = kernels.to(queries.dtype)
    moved = shifted(self.conv_out_layer(hidden))
    convolved = sum(x.reshape(apart) * kernels[..., tap, None] for tap, x in enumerate(moved))
    queries, keys, values = (x.view(apart).transpose(1, 2) for x in (queries, keys, values))
    context = scaled_dot_product_attention(queries, keys, values, attn_mask=mask.to(queries.dtype)).transpose(1, 2)
    return torch.cat([context, convolved], 2).reshape(size, length, -1), None


def encode(model, ids, types, real):
    """Hidden states [B, L, E] of a ConvBertModel; its own forward asks on the host whether there is padding."""
    hidden = model.embeddings(input_ids=ids, token_type_ids=types)
    if hasattr(model, "embeddings_project"):
        hidden = model.embeddings_project(hidden)
    return model.encoder(hidden, attention_mask=(1 - real[:, None, None].float()) * -1e9)[0]


def hide(text, ids, scores):
    """Places to mask in each row, int [B, M], and whether each counts: a share of the real tokens, at least one."""
    import torch

    most = int((MASKED + 0.005) * ids.shape[1])
    real = (ids != text.pad).sum(1)
    wanted = (real * MASKED).round().clamp(1, most)
    places = torch.where(text.maskable[ids], scores, 2.0).topk(most, dim=1, largest=False).indices
    return places, torch.arange(most, device=ids.device)[None] < wanted[:, None]


def losses(parts, text, ids, types, places, counts, noise, masked, not_next=None):
    """One step's sums, a dict of scalars.

    Args:
        ids, types: int [B, L].
        places, counts: as hide gives them.
        noise: [B, M, V], from (0, 1): what the generator draws depends on it.
        masked: bool [B, M], the places that become [MASK]; the others that count stay as they are.
        not_next: bool [B], whether the second segment is another text's, which is told of [CLS]; None: of none.
    """
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

    generator, discriminator, head = parts
    real = ids != text.pad
    originals = ids.gather(1, places)
    hidden_ids = ids.scatter(1, places, torch.where(counts & masked, text.mask, originals))
    hidden = encode(generator.convbert, hidden_ids, types, real)
    hidden = hidden.gather(1, places[..., None].expand(-1, -1, hidden.shape[-1]))  # [B, M, E]
    logits = generator.generator_lm_head(generator.generator_predictions(hidden)).float()
    each = cross_entropy(logits.flatten(0, 1), originals.flatten(), reduction="none")
    gen_loss = (each * counts.flatten()).sum() / counts.sum()
    drawn = (logits.detach() - torch.log(-torch.log(noise))).argmax(-1)  # Gumbel's way to draw from a softmax
    seen = ids.scatter(1, places, torch.where(counts, drawn, originals))
    says = head(encode(discriminator, seen, types, real)).float()
    replaced = seen != ids
    if not_next is not None:
        replaced = torch.cat([not_next[:, None], replaced[:, 1:]], 1)
    each = binary_cross_entropy_with_logits(says, replaced.float(), reduction="none")
    disc_loss = (each * real).sum() / real.sum()
    right = (logits.detach().argmax(-1) == originals) & counts
    judged = ((says > 0) == replaced) & real
    return dict(
        loss=GENERATOR * gen_loss + DISCRIMINATOR * disc_loss, gen_loss=gen_loss, disc_loss=disc_loss,
        filled_right=right.sum() / counts.sum(), judged_right=judged.sum() / real.sum(),
        found=(judged & replaced).sum() / replaced.sum(), first_token_right=judged[:, 0].float().mean(),
    )  # fmt: skip


def sizes(folder, **changes):
    """The two configurations of a folder, the discriminator's first, as Hugging Face's class takes them."""
    own = ("architectures", "model_type", "num_labels", "problem_type", "classifier", "mask_conv_padding")
    found = []
    for part in (Path(folder), Path(folder) / "generator"):
        config = json.loads((part / "config.json").read_text("utf-8"))
        config = {name: value for name, value in config.items() if name not in (*own, "id2label", "label2id")}
        found.append(config | changes)
    return found


def rate(step, steps, highest):
    """The learning rate of a step: up over WARM_UP of them, then linearly to 0."""
    warm = max(1, int(WARM_UP * steps))
    return highest * min((step + 1) / warm, (steps - step) / (steps - warm))


def train(args):
    import torch

    torch.manual_seed(args.seed)
    torch.set_float32_matmul_precision("high")
    device = torch.device(args.device)
    text = Text(np.load(args.text), device)
    parts = [part.to(device) for part in build(*sizes(args.size, **dict.fromkeys(DROPOUTS, args.dropout)))]
    weights = list(dict.fromkeys(weight for part in parts for weight in part.parameters()))
    groups = [[w for w in weights if (w.ndim > 1) == wide] for wide in (True, False)]
    settings = dict(lr=torch.tensor(args.learning_rate, device=device), betas=(0.9, args.beta2), eps=1e-6)
    optimizer = torch.optim.AdamW(
        [dict(params=groups[0], weight_decay=DECAYED), dict(params=groups[1], weight_decay=0.0)],
        **settings, fused=device.type == "cuda",
    )  # fmt: skip
    words = parts[1].config.vocab_size

    def step(examples, others):
        taken = None if others is None else torch.rand(len(examples), device=device) < args.nsp_prob
        ids, types = text.inputs(examples, others, taken)
        not_next = None if others is None else taken & types.any(1)
        places, counts = hide(text, ids, torch.rand(ids.shape, device=device))
        noise = torch.rand(*places.shape, words, device=device).clamp(1e-7, 1 - 1e-7)
        masked = torch.rand(places.shape, device=device) < 0.85
        with torch.autocast(device.type, torch.bfloat16, enabled=not args.float32):
            return losses(parts, text, ids, types, places, counts, noise, masked, not_next)

    step = torch.compile(step, dynamic=False, mode=args.mode) if args.mode else step
    begin, log, order, steps, timed = time.time(), [], [], args.steps, None
    size, epochs, number = args.batch_size, 0, 0

    def note(entry):
        log.append(entry)
        print(" ".join(f"{name} {value:.5g}" for name, value in entry.items()), flush=True)

    def held_out():
        for part in parts:
            part.eval()
        torch.manual_seed(1)
        whole = [text.held_out[n : n + size] for n in range(0, len(text.held_out) - size + 1, size)][:8]
        with torch.no_grad():
            others = whole[1:] + whole[:1] if args.nsp_prob else [None] * len(whole)
            pairs = zip(whole, others, strict=True)
            found = [{name: value.item() for name, value in step(*pair).items()} for pair in pairs]
        for part in parts:
            part.train()
        torch.manual_seed(args.seed + number)
        return {name: sum(f[name] for f in found) / len(found) for name in found[0]}

    held_out()  # compiles the forward pass
    while steps is None or number < steps:
        if steps is None and number == TIMED:  # the first steps compile
            if device.type == "cuda":
                torch.cuda.synchronize()
            timed = time.time()
        if steps is None and number == 3 * TIMED:
            if device.type == "cuda":
                torch.cuda.synchronize()
            each = (time.time() - timed) / (2 * TIMED)
            steps = max(number + 1, TIMED + int(args.seconds / each))
            print(f"{each * 1e3:.2f} ms a step, {size * text.length / each:,.0f} tokens/s; {steps:,} steps", flush=True)
        if len(order) < size:
            order, epochs = torch.randperm(len(text.train), device=device), epochs + 1
        chosen, order = order[:size], order[size:]
        optimizer.param_groups[0]["lr"].fill_(rate(number, steps or args.planned, args.learning_rate))
        torch.compiler.cudagraph_mark_step_begin()
        others = text.train[torch.randint(len(text.train), [size], device=device)] if args.nsp_prob else None
        found = step(text.train[chosen], others)
        found["loss"].backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        number += 1
        if steps and (number == steps or number % max(1, steps // args.notes) == 0):
            values = {name: value.item() for name, value in found.items()}
            if not math.isfinite(values["loss"]):
                raise SystemExit(f"step {number}: the loss is {values['loss']}; a lower --learning_rate may help")
            at = dict(step=number, seconds=time.time() - begin, epoch=epochs, **values)
            note(at | {f"held_out_{name}": value for name, value in held_out().items()})
            save(args, parts, log)
    if device.type == "cuda":
        print(f"{torch.cuda.get_device_name()}, {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB", flush=True)


def save(args, parts, log):
    """OUT/discriminator and OUT/generator as convert.py reads them, and OUT/log.json."""
    from safetensors.torch import save_file

    generator, discriminator, head = parts
    folder = Path(args.output_dir)
    for part, size in zip((discriminator, generator), sizes(args.size), strict=True):
        part.config.update({name: size[name] for name in DROPOUTS})  # as whoever fine-tunes wants them
    named = {f"convbert.{name}": weight for name, weight in discriminator.state_dict().items()}
    named |= {f"discriminator_predictions.{name}": weight for name, weight in head.state_dict().items()}
    for part, weights, config in (
        ("discriminator", named, discriminator.config), ("generator", generator.state_dict(), generator.config),
    ):  # fmt: skip
        (folder / part).mkdir(parents=True, exist_ok=True)
        weights = {name: weight.detach().cpu().clone() for name, weight in weights.items()}
        save_file(weights, folder / part / "model.safetensors", {"format": "pt"})
        config.save_pretrained(folder / part)
    (folder / "log.json").write_text(json.dumps(log, indent=1), "utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("pack", help="a store of tokens as one file")
    one.add_argument("--data", required=True, help="the folder data of run_pretrain.py --prepare_only")
    one.add_argument("--vocab_file", required=True)
    one.add_argument("--output", required=True, help="new .npz")
    one.add_argument("--max_seq_length", type=int, default=128)
    one.add_argument("--validation_share", type=float, default=0.01, help="of the documents that are held out")
    one.set_defaults(run=pack)
    one = commands.add_parser("train", help="pre-train on it")
    one.add_argument("--text", required=True, help="what pack has written")
    one.add_argument("--size", required=True, help="folder with config.json and generator/config.json")
    one.add_argument("--output_dir", required=True)
    one.add_argument("--seconds", type=float, default=480, help="of training, once it is compiled")
    one.add_argument("--steps", type=int, help="instead of --seconds")
    one.add_argument("--planned", type=int, default=30000, help="steps that the warm-up goes by until time has told")
    one.add_argument("--batch_size", type=int, default=256)
    one.add_argument("--learning_rate", type=float, default=2e-3)
    one.add_argument("--beta2", type=float, default=0.98)
    one.add_argument("--dropout", type=float, default=0.0)
    one.add_argument("--nsp_prob", type=float, default=0.0, help="as of run_pretrain.py")
    one.add_argument("--notes", type=int, default=40, help="how often held-out losses and weights are written")
    one.add_argument("--seed", type=int, default=42)
    one.add_argument("--device", default="cuda")
    one.add_argument("--float32", action="store_true", help="no bfloat16")
    one.add_argument("--mode", default="default", help="of torch.compile; '' does without")
    one.set_defaults(run=train)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
