"""A small HTTP server that answers with a fine-tuned model, and a page to try it.

    python serve.py --model output/SST-2
    curl -H 'Content-Type: application/json' -d '{"text": "A film one wants to see twice."}' localhost:8000/predict

`/` is the page, `/predict` takes one text or many, alone or in pairs, `/explain` gives a picture of what the model
does with one; a model of run_squad.py has `/answer` instead, one of run_tagging.py `/tag`; all of them, and an encoder
without a head, have `/embed` for vectors. `/health` says whether it is up and what it takes, `/metrics` what it has
done, `/docs` lists all of it. One thread computes; what arrives meanwhile forms its next batches.
"""

import runtime  # noqa: F401  (before Paddle)

import contextlib
import gc
import os
import signal
import socket
import sys

from files.downloads import shipped
from files.errors import InputError
from flags.command_line import ArgumentParser, at_least, from_zero, script
from flags.computing import add_inference
from serving.application import make_app
from serving.batching import Batcher
from serving.embeddings import Embedder
from serving.heads import HEADS, Answering, make_head
from serving.predictor import Predictor, make_predictor, precision_of
from tasks.heads import is_named, stored_head

FIRST = "The first answer compiles what has to be compiled."


def parse_args(argv):
    parser = ArgumentParser("Serve a fine-tuned model over HTTP.")
    parser.add_argument(
        "--model", required=True, metavar="FOLDER", help="fine-tuned model, or what export.py made of it"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0: reachable from outside")
    parser.add_argument("--port", type=at_least(0), default=8000, help="port to listen on; 0: any that is free")
    parser.add_argument(
        "--root_path", type=root_path, default="", metavar="PREFIX",
        help="what a proxy has before every path, as in /convbert, whether it cuts it off or not",
    )  # fmt: skip
    parser.add_argument(
        "--max_wait_ms", type=from_zero, default=0.0,
        help="how long a text may wait for others to be computed with, up to --batch_size; 0: only while others are",
    )  # fmt: skip
    add_inference(parser, split_special_tokens=True)
    args = parser.parse_args(argv)
    if args.port > 65535:
        parser.error(f"--port must be at most 65535, not {args.port}")
    return args


def root_path(text):
    """A flag's type: a path's beginning, with a slash before it and none after."""
    return f"/{path}" if (path := text.strip("/")) else ""


def made(args):
    """What answers with the folder that flags name."""
    folder = shipped(args.model)
    head = stored_head(folder)
    if head in HEADS:
        return make_head(args, head)
    if head is None and is_named(folder):
        return Embedder.of_folder(folder, args.max_seq_length, args.batch_size, precision_of(args))
    return make_predictor(args, independent=True)


@script
def main(argv=None):
    args = parse_args(argv)
    try:
        from serving.connections import Server
    except ImportError as error:
        raise InputError(f"needs uvicorn and fastapi ({error}): pip install fastapi uvicorn, or make setup") from None

    predictor = made(args)
    batcher = Batcher(predictor, args.max_wait_ms / 1000)
    try:
        # In the thread that will compute: every thread has its own threads for loops.
        if isinstance(predictor, Predictor):
            batcher.submit([FIRST]).result()
        else:
            batcher.call(lambda: predictor([(FIRST, FIRST)] if isinstance(predictor, Answering) else [FIRST])).result()
        server = Server(make_app(batcher, args.root_path), batcher)
        family = socket.AF_INET6 if ":" in args.host else socket.AF_INET
        with socket.create_server((args.host, args.port), family=family, backlog=128) as listener:
            gc.collect()
            gc.freeze()  # else every full collection looks at all that Paddle holds, and nothing is answered for 0.1 s
            host, port = listener.getsockname()[:2]
            host = f"[{host}]" if ":" in host else host
            words = f"answers with {args.model}, texts cut to {predictor.max_seq_length} tokens; Ctrl-C stops it"
            print(f"http://{host}:{port}{args.root_path}/ {words}", file=sys.stderr, flush=True)
            with contextlib.suppress(KeyboardInterrupt):  # which uvicorn passes on after it has stopped in good order
                server.run(sockets=[listener])
    finally:
        batcher.close(begun_too=True)
        if not batcher.join(1):  # a batch that takes long, and that nobody waits for any more
            os._exit(130 if sys.exception() else 0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until the server has its own
    sys.exit(main())
