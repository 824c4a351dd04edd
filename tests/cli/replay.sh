#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The program as a person meets it: replay in its modes on a tiny model, and every kind of bad input.
#   usage: replay.sh PATH-OF-MTSERVE
set -u
mtserve=$1
# shellcheck source=tests/cli/tap.sh
. "$(dirname "$0")/tap.sh"

model=$scratch/tiny.safetensors
trace=$scratch/trace.csv
"$mtserve" model init --preset tiny --items 5000 --max-history 256 --slide 64 --seed 3 -o "$model"
"$mtserve" trace gen --users 120 --days 0.01 --start-hour 20 --seed 2 --candidates 9 --hints -o "$trace"

replay=("$mtserve" replay --model "$model" --trace "$trace")

# --- what must come out: hits, moved windows, the same bits ------------------------------------

must_move=(
	--plan load
	--require 'modes.hierarchical.hit_warm.request.host >= 0.05'
	--require 'modes.hierarchical.window_moves >= 1'
	--require 'modes.hierarchical.bytes.h2d >= 1'
	--require 'max_abs_score_diff <= 0'
	--require 'modes.hierarchical.differing_requests <= 0'
)
for kv in f32 bf16; do
	succeeds "the same bits, $kv, recompute in another batch and pass size" \
		"${replay[@]}" --kv-dtype $kv --requests 300 --device-mem 15% --recompute-batch 1 \
		--recompute-step-tokens 96 "${must_move[@]}"
done
succeeds "the same bits in chunks of 40 rows" \
	"${replay[@]}" --requests 150 --device-mem 15% --step-tokens 40 --recompute-step-tokens 512 "${must_move[@]}"
succeeds "the same bits over a slow link" \
	"${replay[@]}" --requests 100 --device-mem 15% --link-gbps 0.01 --copy-us 50 "${must_move[@]}"
succeeds "the same bits where half is recomputed" \
	"${replay[@]}" --requests 100 --device-mem 15% "${must_move[@]}" --plan split \
	--require 'modes.hierarchical.plan.split >= 1'
refused "unknown plan" 64 '--plan is "guess"' "${replay[@]}" --plan guess
succeeds "the same bits when the caller only appends" \
	"${replay[@]}" --requests 150 --device-mem 15% --appends "${must_move[@]}"
succeeds "the same bits with a host tier that is too small" \
	"${replay[@]}" --requests 200 --device-mem 15% --host-mem 20% --require 'max_abs_score_diff <= 0' \
	--require 'modes.hierarchical.lost_tokens >= 1'
succeeds "one mode alone" "${replay[@]}" --requests 50 --modes hierarchical
succeeds "the nil device" "${replay[@]}" --requests 200 --device nil
twice_kib=$(($(awk '/^MemTotal/{print $2}' /proc/meminfo) * 2))
succeeds "the nil device beside more host memory than there is" \
	"${replay[@]}" --requests 200 --device nil --arena none --host-mem "${twice_kib}K"

# --- open loop -----------------------------------------------------------------------------------

succeeds "open loop: the same bits at random times" \
	"${replay[@]}" --open-loop --rate 2000 --warmup 50 --requests 250 --device-mem 15% --modes recompute,hierarchical --plan load \
	--require 'max_abs_score_diff <= 0' --require 'modes.hierarchical.open_loop.classes.host_hit.requests >= 1' \
	--require 'modes.hierarchical.open_loop.classes.first_visit.requests >= 1' \
	--require 'modes.hierarchical.open_loop.offered >= 60'
succeeds "open loop: the trace's times, deadlines no device can meet" \
	"${replay[@]}" --open-loop --speedup 100000 --deadline-ms 1 --requests 400 --device-mem 15% \
	--modes recompute,hierarchical --require 'max_abs_score_diff <= 0' \
	--require 'modes.recompute.open_loop.refused >= 1'
succeeds "open loop: more than the queue takes" \
	"${replay[@]}" --open-loop --rate 1000000 --inflight 4 --requests 400 --device-mem 15% \
	--require 'modes.hierarchical.open_loop.turned_away >= 1'
succeeds "open loop: the nil device" "${replay[@]}" --open-loop --rate 5000 --requests 200 --device nil
refused "open loop without a rate" 64 "either --rate R or --speedup X" "${replay[@]}" --open-loop
refused "rate without open loop" 64 "only with --open-loop" "${replay[@]}" --rate 5

succeeds "JSON with its names" bash -c "
	'$mtserve' replay --model '$model' --trace '$trace' --requests 100 --json '$scratch/out.json' >/dev/null &&
	for name in device model trace modes recompute device_only hierarchical unbounded requests seconds \
		requests_per_s latency_ms p50 p95 p99 p999 max hit hit_warm token request host nvme any bytes \
		h2d d2h nvme_read nvme_write window_moves exposed_wait_over_copy plan_us_per_batch \
		speedup_vs_recompute speedup_vs_recompute_min speedup_vs_recompute_max share_of_unbounded \
		share_of_unbounded_min share_of_unbounded_max max_abs_score_diff stage_ms queued awaiting_pass \
		behind_others onload_wait computed replied; do
		grep -q \"\\\"\$name\\\":\" '$scratch/out.json' || { echo \"no \$name\"; exit 1; }
	done"

