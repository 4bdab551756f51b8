"""How many operators the plain definition is: what GPUs run, where each is a launch."""

import paddle
import pytest
from conftest import needs
from paddle import profiler

from comparison.references import Ours, PaddleNLP
from modeling import ConvBertConfig


def operators(model):
    """Those of a forward and a backward pass."""
    model.train()
    ids = paddle.arange(1, 17).reshape([2, 8])
    names = []

    def collect(recorder):
        nodes = list(recorder.profiler_result.get_data().values())
        while nodes:
            node = nodes.pop()
            nodes += node.children_node
            if str(node.type).endswith(".Operator"):
                names.append(node.name)

    def step():
        paddle.nn.functional.cross_entropy(model(ids), paddle.to_tensor([0, 1])).backward()

    step()  # whatever happens only once
    with profiler.Profiler(targets=[profiler.ProfilerTarget.CPU], on_trace_ready=collect):
        step()
    return len(names)


@needs("paddlenlp")
@pytest.mark.parametrize("layers", [1, 3])
def test_no_more_operators_than_paddlenlp(monkeypatch, layers):
    monkeypatch.setenv("CONVBERT_KERNELS", "paddle")
    config = ConvBertConfig.from_preset("convbert-tiny", num_hidden_layers=layers)
    architecture = "ConvBertForSequenceClassification"
    ours, theirs = (operators(library.random(architecture, config).model) for library in (Ours, PaddleNLP))
    assert 50 * layers < ours < theirs
