#!/usr/bin/env bash
# Train, score, look, and ask where the time went.
set -euo pipefail
run=${1:-outputs/quickstart_example}

[ ! -e "$run" ] || { echo "$run is there already: remove it first" >&2; exit 1; }

deblurkit train --preset quickstart --output "$run" --set "DATA.ROOT=$run/data"
deblurkit evaluate "$run" --ablate-spikes --picture "$run/before_after.png"
deblurkit analyze-log "$run"/logs/timing_*.log
