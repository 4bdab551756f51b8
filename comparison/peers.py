"""All implementations that benchmark.py measures."""

from comparison.other_peers import (
    HuggingFaceBfloat16Peer,
    HuggingFaceCompiledBfloat16Peer,
    HuggingFaceCompiledPeer,
    HuggingFacePeer,
    PaddleNLPPeer,
    PaddleNLPTunedPeer,
    ZentorchBfloat16Peer,
    ZentorchPeer,
)
from comparison.own_peers import (
    OnnxRuntimeInt8Peer,
    OnnxRuntimePeer,
    OpenVinoBfloat16Peer,
    OpenVinoPeer,
    OurBfloat16Peer,
    OurInt8Peer,
    OurPeer,
    PaddleInferencePeer,
)

PEERS = {
    "ours": OurPeer,
    "ours-bf16": OurBfloat16Peer,
    "ours-int8": OurInt8Peer,
    "ours-paddle": PaddleInferencePeer,
    "ours-onnx": OnnxRuntimePeer,
    "ours-onnx-int8": OnnxRuntimeInt8Peer,
    "openvino": OpenVinoPeer,
    "openvino-bf16": OpenVinoBfloat16Peer,
    "hf": HuggingFacePeer,
    "hf-compile": HuggingFaceCompiledPeer,
    "hf-bf16": HuggingFaceBfloat16Peer,
    "hf-compile-bf16": HuggingFaceCompiledBfloat16Peer,
    "hf-zentorch": ZentorchPeer,
    "hf-zentorch-bf16": ZentorchBfloat16Peer,
    "paddlenlp": PaddleNLPPeer,
    "paddlenlp-tuned": PaddleNLPTunedPeer,
}
METHODS = {"glue": "epoch", "serve": "save"}  # of the modes that are not called as the method that does them


def can(name, mode):
    """Whether a peer does what benchmark.py measures in that mode."""
    return getattr(PEERS[name], METHODS.get(mode, mode), None) is not None
