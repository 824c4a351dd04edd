#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# mtserve with its host tier in an arena of the module, end to end, in the guest: replay on each
# node, the same bits as recomputing, pages where they should be; a replay ended by SIGKILL, whose
# bytes the next process finds; and what must be refused. Prints TAP.
#
# Runs under busybox, with mtserve in /bin, and beside it the BLAS libraries that it looks for.
export LD_LIBRARY_PATH=/bin
n=0
s=/tmp/replay
mkdir -p $s

verdict() { # STATUS NAME [FILE WITH DETAIL]
	n=$((n + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $n - $2"
	else
		echo "not ok $n - $2"
		[ -z "$3" ] || sed 's/^/# /' "$3"
	fi
}

# refused NAME TEXT COMMAND...
refused() {
	name=$1 text=$2
	shift 2
	! "$@" >$s/log 2>&1 && grep -qF -- "$text" $s/log
	verdict $? "$name" $s/log
}

options="--model $s/model --trace $s/trace.csv --device-mem 512KiB --host-mem 64MiB"
replay() {
	mtserve replay $options "$@"
}

checksum() {
	mtserve info --arena "$1" --checksum 2>&1
}

for node in 0 1; do
	mkdir -p /run/mtserve/node$node
	mount -t mtserve -o node=$node,size=256M none /run/mtserve/node$node
done
mtserve model init --preset tiny --items 2000 --max-history 256 --slide 64 --seed 3 -o $s/model >$s/log 2>&1 &&
	mtserve trace gen --users 60 --days 0.2 --start-hour 18 --seed 2 --candidates 5 -o $s/trace.csv >>$s/log 2>&1
verdict $? "model and trace are made" $s/log

# --- on each node ---------------------------------------------------------------------------------

for node in 0 1; do
	arena=mtserve:/run/mtserve/node$node/a
	replay --requests 40 --arena $arena --require 'max_abs_score_diff <= 0' \
		--require 'modes.hierarchical.bytes.h2d >= 1' >$s/log 2>&1 && grep -q "^arena: mtserve, 64.0 MiB$" $s/log
	verdict $? "node $node: replay loads from the arena, the same bits" $s/log
	checksum $arena >$s/log && grep -q "64 MiB on node $node, pages of 2048 KiB, 32 of 32 seen there, 64 MiB mapped huge" $s/log
	verdict $? "node $node: the arena outlives the process, on its node, in whole pages" $s/log
done
mtserve info >$s/log 2>&1 && grep -q "arena *mtserve *yes: pages of 2048 KiB, 8 of 8 seen on node" $s/log
verdict $? "info finds the mounted file system" $s/log
replay --requests 20 --modes hierarchical >$s/log 2>&1 && grep -q "^arena: mtserve" $s/log
verdict $? "auto takes the module" $s/log
[ "$(ls /run/mtserve/node0)$(ls /run/mtserve/node1)" = aa ]
verdict $? "and leaves no file"

# --- killed -----------------------------------------------------------------------------------------

# The sum of an arena of this size with nothing in it.
truncate -s 64M $s/zero
empty=$(checksum tmpfs:$s/zero | grep checksum)
rm $s/zero

place=/run/mtserve/node1/killed
arena=mtserve:$place
# Not the function, which would be a shell of its own with another process id.
mtserve replay $options --modes hierarchical --arena $arena >$s/replay.log 2>&1 &
pid=$!
# Until it has written users back there is nothing to find.
while kill -STOP $pid; do
	sleep 0.2
	checksum $arena >$s/before
	before=$(grep checksum $s/before)
	if grep -q "another process uses it" $s/before && [ "$before" != "$empty" ]; then
		break
	fi
	kill -CONT $pid
	sleep 0.2
done
[ -n "$before" ] && grep -q State:.*T /proc/$pid/status
verdict $? "a replay is stopped while it uses its arena" $s/replay.log
where=$(grep $place /proc/$pid/numa_maps)
echo "$where" | grep -q " N1=" && ! echo "$where" | grep -q " N0="
verdict $? "numa_maps has it on node 1 alone"
echo "# $where"
refused "no second process gets the arena" "in use by another process" \
	replay --requests 1 --modes hierarchical --arena $arena

kill -KILL $pid
wait $pid
status=$?
[ $status -eq 137 ]
verdict $? "it is killed"
checksum $arena >$s/after && ! grep -q "another process" $s/after && [ "$(grep checksum $s/after)" = "$before" ]
verdict $? "the next process finds its bytes: $before" $s/after
replay --requests 40 --arena $arena --require 'max_abs_score_diff <= 0' >$s/log 2>&1
verdict $? "and serves from the same arena, the same bits" $s/log

# --- refused ------------------------------------------------------------------------------------------

refused "an arena of another size" "has 64 MiB, 32 MiB were asked for" \
	replay --requests 1 --modes hierarchical --arena $arena --host-mem 32MiB
refused "an arena on another node" "is on node 1, node 0 was asked for" \
	replay --requests 1 --modes hierarchical --arena $arena --node 0
refused "more than the mount may have" "in the file system" \
	replay --requests 1 --modes hierarchical --arena mtserve:/run/mtserve/node0/big --host-mem 512MiB
[ ! -e /run/mtserve/node0/big ]
verdict $? "which leaves no file"

rm /run/mtserve/node0/a /run/mtserve/node1/a $place
umount /run/mtserve/node0 && umount /run/mtserve/node1
verdict $? "nothing holds the mounts"
rm -r $s
echo "1..$n"
