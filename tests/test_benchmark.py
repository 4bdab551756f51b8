import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, needs

import benchmark
from comparison.peer_process import PeerProcess
from comparison.speed import draw_speed, matrix_flops, pretraining_flops, speed_table
from cpu.machine import has_bfloat16
from family.architectures import config_class, model_class
from files.errors import InputError
from layers.configuration import ConvBertConfig


@pytest.mark.parametrize(
    ("model_type", "own"),
    [("convbert", dict(embedding_size=16, conv_kernel_size=5)), ("bert", {}), ("electra", dict(embedding_size=16))],
)
def test_matrix_flops_are_those_of_every_product(model_type, own):
    """Against a count of what Paddle is asked to multiply, in the plain definition."""
    import paddle

    counted = 0

    def count(out, inner):
        nonlocal counted
        counted += 2 * out.size * inner
        return out

    linear, matmul = paddle.nn.functional.linear, paddle.matmul
    sizes = dict(vocab_size=50, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=48)
    config = config_class(model_type)(**sizes, **own)
    model = model_class(model_type, "ForSequenceClassification")(config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONVBERT_KERNELS", "paddle")
        patch.setattr("paddle.nn.functional.linear", lambda x, w, b: count(linear(x, w, b), x.shape[-1]))
        patch.setattr("paddle.matmul", lambda x, y, **k: count(matmul(x, y, **k), x.shape[-1]))
        model(paddle.ones([2, 7], "int64"))
    assert counted == matrix_flops(config, 2, 7)


def test_pretraining_flops_are_those_of_every_product(monkeypatch):
    import paddle

    from comparison.peers import masked_batch
    from modeling import ConvBertForPretraining

    counted = 0

    def count(out, inner):
        nonlocal counted
        counted += 2 * out.size * inner
        return out

    sizes = dict(vocab_size=150, embedding_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48)
    config, generator = (ConvBertConfig(**sizes, hidden_size=hidden) for hidden in (32, 16))
    model = ConvBertForPretraining(config, generator)
    linear, matmul = paddle.nn.functional.linear, paddle.matmul
    monkeypatch.setenv("CONVBERT_KERNELS", "paddle")
    monkeypatch.setattr("paddle.nn.functional.linear", lambda x, w, b: count(linear(x, w, b), x.shape[-1]))
    monkeypatch.setattr("paddle.matmul", lambda x, y, **k: count(matmul(x, y, **k), x.shape[-1]))
    ids, labels = masked_batch(config, 3, 32)
    assert (labels != -100).sum(axis=1).tolist() == [4, 4, 4]
    model(paddle.to_tensor(ids), labels=paddle.to_tensor(labels))
    assert counted == pretraining_flops(config, generator, 3, 32)


def test_groups_save_products():
    settings = dict(hidden_size=24, num_attention_heads=4, intermediate_size=48, num_hidden_layers=1, embedding_size=24)
    one, two = (matrix_flops(ConvBertConfig(**settings, num_groups=g), 1, 10) for g in (1, 2))
    assert one - two == 2 * 10 * 24 * 48  # half of the feed-forward's two products


FIGURES = {
    "machine": {"processor": "a processor", "cores": 2, "rounds": 1},
    "peak_gflops": {"float32": 300.0},
    "flops_per_token": {"train": 81.25e6},
    "runs": [
        dict(peer="ours", mode="train", model="convbert-small", batch=32, seq=128, median_s=1.0, min_s=0.9,
             tokens_per_s=4096.0, rss_mb=1000, floor_s=0.5),
        dict(peer="ours-bf16", mode="train", model="convbert-small", batch=32, seq=128, median_s=0.5, min_s=0.4,
             tokens_per_s=8192.0, rss_mb=700, floor_s=0.25),
        dict(peer="hf", mode="train", model="convbert-small", batch=32, seq=128, median_s=2.0, min_s=1.9,
             tokens_per_s=2048.0, rss_mb=2000, floor_s=None),
        dict(peer="ours", mode="glue", model="convbert-small", batch=32, seq=None, median_s=0.01, min_s=0.01,
             tokens_per_s=None, rss_mb=1000, floor_s=None, epoch_s=673.5),
    ],
    "notes": ["a note"],
    "ratios": {"train": {"hf": 2.0, "ours-bf16": 0.5}, "glue": {}},
    "ratios_bf16": {"train": {"hf": 4.0, "ours": 2.0}, "glue": {}},
}  # fmt: skip


def test_the_table():
    lines = speed_table(FIGURES).splitlines()
    assert lines[0] == "a processor, 2 cores; matrix products: 300 GFLOP/s float32"
    assert lines[1] == "operations of all products, a token: train 81.2 million"
    columns = "s per step | tokens/s | peak MB | × floor | ours is faster | ours-bf16 is faster |"
    assert f"| train, convbert-small, 32 × 128 | {columns}" in lines
    assert "| ours | 1.000 | 4,096 | 1,000 | 2.00 |  | 2.00 × |" in lines
    assert "| ours-bf16 | 0.500 | 8,192 | 700 | 2.00 | 0.50 × | |" in lines
    assert "| hf | 2.000 | 2,048 | 2,000 |  | 2.00 × | 4.00 × |" in lines
    assert "| ours | 674 |  | 1,000 |  |  |" in lines
    assert lines[-1] == "a note"


def test_the_chart(tmp_path):
    from matplotlib import pyplot

    draw_speed(FIGURES, tmp_path / "speed.png")
    picture = pyplot.imread(tmp_path / "speed.png")
    green = np.abs(picture[..., :3] - np.array([0x0B, 0x6E, 0x4F]) / 255).max(-1) < 0.02
    assert green.sum() > 1000  # our bars


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--rounds", "0"], "--rounds must be at least 1"),
        (["--peers", "ours"], "invalid choice"),
        (["--model", "x"], "x"),
        (
            ["--model", "bert-base-uncased", "--modes", "pretrain"],
            "--modes pretrain: bert-base-uncased has no generator",
        ),
    ],
)
def test_wrong_flags_are_one_line(capsys, flags, message):
    with pytest.raises(SystemExit) as error:
        benchmark.main(flags)
    assert error.value.code == 2
    assert message in capsys.readouterr().err