if command -v gnuplot >/dev/null; then
	succeeds "plots" "${replay[@]}" --requests 60 --plot "$scratch/plot"
	for picture in latency hits stages; do
		succeeds "picture $picture" bash -c "grep -q '</svg>' '$scratch/plot/$picture.svg' && [ -s '$scratch/plot/$picture.gp' ]"
	done
	refused "a file where the folder for plots should be" 1 "--plot $trace" "${replay[@]}" --requests 20 --plot "$trace"
	refused "no folder above that for plots" 1 "No such file or directory" \
		"${replay[@]}" --requests 20 --plot "$scratch/none/plot"
else
	skip "plots" "no gnuplot"
fi
refused "plots without gnuplot" 1 "install gnuplot-nox" env PATH=/nowhere "${replay[@]}" --plot "$scratch/plot"

# --- bad input ----------------------------------------------------------------------------------

refused "no arguments" 64 "Usage: mtserve COMMAND" "$mtserve"
refused "unknown command" 64 'unknown command "serve"' "$mtserve" serve
refused "unknown option" 64 "unrecognized option '--modle'" "${replay[@]}" --modle x
refused "required option missing" 64 "expected --trace FILE and --model FILE" "$mtserve" replay
refused "unknown mode" 64 'unknown "fast"' "${replay[@]}" --modes fast
refused "unknown K/V type" 64 '--kv-dtype is "f64"' "${replay[@]}" --kv-dtype f64
refused "size without sense" 64 '--device-mem is "lots"' "${replay[@]}" --device-mem lots
refused "page size between" 1 "page_tokens" "${replay[@]}" --page-tokens 48
refused "unknown device" 1 "--device tpu: not in this build" "${replay[@]}" --device tpu
refused "unknown arena" 1 "granite" "${replay[@]}" --arena granite
refused "arena without memory for a device that needs it" 1 "only for the nil device" "${replay[@]}" --arena none
refused "arena in another file system" 1 "not in a file system of type mtserve" "${replay[@]}" --arena "mtserve:$scratch"
refused "no arena to look at" 1 "No such file" "$mtserve" info --arena "tmpfs:$scratch/none/x"
refused "checksum of nothing" 64 "--checksum without --arena" "$mtserve" info --checksum
refused "no such node" 1 "node" "${replay[@]}" --node 1000
refused "no model" 1 "$scratch/none" "${replay[@]}" --model "$scratch/none"
refused "no trace" 1 "$scratch/none" "${replay[@]}" --trace "$scratch/none"
refused "device memory below one window" 1 "expected at least" "${replay[@]}" --device-mem 4KiB
refused "host memory below one page" 1 "host memory" "${replay[@]}" --host-mem 1KiB
refused "absurd host memory" 1 "asked for" "${replay[@]}" --host-mem 100000GiB
refused "full disk for JSON" 1 "--json /dev/full: No space left on device" "${replay[@]}" --requests 20 --json /dev/full
refused "folder for JSON" 1 "--json $scratch" "${replay[@]}" --requests 20 --json "$scratch"
refused "requirement not met" 1 "required speedup_vs_recompute >= 1e9" \
	"${replay[@]}" --requests 20 --require 'speedup_vs_recompute >= 1e9'
refused "requirement without sense" 1 "expected NAME >= NUMBER" "${replay[@]}" --requests 20 --require nonsense
refused "requirement on what did not run" 1 "required share_of_unbounded" \
	"${replay[@]}" --requests 20 --modes hierarchical --require 'share_of_unbounded >= 0.1'

head -c 5000 "$model" >"$scratch/cut"
refused "truncated model" 1 "$scratch/cut" "${replay[@]}" --model "$scratch/cut"
head -c 100 /dev/urandom >"$scratch/noise"
refused "noise as a model" 1 "$scratch/noise" "${replay[@]}" --model "$scratch/noise"
printf 'time_ms,user_id,history,candidates\n2,1,5,3\n1,1,6,3\n' >"$scratch/falling.csv"
refused "falling time" 1 "falling.csv:3" "${replay[@]}" --trace "$scratch/falling.csv"
printf 'time_ms,user_id,history,candidates,mood\n2,1,5,3,4\n' >"$scratch/unknown.csv"
refused "unknown column" 1 "mood" "${replay[@]}" --trace "$scratch/unknown.csv"
printf 'time_ms,user_id,history,candidates\n2,1,-5,3\n' >"$scratch/negative.csv"
refused "negative history" 1 "negative.csv:2" "${replay[@]}" --trace "$scratch/negative.csv"
printf 'time_ms,user_id,history,candidates\n2,1,5,99999999999\n' >"$scratch/absurd.csv"
refused "absurd candidates" 1 "absurd.csv:2" "${replay[@]}" --trace "$scratch/absurd.csv"
printf 'time_ms,user_id,history,candidates\n' >"$scratch/empty.csv"
refused "empty trace" 1 "no requests in it" "${replay[@]}" --trace "$scratch/empty.csv"
printf 'time_ms,user_id,history,candidates\n1,1,0,3\n2,1,0,0\n3,2,4,0\n4,2,4,2\n' >"$scratch/strangers.csv"
succeeds "strangers, empty histories, encode only" \
	"${replay[@]}" --trace "$scratch/strangers.csv" --device-mem 1MiB --host-mem 1MiB --require 'max_abs_score_diff <= 0'

finish
