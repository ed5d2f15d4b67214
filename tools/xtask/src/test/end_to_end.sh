# end_to_end.sh SECONDS NAME ARGUMENT...: runs one of the test programs beside this script, and copies its output to the file
# results/NAME. One that takes too long is killed: 124, or 137.
dir=$(dirname "$0") limit=$1 name=$2
shift 2
{ timeout --kill-after=10 "$limit" "$dir/programs/$name" "$@" 2>&1; echo $? >"/tmp/status.$$"; } | tee "$dir/results/$name"
read -r status <"/tmp/status.$$"
rm -f "/tmp/status.$$"
exit "$status"
