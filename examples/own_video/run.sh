#!/usr/bin/env bash
# A dataset from sharp video, and a small network trained on it.
set -euo pipefail
[ $# -gt 0 ] || { echo "usage: $0 FILE.mp4 [FILE.mp4 ...]" >&2; exit 2; }
run=outputs/own_video_example

[ ! -e "$run" ] || { echo "$run is there already: remove it first" >&2; exit 1; }

deblurkit prepare-data video "$@" --output "$run/data"
deblurkit train --preset quickstart --output "$run" --set "DATA.ROOT=$run/data" --set TRAIN.MAX_STEPS=200
deblurkit evaluate "$run" --picture "$run/before_after.png"
