#!/bin/bash
# All tests that need a GPU: builds the programs and the cuda module for the visible GPU, runs everything, and tells at
# the end what failed (docs/cuda.md).
#
#     tests/gpu.sh [--device cuda|cuda:N] [--out FILE] [--only PART,...] [--small]
#
#   --out FILE   writes the results there as text: date, GPU, driver, versions, each test's outcome
#   --only       of: check golden train program sanitize; default all
#   --small      the small network in the runs of the program
#   NPOS_BIN=DIR takes npos, libnpos_cuda.so, devicecheck and test_* from DIR and builds nothing
set -uo pipefail
cd "$(dirname "$0")/.." || exit

device=cuda out='' only=check,golden,train,program,sanitize encoder=resnet18
while (($# > 0)); do
    case $1 in
    --device) device=$2; shift ;;
    --out) out=$2; shift ;;
    --only) only=$2; shift ;;
    --small) encoder=resnet-small ;;
    *) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2 ;;
    esac
    shift
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
results=$work/results.txt
: >"$results"
passed=0 failed=0 skipped=0

say() {
    echo "$@" | tee -a "$results"
}

# note OUTCOME NAME SECONDS [WHY]
note() {
    say "$(printf '%-4s %-44s %5d s  %s' "$1" "$2" "$3" "${4:-}")"
}

# try NAME LIMIT COMMAND...: runs it, tells the end of its output when it fails; 77 is "cannot run here".
try() {
    local name=$1 limit=$2 from=$SECONDS status
    shift 2
    timeout -k 10 "$limit" "$@" >"$work/log" 2>&1 </dev/null
    status=$?
    if ((status == 0)); then
        passed=$((passed + 1))
        note ok "$name" $((SECONDS - from))
    elif ((status == 77)); then
        skipped=$((skipped + 1))
        note skip "$name" $((SECONDS - from)) "$(tail -n 1 "$work/log")"
    else
        failed=$((failed + 1))
        note FAIL "$name" $((SECONDS - from)) "exit status $status$( ((status == 124)) && echo ", more than $limit s")"
        grep -vE '^\[ +(OK|RUN) +\]|^ok ' "$work/log" | tail -n 25 | sed 's/^/    | /' | tee -a "$results"
    fi
    return $status
}

wanted() {
    [[ ,$only, == *,"$1",* ]]
}

# try_program NAME LIMIT PROGRAM [ARGUMENT]...: a program of the build, which may lack it.
try_program() {
    local name=$1 limit=$2 program=$bin/$3
    shift 3
    if [[ -x $program ]]; then
        try "$name" "$limit" "$program" "$@"
    else
        skipped=$((skipped + 1))
        note skip "$name" 0 "this build has no ${program##*/}"
    fi
}

build() {
    local folder=build-gpu generator=()
    command -v ninja >/dev/null && generator=(-G Ninja)
    local PATH=$PATH:/usr/local/cuda/bin
    cmake -S . -B "$folder" "${generator[@]}" -DNPOS_CUDA=ON -DNPOS_WERROR=ON >"$work/build" 2>&1 &&
        cmake --build "$folder" -j "$(nproc)" --target npos_gpu_tests >>"$work/build" 2>&1 &&
        return
    tail -n 40 "$work/build"
    echo "gpu.sh: the build failed"
    exit 1
}

# ---- what the program does as a whole ----------------------------------------------------------------

# 500 images of 10 classes in CIFAR-10's binary format: noise whose brightness is the class.
make_images() {
    mkdir -p "$work/set"
    printf '%b' "$(LC_ALL=C awk 'BEGIN {
        x = 1
        for (i = 0; i < 500; i++) {
            printf "\\0%o", i % 10
            for (j = 0; j < 3072; j++) {
                x = (x * 16807) % 2147483647
                printf "\\0%o", 20 * (i % 10) + int(x / 65536) % 56
            }
        }
    }')" >"$work/set/data_batch_1.bin"
    [[ $(stat -c %s "$work/set/data_batch_1.bin") == $((500 * 3073)) ]]
}

# train RUN PRECISION ARGUMENT...
train() {
    local run=$1 precision=$2
    shift 2
    "$bin/npos" train --recipe "$PWD/recipes/cifar10-100e.yaml" --data "$work/set" --out "$work/$run" \
        --device "$device" --precision "$precision" --set encoder=$encoder --set batch=64 --set epochs=4 \
        --set start_epoch=1 --set warmup_epochs=1 --set lr=0.05 --set ring=80 --set k=20 --set select=30 \
        --set noise=60 --set keep=20 "$@"
}

same_run() {
    cmp "$work/$1/model.safetensors" "$work/$2/model.safetensors" &&
        cmp "$work/$1/bank.safetensors" "$work/$2/bank.safetensors"
}

same_seed() {
    train "$1-a" "$1" && train "$1-b" "$1" && same_run "$1-a" "$1-b"
}

# Stopped after each epoch but the last, each time gone on with by a new process.
resumed() {
    train "$1-parts" "$1" --stop-after-epoch 1
    for epoch in 2 3; do
        "$bin/npos" train --out "$work/$1-parts" --resume --stop-after-epoch $epoch --device "$device" --precision "$1"
    done
    "$bin/npos" train --out "$work/$1-parts" --resume --device "$device" --precision "$1" &&
        same_run "$1-a" "$1-parts"
}

