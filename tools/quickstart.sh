#!/usr/bin/env bash
# Installs the project in a fresh clone, then trains and evaluates FSD-BEV on a synthetic data set.
# Needs Python 3.10 to 3.12 and a C++ compiler; takes ten minutes on two CPU cores.
# An interrupted run continues when it is started again. All output is written to output/quickstart/.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
cd "$ROOT"

CONFIG=configs/fsdbev_tiny_synthetic.py
OUT=output/quickstart
DATA=$OUT/data
mkdir -p "$OUT"
# glibc would return freed memory to the system and ask for it again in every training step and for every drawn image:
# 5 to 10 % of their time.
export GLIBC_TUNABLES="${GLIBC_TUNABLES:-glibc.malloc.mmap_threshold=1000000000:glibc.malloc.trim_threshold=1000000000}"

# Typical seconds of each step on two cores, from which the remaining time is estimated.
NAMES=("environment, install, build" "synthetic data" "index and point labels" "training and evaluation" "pictures")
SECONDS_TYPICAL=(90 60 15 410 15)
step=0

# run_step RESULT COMMAND...: runs the step unless its result exists. An empty RESULT always runs the step.
run_step() {
    local result="$1" left=0 i started=$SECONDS
    shift
    for ((i = step; i < ${#NAMES[@]}; i++)); do left=$((left + SECONDS_TYPICAL[i])); done
    step=$((step + 1))
    local title="[$step/${#NAMES[@]}] ${NAMES[step - 1]}"
    if [ -n "$result" ] && [ -e "$result" ]; then
        echo "$title: skipped, $result exists"
        return
    fi
    echo "$title (about $(((left + 59) / 60)) min remaining)"
    "$@"
    echo "$title: $((SECONDS - started)) s"
}

train() {
    echo "The image backbone starts from weights/street.safetensors, pre-trained on synthetic images of other scenes"
    echo "with 2D labels (docs/pretraining.md); the rest of the model starts anew."
    # Without a GPU two processes of half the threads each are faster than one, and wait less for each other.
    local processes
    processes=$(python -c "import torch; print(1 if torch.cuda.is_available() else 2)")
    python tools/train_net.py --config-file $CONFIG --num-gpus "$processes" --resume \
        train.output_dir="$OUT/train" dataloader.dataroot="$DATA"
}

# Draws into another folder first, since an existing folder marks the step as complete.
pictures() {
    python tools/visualize.py results --dataroot "$DATA" \
        --index "$DATA/fsdbev/v1.0-synth/synth_val.arrow" \
        --results "$OUT/train/results_nusc.json" --out "$OUT/pictures.partial" --samples 6 \
        --score-threshold 0.35 --reach 32
    rm -rf "$OUT/pictures"
    mv "$OUT/pictures.partial" "$OUT/pictures"
}

run_step "" prepare_environment
run_step "$DATA" python tools/make_synthetic_nuscenes.py --out "$DATA"
run_step "" \
    python tools/prepare_nuscenes.py --dataroot "$DATA" --version v1.0-synth --workers 0
run_step "$OUT/train/evaluation.json" train
run_step "$OUT/pictures" pictures

python - "$OUT/train/evaluation.json" "$OUT/metrics.json" <<'PY'
import json, os, sys

metrics = json.load(open(sys.argv[1]))["nuscenes"]
with open(sys.argv[2] + ".partial", "w") as file:
    json.dump(metrics, file, indent=2)
os.replace(sys.argv[2] + ".partial", sys.argv[2])
print(f"held-out synthetic scenes: mAP {metrics['mAP']:.3f}  NDS {metrics['NDS']:.3f}")
PY
echo "metrics: $OUT/metrics.json   pictures: $OUT/pictures/   model: $OUT/train/model_final.pth   ($SECONDS s)"
echo "report: $OUT/train/report.html   curves: $OUT/train/curves.png"
