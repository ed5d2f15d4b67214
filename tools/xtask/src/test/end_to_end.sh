# Runs all test programs beside this script with the arguments given, and copies their output to the file "results".
# A program that hangs is killed, and counts as a failed test of its name.
limit=1800
dir=$(dirname "$0")
failed=0
: >"$dir/results"
for program in "$dir"/programs/*; do
    name=$(basename "$program")
    echo "--- end-to-end: $name"
    { timeout --kill-after=10 $limit "$program" "$@" 2>&1; echo $? >/tmp/status.$$; } | tee -a "$dir/results"
    read -r status </tmp/status.$$
    case $status in
    0) ;;
    101) failed=1 ;;
    *)
        echo "test $name (whole program, exit status $status) ... FAILED" | tee -a "$dir/results"
        failed=1
        ;;
    esac
done
rm -f /tmp/status.$$
exit $failed
