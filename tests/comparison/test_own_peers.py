"""The programs that benchmark.py gives to other engines answer as our model does, whose products have their type."""

import numpy as np
import pytest
from conftest import needs

from comparison import own_peers

SHAPE = ("convbert-tiny", 3, 24)


@pytest.fixture(scope="module")
def expected():
    """Logits of the batch and of the one text."""
    return logits(own_peers.OurPeer(*SHAPE))


def logits(peer):
    with peer.evaluation():
        return [np.array(peer.forward(ids)) for ids in (peer.batch[0], peer.one_text)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        pytest.param("PaddleInferencePeer", 1e-5),
        pytest.param("OnnxRuntimePeer", 1e-5, marks=needs("onnxruntime", "paddle2onnx")),
        pytest.param("OpenVinoPeer", 1e-5, marks=needs("openvino", "paddle2onnx")),
        pytest.param("OpenVinoBfloat16Peer", 0.05, marks=needs("openvino", "paddle2onnx")),
    ],
)
def test_programs_answer_as_the_model(name, tolerance, expected):
    found = logits(getattr(own_peers, name)(*SHAPE))
    assert [part.shape for part in found] == [(3, 2), (1, 2)]
    for part, wanted in zip(found, expected, strict=True):
        assert np.abs(part - wanted).max() <= tolerance