# Killed once the first epoch is logged.
killed() {
    train "$1-killed" "$1" &
    local npos=$!
    for ((i = 0; i < 3000; i++)); do
        [[ -s $work/$1-killed/log.jsonl ]] && break
        kill -0 $npos 2>/dev/null || break
        sleep 0.02
    done
    kill -KILL $npos 2>/dev/null
    wait $npos 2>/dev/null
    if [[ -s $work/$1-killed/model.safetensors ]]; then
        echo "the run ended before it could be killed"
        return 77
    fi
    "$bin/npos" train --out "$work/$1-killed" --resume --device "$device" --precision "$1" &&
        same_run "$1-a" "$1-killed"
}

evaluated() {
    "$bin/npos" eval "$work/$1-a" --id "$work/set" --ood "near=$work/set" --device "$device" \
        --precision "$1" --json "$work/eval.json" && [[ -s $work/eval.json ]]
}

export -f train same_run same_seed resumed killed evaluated

# ---- begin -----------------------------------------------------------------------------------------------

if [[ -n ${NPOS_BIN:-} ]]; then
    bin=$(cd "$NPOS_BIN" && pwd)
else
    build
    bin=$PWD/build-gpu
fi
export bin device work encoder NPOS_SOURCE_DIR=$PWD NPOS_TEST_DEVICE=$device

say "npos GPU tests, $(date -u +%Y-%m-%dT%H:%MZ), commit $(git -c safe.directory='*' rev-parse --short HEAD 2>/dev/null || echo unknown)"
if command -v nvidia-smi >/dev/null; then
    nvidia-smi --query-gpu=index,name,driver_version,memory.total --format=csv,noheader | sed 's/^/GPU /' | tee -a "$results"
fi
"$bin/npos" info 2>&1 | grep -E '^(npos|cuda|cpu)' | tee -a "$results"
PATH=$PATH:/usr/local/cuda/bin
say "toolkit: $(nvcc --version 2>/dev/null | sed -n 's/.*release/CUDA/p' | head -n 1)"

try_program "the device opens" 120 devicecheck --device "$device" --op norm
if ((passed == 0)); then
    say "nothing can be tested"
    [[ -n $out ]] && cp "$results" "$out"
    exit 1
fi
if wanted check; then
    for precision in fp32 bf16; do
        try_program "devicecheck $precision" 600 devicecheck --device "$device" --precision $precision
        try_program "devicecheck $precision, another seed" 600 devicecheck --device "$device" --precision $precision --seed 2
    done
fi
if wanted golden; then
    try_program "one and ten steps beside PyTorch" 300 test_step_golden
fi
if wanted train; then
    for precision in fp32 bf16; do
        NPOS_TEST_PRECISION=$precision try_program "training, resume, same seeds: $precision" 600 test_train
        NPOS_TEST_PRECISION=$precision try_program "training on streamed images: $precision" 600 test_train_stream
        NPOS_TEST_PRECISION=$precision try_program "fine-tuning CLIP: $precision" 600 test_finetune
        NPOS_TEST_PRECISION=$precision try_program "fine-tuning CLIP, resume: $precision" 600 test_finetune_resume
    done
fi
if wanted program; then
    make_images || say "the images could not be made"
    for precision in fp32 bf16; do
        if try "npos train twice, the same bytes: $precision" 600 bash -c "same_seed $precision"; then
            try "npos train --resume, the same bytes: $precision" 600 bash -c "resumed $precision"
            try "npos train killed and resumed: $precision" 600 bash -c "killed $precision"
            try "npos eval: $precision" 300 bash -c "evaluated $precision"
        fi
    done
fi
if wanted sanitize; then
    sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/compute-sanitizer/compute-sanitizer 2>/dev/null)
    # racecheck does not follow asynchronous copies that a barrier in shared memory orders: cuDNN's and cuBLAS's kernels
    # have them, and our convolutions; it gets the operations that use neither.
    own=pool_max,contrast,kth_neighbour,gauss,augment,norm,sgd
    if [[ -z $sanitizer ]]; then
        skipped=$((skipped + 1))
        note skip compute-sanitizer 0 "not found"
    else
        for precision in fp32 bf16; do
            try "memcheck, $precision" 1200 "$sanitizer" --tool memcheck --error-exitcode 9 \
                "$bin/devicecheck" --device "$device" --precision $precision
            try "initcheck, $precision" 1200 "$sanitizer" --tool initcheck --error-exitcode 9 \
                "$bin/devicecheck" --device "$device" --precision $precision
            try "racecheck of our own kernels, $precision" 1200 "$sanitizer" --tool racecheck --error-exitcode 9 \
                "$bin/devicecheck" --device "$device" --precision $precision --op "$own"
        done
    fi
fi

say "$passed passed, $failed failed, $skipped skipped in $SECONDS s"
if [[ -n $out ]]; then
    cp "$results" "$out"
fi
((failed == 0))
