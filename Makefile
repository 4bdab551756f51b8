# make demo       a small model learns from the built-in samples: about a minute after installation
# make pretrain-demo   text → vocabulary → pre-training → fine-tune on the samples: a few minutes
# make test       everything that runs in a few minutes        make test-slow   the rest
# make lint       ruff                                          make setup       complete .venv without running anything
# make bench      speed beside Hugging Face and PaddleNLP: about 10 minutes
# make newest     a second environment, .venv-newest, with the newest transformers and numpy, and TensorFlow
# make clean      removes caches, compiled loops among them, and what the demos left in output/; nothing else there
PYTHON ?= python3.11
PIP = -m pip install --quiet --disable-pip-version-check

.PHONY: demo pretrain-demo setup newest test test-slow bench lint clean

.venv/core.stamp: requirements-core.txt constraints.txt
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python $(PIP) -c constraints.txt -r requirements-core.txt
	touch $@

.venv/full.stamp: requirements.txt .venv/core.stamp
	.venv/bin/python $(PIP) -c constraints.txt -r requirements.txt
	touch $@

.venv-newest/stamp: requirements-newest.txt requirements-core.txt
	test -x .venv-newest/bin/python || $(PYTHON) -m venv .venv-newest
	.venv-newest/bin/python $(PIP) --upgrade -r requirements-newest.txt
	touch $@

demo: .venv/core.stamp
	.venv/bin/python run_glue.py --model_type convbert --model_name_or_path convbert-tiny --task_name SST-2 \
	    --data_dir samples --max_seq_length 64 --batch_size 16 --learning_rate 5e-4 \
	    --num_train_epochs 5 --logging_steps 50 --save_steps 100 --output_dir output/demo --overwrite --device cpu
	@echo
	@echo "A small ConvBERT that had read Wikipedia learnt from 1,000 made-up reviews which ones are positive; guessing is"
	@echo "right for half of them. Model and figures are in output/demo. Next: make test, or a real task and published weights:"
	@echo "  make setup && .venv/bin/python run_glue.py --task_name SST-2 --model_name_or_path convbert-small --output_dir output/SST-2"

PRETRAINED = output/pretrain-demo

pretrain-demo: .venv/core.stamp
	mkdir -p $(PRETRAINED)
	.venv/bin/python tokenizer.py --input samples/corpus.txt --output $(PRETRAINED)/vocab.txt --size 1000 --overwrite
	.venv/bin/python run_pretrain.py --input_dir samples/corpus.txt --model_name_or_path convbert-tiny \
	    --vocab_file $(PRETRAINED)/vocab.txt --max_seq_length 64 --train_batch_size 32 --learning_rate 1e-3 \
	    --max_steps 150 --logging_steps 25 --save_steps 150 --output_dir $(PRETRAINED)/model --overwrite --device cpu
	.venv/bin/python run_glue.py --model_name_or_path $(PRETRAINED)/model/discriminator --task_name SST-2 --data_dir samples \
	    --max_seq_length 64 --batch_size 16 --learning_rate 5e-4 --num_train_epochs 3 --output_dir $(PRETRAINED)/SST-2 \
	    --overwrite --device cpu

setup: .venv/full.stamp

newest: .venv-newest/stamp

test: setup
	.venv/bin/python -m pytest

test-slow: setup newest
	.venv-newest/bin/python -m pytest tests/test_modeling.py tests/test_mixed_attention.py tests/test_tokenizer.py \
	    tests/test_convert.py tests/test_predict.py tests/test_run_pretrain.py tests/files tests/cpu tests/text tests/layers \
	    tests/conversion tests/family tests/training tests/pretraining tests/tasks/test_labelled_files.py \
	    tests/tasks/test_answers.py tests/tasks/test_several_labels.py tests/tasks/test_tags.py tests/test_run_squad.py tests/test_run_tagging.py \
	    tests/test_pretrain_on_gpu.py \
	    tests/serving --ignore tests/training/test_processes.py --ignore tests/training/test_resume.py
	.venv-newest/bin/python -m pytest -m "slow or not slow" tests/test_compare.py tests/test_compare_family.py tests/comparison
	.venv/bin/python -m pytest -m slow

bench: setup
	mkdir -p output
	.venv/bin/python benchmark.py --json output/speed.json --plot output/speed.png --overwrite

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

clean:
	rm -rf output/demo output/pretrain-demo .pytest_cache .ruff_cache
	find . \( -path './.venv*' -o -path ./output -o -path ./.git \) -prune -o -name __pycache__ -prune -exec rm -rf {} +
