import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, needs

import benchmark
from comparison.peer_process import PeerProcess
from comparison.peers import PEERS, can
from comparison.speed import draw_speed, matrix_flops, pretraining_flops, speed_table, summarise
from cpu.machine import has_bfloat16
from family.architectures import config_class, model_class
from family.configurations import preset
from files.errors import InputError
from layers import inference
from layers.configuration import ConvBertConfig
from modeling import dynamic_conv_by_taps


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
        patch.setattr("modeling.dynamic_conv", dynamic_conv_by_taps)  # which the floor does not count as a product
        patch.setattr("paddle.nn.functional.linear", lambda x, w, b: count(linear(x, w, b), x.shape[-1]))
        patch.setattr("paddle.matmul", lambda x, y, **k: count(matmul(x, y, **k), x.shape[-1]))
        model(paddle.ones([2, 7], "int64"))
    assert counted == matrix_flops(config, 2, 7)


def test_pretraining_flops_are_those_of_every_product(monkeypatch):
    import paddle

    from comparison.peer import masked_batch
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
    monkeypatch.setattr("modeling.dynamic_conv", dynamic_conv_by_taps)
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
        dict(peer="ours", mode="latency", model="convbert-small", batch=1, seq=19, median_s=0.004, min_s=0.003,
             tokens_per_s=4750.0, rss_mb=900, floor_s=0.002, p50_ms=4.0, p99_ms=6.5),
        dict(peer="ours-onnx", mode="latency", model="convbert-small", batch=1, seq=19, median_s=0.008, min_s=0.007,
             tokens_per_s=2375.0, rss_mb=800, floor_s=0.002, p50_ms=8.0, p99_ms=9.0),
        dict(peer="ours", mode="serve", model="convbert-small", batch=None, seq=None, median_s=0.1, min_s=None,
             tokens_per_s=None, rss_mb=700, floor_s=None, connections=32, requests_per_s=160.25, p50_ms=100.0,
             p99_ms=300.5, errors=1),
    ],
    "notes": ["a note"],
    "ratios": {"train": {"hf": 2.0, "ours-bf16": 0.5}, "glue": {}, "latency": {"ours-onnx": 2.0}},
    "ratios_bf16": {"train": {"hf": 4.0, "ours": 2.0}, "glue": {}, "latency": {}},
    "best_peers": {
        "train": {"ours": {"peer": "hf", "ratio": 2.0}}, "glue": {},
        "latency": {"ours": {"peer": "ours-onnx", "ratio": 2.0}},
    },
}  # fmt: skip


def test_the_table():
    lines = speed_table(FIGURES).splitlines()
    assert lines[0] == "a processor, 2 cores; matrix products: 300 GFLOP/s float32"
    assert lines[1] == "operations of all products, a token: train 81.2 million"
    columns = "s per step | tokens/s | peak MB | × floor | ours is faster | ours-bf16 is faster | best peer |"
    assert f"| train, convbert-small, 32 × 128 | {columns}" in lines
    assert "| ours | 1.000 | 4,096 | 1,000 | 2.00 |  | 2.00 × | hf: 2.00 × |" in lines
    assert "| ours-bf16 | 0.500 | 8,192 | 700 | 2.00 | 0.50 × |  |  |" in lines
    assert "| hf | 2.000 | 2,048 | 2,000 |  | 2.00 × | 4.00 × |  |" in lines
    assert "| ours | 674 |  | 1,000 |  |  |" in lines
    columns = "p50, ms | p99, ms | peak MB | × floor | ours is faster | best peer |"
    assert f"| latency, convbert-small, 1 × 19 | {columns}" in lines
    assert "| ours | 4.00 | 6.50 | 900 | 2.00 |  | ours-onnx: 2.00 × |" in lines
    assert "| serve, convbert-small | connections | requests/s | p50, ms | p99, ms | errors | peak MB |" in lines
    assert "| ours | 32 | 160.2 | 100.0 | 300.5 | 1 | 700 |" in lines
    assert lines[-1] == "a note"


def arguments(*flags):
    return benchmark.parse_args(["--model", "convbert-tiny", "--rounds", "2", *flags])


def test_the_best_peer_is_the_fastest_of_the_others_with_the_same_type():
    seconds = {"ours": 2.0, "ours-bf16": 0.9, "ours-onnx": 2.5, "openvino": 1.5, "openvino-bf16": 1.0, "hf": 3.0}
    answers = {("infer", name): [{"seconds": [second], "rss_mb": 1}] for name, second in seconds.items()}
    answers["train", "ours"] = [{"seconds": [1.0], "rss_mb": 1}]
    best = summarise(arguments("--modes", "infer", "train"), answers, {})["best_peers"]
    assert best["infer"]["ours"] == {"peer": "openvino", "ratio": 0.75}
    assert best["infer"]["ours-bf16"] == {"peer": "openvino-bf16", "ratio": pytest.approx(1 / 0.9)}
    assert best["infer"].keys() == {"ours", "ours-bf16"}
    assert best["train"] == {}


