#!/bin/sh
# crun's command line, as far as its tests use it, for a runtime with runc's: the one that follows the last "-" in this
# program's name.
set -e
rotated=0
count=$#
while [ $rotated -lt $count ]; do
    argument=$1
    shift
    rotated=$((rotated + 1))
    case $argument in
    --cgroup-manager)
        # Neither has another way than cgroupfs without systemd.
        shift
        rotated=$((rotated + 1))
        ;;
    --config)
        # Their bundle is where config.json is.
        if [ "$1" != config.json ]; then cp "$1" config.json; fi
        shift
        rotated=$((rotated + 1))
        ;;
    *) set -- "$@" "$argument" ;;
    esac
done
exec "${0##*-}" "$@"
