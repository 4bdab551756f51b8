#!/usr/bin/env bash
# What a device that is no CPU has to show, within about five minutes, as one table: bash tests/on_gpu.sh [gpu|npu|…]
# Needs make setup; exit status 1 where anything failed, whose output then lies in the folder that is named at the end.
set -u
cd "$(dirname "$0")/.." || exit 2
device=${1:-gpu}
python=${PYTHON:-.venv/bin/python}
out=$(mktemp -d)
failed=0

check() { # name, command …: a row of the table
    local name=$1 begun=$SECONDS log="$out/${1// /-}.log" status=0 result=ok
    shift
    "$@" > "$log" 2>&1 || status=$?
    [ $status = 0 ] || { result="failed: $status"; failed=1; }
    local said
    said=$(grep -oE 'speed: [0-9.]+ step/s|max difference: [0-9.e-]+|largest difference of a logit: [0-9.e-]+' "$log" | tail -1)
    printf '| %s | %s | %s | %s |\n' "$name" "$result" $((SECONDS - begun)) "$said"
}

train() { # script, output's name, flags …
    local script=$1 folder=$out/$2
    shift 2
    "$python" "$script" --output_dir "$folder" --device "$device" --model_name_or_path convbert-tiny \
        --logging_steps 10 "$@"
}

classify() { train run_glue.py "$1" --task_name SST-2 --data_dir samples --max_seq_length 64 "${@:2}"; }

stopped() { # a run that is ended after some steps and goes on is the run that was not
    local flags=(--max_steps 20 --logging_steps 1 --save_steps 20) process
    classify whole "${flags[@]}" || return
    classify parts "${flags[@]}" > "$out/parts.log" & process=$!
    until grep -q 'global step 5/' "$out/parts.log"; do kill -0 $process || return; sleep 0.1; done
    pkill -TERM -f "output_dir $out/parts"
    wait $process
    [ ! -e "$out/parts/results.json" ] || { echo "the run was over before it was stopped"; return 1; }
    classify parts "${flags[@]}" --resume && cmp "$out"/{whole,parts}/last/model.safetensors
}

echo "| on $device | | seconds | |"
echo "| --- | --- | --- | --- |"
check "parity with Hugging Face" "$python" compare.py --models convbert-small --weights random --device "$device"
check "run_glue.py" classify glue --max_steps 20 --save_steps 20
check "run_squad.py" train run_squad.py answers --train_file samples/answers/train.json \
    --validation_file samples/answers/dev.json --max_steps 20 --save_steps 20
check "run_tagging.py" train run_tagging.py tags --train_file samples/tags/train.conll \
    --validation_file samples/tags/dev.conll --max_steps 20 --save_steps 20
check "run_pretrain.py" train run_pretrain.py pretrained --input_dir samples/corpus.txt --max_seq_length 64 \
    --train_batch_size 32 --max_steps 20 --save_steps 20
check "stopped and gone on with" stopped
check "recompute" train run_pretrain.py recomputed --input_dir samples/corpus.txt --data_store "$out/pretrained/data" \
    --max_seq_length 64 --train_batch_size 32 --max_steps 20 --save_steps 20 --recompute
for level in O1 O2; do
    for type in bfloat16 float16; do
        check "--amp $level $type" classify "$level-$type" --max_steps 20 --save_steps 20 --amp $level --amp_dtype $type
    done
done
check "predict.py" "$python" predict.py --model "$out/glue" --device "$device" "a fine film"
check "export.py" "$python" export.py --model "$out/glue" --output "$out/program" --device "$device"
for amp in "" "--amp O1"; do # STEPS of 32 × 128 tokens
    check "speed, convbert-small ${amp:-float32}" "$python" run_glue.py --task_name RTE --data_dir samples --from_scratch \
        --model_name_or_path convbert-small --vocab_file samples/vocab.txt --output_dir "$out/speed${amp// /}" --max_steps ${STEPS:-60} \
        --logging_steps 20 --save_steps 60 --device "$device" $amp
done
[ $failed = 0 ] && rm -r "$out" || echo "what failed: $out"
exit $failed
