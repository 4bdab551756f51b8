# make demo       a small model learns from the built-in samples: about a minute after installation
# make pretrain-demo   text → vocabulary → pre-training → fine-tune on the samples: a few minutes
# make test       everything that runs in a few minutes        make test-slow   the rest, an hour
# make test-wide  every Python, Paddle 2.6.2, a device that is no CPU, versions resolved anew, many kills: what takes longer
# make lint       ruff                                          make setup       complete .venv without running anything
# make bench      speed beside Hugging Face and PaddleNLP: about 10 minutes
# make claim TEXTS=… GLUE=…   ConvBERT beside ELECTRA and BERT, on a text and GLUE's folder, in hours: docs/claim.py
# make newest     a second environment, .venv-newest, with the newest transformers and numpy, and TensorFlow
# make … PADDLE='paddlepaddle-gpu==3.3.1 -i https://…'   another Paddle, as pip is told; .venv keeps it from then on
# make oldest     a third one, .venv-oldest, with Paddle 2.6.2, which is what PyPI's paddlepaddle-gpu is
# make clean      removes caches, compiled loops among them, and what the demos left in output/; nothing else there
# The newest Python that runs and has venv; another: make demo PYTHON=python3.12
RUNS = -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))'
PYTHON ?= $(firstword $(foreach p,python3.13 python3.12 python3.11 python3,$(shell $(p) $(RUNS) 2>/dev/null && echo $(p))))
NEEDED = "needs Python 3.11, 3.12 or 3.13 with venv (Debian: apt install python3-venv); PYTHON=… names one"
PIP = -m pip install --quiet --disable-pip-version-check
CHOSEN = .venv/paddle.txt
PINS = $$(.venv/bin/python -c 'import sys; v = sys.version_info[1]; print("constraints.txt" if v == 11 else f"constraints-3.{v}.txt")')

.PHONY: demo pretrain-demo setup newest oldest test test-slow test-wide bench claim lint clean

.venv/core.stamp: requirements-core.txt constraints.txt constraints-3.12.txt constraints-3.13.txt
	@test -x .venv/bin/python || $(PYTHON) $(RUNS) 2>/dev/null || { echo make: $(NEEDED); exit 2; }
	@test -x .venv/bin/python || echo "installing the core into .venv ($(PYTHON)), about 400 MB: a minute or two"
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@test -z "$(PADDLE)" || .venv/bin/python -m pip uninstall --quiet --yes paddlepaddle paddlepaddle-gpu
	@test -z "$(PADDLE)" || echo "$(PADDLE)" > $(CHOSEN)
	@test ! -s $(CHOSEN) || { echo "Paddle: $$(cat $(CHOSEN))"; .venv/bin/python $(PIP) $$(cat $(CHOSEN)); }
	@$(WANTED)
	@.venv/bin/python $(PIP) -c .venv/constraints.txt -r .venv/requirements-core.txt
	@touch $@

# What to install, copied into .venv, without Paddle where another one was chosen.
WANTED = skip='^$$'; test ! -s $(CHOSEN) || skip='^paddlepaddle'; \
	for file in requirements-core.txt requirements.txt; do grep -v "$$skip" $$file > .venv/$$file; done; \
	grep -v "$$skip" $(PINS) > .venv/constraints.txt

ifneq ($(PADDLE),)
ifneq ($(PADDLE),$(shell cat $(CHOSEN) 2>/dev/null))
.PHONY: .venv/core.stamp  # another one than there is: anew
endif
endif

.venv/full.stamp: requirements.txt .venv/core.stamp
	@echo "completing .venv: libraries to compare with, server, test tools"
	@$(WANTED)
	@.venv/bin/python $(PIP) -c .venv/constraints.txt -r .venv/requirements.txt
	@.venv/bin/python -c 'import sys; v = sys.version_info; v < (3, 13) or print("Python 3.13: without paddlenlp and \
	paddle2onnx, which have no versions for it; tests that need them are skipped")'
	@touch $@

.venv-newest/stamp: requirements-newest.txt requirements-core.txt
	test -x .venv-newest/bin/python || $(PYTHON) -m venv .venv-newest
	.venv-newest/bin/python $(PIP) --upgrade -r requirements-newest.txt
	touch $@

# Paddle 2.6.2 is for Pythons up to 3.12.
.venv-oldest/stamp: requirements-core.txt constraints.txt constraints-3.12.txt
	test -x .venv-oldest/bin/python || $(firstword $(foreach p,python3.11 python3.12,$(shell $(p) $(RUNS) 2>/dev/null && echo $(p)))) -m venv .venv-oldest
	grep -v ^paddlepaddle requirements-core.txt > .venv-oldest/requirements.txt
	grep -v ^paddlepaddle $(subst .venv/,.venv-oldest/,$(PINS)) > .venv-oldest/constraints.txt
	.venv-oldest/bin/python $(PIP) -c .venv-oldest/constraints.txt paddlepaddle==2.6.2 pytest -r .venv-oldest/requirements.txt
	touch $@

demo: .venv/core.stamp
	@echo "A small ConvBERT that has read Wikipedia learns from 1,000 made-up reviews which ones are positive: about a minute,"
	@echo "on first use twenty seconds more, in which loops for this processor are compiled."
	@echo
	@.venv/bin/python run_glue.py --model_type convbert --model_name_or_path convbert-tiny --task_name SST-2 \
	    --data_dir samples --max_seq_length 64 --batch_size 16 --learning_rate 5e-4 \
	    --num_train_epochs 5 --logging_steps 50 --save_steps 100 --output_dir output/demo --overwrite --device cpu
	@echo
	@echo "Guessing is right for half of them. Model and figures are in output/demo. Next, without a network or a GPU:"
	@echo "  .venv/bin/python predict.py --model output/demo \"the plot is inventive .\" --explain inside.png --overwrite"
	@echo "  .venv/bin/python run_glue.py --task_name RTE --data_dir samples --model_name_or_path convbert-tiny --output_dir output/RTE"
	@echo "  make pretrain-demo"

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

oldest: .venv-oldest/stamp

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

test-wide: setup oldest
	.venv-oldest/bin/python -m pytest tests/test_modeling.py tests/layers tests/cpu tests/pretraining tests/training \
	    tests/test_run_glue.py tests/test_run_pretrain.py
	.venv/bin/python -m pytest -m wide

bench: setup
	mkdir -p output
	.venv/bin/python benchmark.py --json output/speed.json --plot output/speed.png --overwrite

claim: setup
	@test -n "$(TEXTS)" -a -n "$(GLUE)" || { echo "make claim TEXTS=… GLUE=…: a text, or a folder of such, and GLUE's folder"; exit 2; }
	.venv/bin/python docs/claim.py --texts $(TEXTS) --data_dir $(GLUE) --output_dir output/claim

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

clean:
	rm -rf output/demo output/pretrain-demo .pytest_cache .ruff_cache
	find . \( -path './.venv*' -o -path ./output -o -path ./.git \) -prune -o -name __pycache__ -prune -exec rm -rf {} +
