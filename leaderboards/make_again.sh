#!/usr/bin/env bash
# Makes the generated boards of this folder and the README's picture again, and prints every command that it runs.
#
#   leaderboards/make_again.sh RESULTS            all of it: hours on two cores; the main board alone took 35 minutes
#   leaderboards/make_again.sh --quick RESULTS    every step with next to no training, in minutes; boards go to RESULTS/boards
#
# RESULTS keeps what was trained, so the same command goes on after an interruption.
set -euo pipefail
unset SURVBENCH_DATA SURVBENCH_REGISTRY # the demo and the shipped models

quick=false
if [ "${1:-}" = --quick ]; then quick=true && shift; fi
[ $# -eq 1 ] || { echo "usage: $0 [--quick] RESULTS" >&2 && exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1" && cd "$1" # so that pages name the folders of results without where they are

if $quick; then
    boards=$PWD/boards picture=$PWD/boards/board.svg
    models=amkd,abmil,null cohorts=stad studies=(losses:stad) settings=(--preset rehearsal)
    grid=(--traces 1 --patients 60 --event-rates 0.5 --replicates 1)
else
    boards=$here picture=$here/../docs/images/board.svg
    models=all cohorts=all studies=(losses:all alpha:all temperature:all targets:all teacher:hnsc)
    settings=(--preset brisk --seeds 0,1,2)
    grid=(--traces 0,1,2 --patients 120,300 --event-rates 0.25,0.5 --replicates 3)
fi
run() { (set -x && "$@"); }
command=${SURVBENCH:-survbench} # two words will do: SURVBENCH="python -m survbench"

if $quick; then first=("${settings[@]}"); else first=(); fi
run $command run --model "$models" --cohort "$cohorts" --out runs --no-mlflow ${first[@]+"${first[@]}"}
for study in "${studies[@]}"; do
    run $command ablate --study "${study%:*}" --cohort "${study#*:}" --out runs-studies --no-mlflow "${settings[@]}"
done
run $command study transfer --out runs-transfer "${settings[@]:0:2}" "${grid[@]}"

mkdir -p runs/studies "$boards/demo" "$boards/transfer"
cp -r runs-studies/studies/* runs-transfer/studies/* runs/studies # the page shows them, too
run $command leaderboard --out runs --write "$boards/demo" --html "$boards/demo/leaderboard.html"
run $command leaderboard --out runs --check "$boards/demo"
run $command km --out runs --model amkd --cohort stad
cp runs/figures/km-amkd-stad-*.png "$boards/demo/km-amkd-stad.png"
for study in "${studies[@]}"; do
    mkdir -p "$boards/demo/studies/${study%:*}"
    cp runs-studies/studies/amkd-"${study%:*}"-*/{plot.png,table.csv,table.md} "$boards/demo/studies/${study%:*}"
done
cp runs-transfer/studies/amkd-transfer/{curves.csv,gains.csv,plot.png,table.md} "$boards/transfer"
run "${PYTHON:-python}" "$here/../docs/images/board.py" "$boards/demo/leaderboard.csv" "$picture"