def test_latency_is_of_one_text_over_all_rounds():
    times = np.random.default_rng(0).permutation(np.arange(1, 201) / 1000)
    answers = {("latency", "ours"): [{"seconds": list(part), "rss_mb": 1} for part in np.split(times, 2)]}
    figures = summarise(arguments("--modes", "latency"), answers, {"float32": 100.0})
    (run,) = figures["runs"]
    assert (run["batch"], run["seq"]) == (1, 19)
    assert run["p50_ms"] == pytest.approx(1000 * run["median_s"]) == pytest.approx(100.5)
    assert run["p99_ms"] == pytest.approx(198.01)
    config = preset("convbert-tiny")
    assert run["floor_s"] == pytest.approx(matrix_flops(config, 1, 19) / 100e9)
    assert figures["flops_per_token"]["latency"] == matrix_flops(config, 1, 19) / 19


def test_a_server_s_rounds_become_a_row_for_each_number_of_connections():
    def load(connections, rate, errors):
        return dict(connections=connections, requests_per_s=rate, p50_ms=10.0, p99_ms=20.0, errors=errors)

    rounds = [
        {"loads": [load(1, 90.0, 0), load(32, 200.0, 1)], "rss_mb": 500},
        {"loads": [load(1, 110.0, 0), load(32, 300.0, 2)], "rss_mb": 600},
    ]
    answers = {("serve", "ours"): rounds}
    figures = summarise(arguments("--modes", "serve"), answers, {})
    assert [(run["connections"], run["requests_per_s"], run["errors"]) for run in figures["runs"]] == [
        (1, 100.0, 0),
        (32, 250.0, 3),
    ]
    assert all(run["rss_mb"] == 600 and run["median_s"] == 0.01 for run in figures["runs"])
    assert figures["ratios"] == {}


def test_what_peers_can_do():
    """By which benchmark.py chooses those that it starts."""
    able = {
        mode: {name for name in PEERS if can(name, mode)} for mode in ("infer", "train", "glue", "latency", "serve")
    }
    assert able["infer"] == able["latency"] == set(PEERS)
    only_infer = ("ours-int8", "ours-paddle", "ours-onnx", "openvino", "hf-zentorch")
    assert able["train"] == {name for name in PEERS if not name.startswith(only_infer)}
    assert able["glue"] == {"ours", "ours-bf16", "hf", "hf-bf16"}
    assert able["serve"] == {"ours"}


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
        (["--modes", "serve", "--plot", "x.png"], "--plot draws nothing of --modes serve"),
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
    modes = ["infer", "train", "pretrain", "glue", "latency"]
    flags = ["--modes", *modes, "--sentences", "40", "--no-exports", "--peers", "hf"]
    done = run(*flags, "--json", str(path))
    written = json.loads(path.read_text())
    expected = {(peer, mode) for peer in ("ours", *(["ours-bf16"] if has_bfloat16() else []), "hf") for mode in modes}
    if not inference.obstacle("int8"):
        expected |= {("ours-int8", "infer"), ("ours-int8", "latency")}
    assert {(run["peer"], run["mode"]) for run in written["runs"]} == expected
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


@pytest.mark.slow
@needs("torch", "transformers")
def test_compiled_peers(tmp_path):
    path = tmp_path / "speed.json"
    run("--modes", "infer", "latency", "train", "--no-exports", "--peers", "hf-compile-bf16", "--json", str(path))
    runs = [run for run in json.loads(path.read_text())["runs"] if run["peer"] == "hf-compile-bf16"]
    assert [run["mode"] for run in runs] == ["infer", "latency", "train"]
    assert runs[1]["p50_ms"] <= runs[1]["p99_ms"]


@pytest.mark.slow
@needs("fastapi", "uvicorn")
def test_a_served_model(tmp_path):
    path = tmp_path / "speed.json"
    done = run("--modes", "serve", "--sentences", "50", "--json", str(path))
    written = json.loads(path.read_text())
    assert [(run["peer"], run["connections"], run["errors"]) for run in written["runs"]] == [
        ("ours", 1, 0),
        ("ours", 32, 0),
    ]
    for figure in written["runs"]:
        assert figure["requests_per_s"] > 1
        assert 0 < figure["p50_ms"] <= figure["p99_ms"]
        assert figure["rss_mb"] > 50
    assert done.stdout.strip() == speed_table(written)


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


@pytest.mark.slow
def test_what_is_not_installed_is_left_out(tmp_path, monkeypatch):
    for name in ("torch", "openvino"):
        (tmp_path / f"{name}.py").write_text(f"raise ModuleNotFoundError('no {name}', name='{name}')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = run("--modes", "infer", "--peers", "hf", "openvino", "--no-exports")
    assert "hf: left out, torch is not installed" in done.stderr
    assert "openvino: left out, openvino is not installed" in done.stderr
    assert "| ours |" in done.stdout