def run(*flags):
    done = subprocess.run(
        [sys.executable, "benchmark.py", "--model", "convbert-tiny", "--batch_size", "2", "--seq_length", "16",
         "--rounds", "1", *flags],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
@needs("torch", "transformers")
def test_a_run(tmp_path):
    path = tmp_path / "speed.json"
    flags = ["--modes", "infer", "train", "pretrain", "glue", "--sentences", "40", "--no-exports", "--peers", "hf"]
    done = run(*flags, "--json", str(path))
    written = json.loads(path.read_text())
    assert {(run["peer"], run["mode"]) for run in written["runs"]} == {
        (peer, mode)
        for peer in ("ours", *(["ours-bf16"] if has_bfloat16() else []), "hf")
        for mode in ("infer", "train", "pretrain", "glue")
    }
    assert written["peak_gflops"]["float32"] > 0
    for figure in written["runs"]:
        assert 0 < figure["min_s"] <= figure["median_s"]
        assert figure["rss_mb"] > 50
    assert done.stdout.strip() == speed_table(written)


@pytest.mark.slow
@needs("torch", "transformers", "paddle2onnx", "onnxruntime")
def test_exports_infer_too():
    lines = run("--modes", "infer", "--peers", "hf").stdout.splitlines()
    assert sum(line.startswith(tuple(f"| {name} |" for name in benchmark.EXPORTS)) for line in lines) == 3


def test_only_our_own_process_is_set_up():
    """What runtime.py sets in the benchmark's environment would speed up those that are measured as users run them."""
    code = """if True:
        import os, sys
        for name in ("OMP_NUM_THREADS", "MKL_DEBUG_CPU_TYPE"):
            os.environ.pop(name, None)
        before = dict(os.environ)
        from comparison import peer_process
        assert "runtime" not in sys.modules
        import benchmark, runtime
        assert os.environ["OMP_NUM_THREADS"] and runtime.FOUND == before
        peer_process.subprocess.Popen = lambda command, env, **_: sys.exit(0 if env == before else 3)
        peer_process.PeerProcess("hf", {})
        """
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_peer_that_was_killed_is_named():
    """As the system does when memory runs out; a broken pipe, of which scripts otherwise think that nobody reads."""
    peer = PeerProcess("ours", dict(model="convbert-tiny", batch_size=1, seq_length=8))
    peer.process.kill()
    peer.process.wait()
    with pytest.raises(InputError, match="ours was killed: out of memory"):
        peer.ask("infer")
    peer.close()


def test_what_is_not_installed_is_left_out(tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError('no torch', name='torch')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = run("--modes", "infer", "--peers", "hf", "--no-exports")
    assert "hf: left out, torch is not installed" in done.stderr
    assert "| ours |" in done.stdout
