#!/bin/bash
# Builds the guest kernel: tinyconfig, the fragments of config/ on top, every wish checked, vmlinux stripped.
#
#   build.sh --work DIR --output DIR [--source TARBALL] [--jobs N] [--config-only]
#
#   --work DIR     where the source is unpacked and built (about 3 GB); kept, so that a second run is incremental
#   --output DIR   receives vmlinux (stripped), config and System.map, each written whole or not at all
#   --source F     Debian's source (default /usr/src/linux-source-6.12.tar.xz, package linux-source-6.12)
#   --config-only  stop after the configuration has been made and checked
#
# Needs: bash bc bison flex gcc libelf-dev make xz-utils. `cargo xtask kernel` installs them, calls this and caches.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
source=/usr/src/linux-source-6.12.tar.xz
work='' output='' config_only='' jobs=$(nproc)
# The largest stripped vmlinux that the project accepts: it is mapped into every sandbox.
max_bytes=$((28 * 1024 * 1024))

die() { echo "build.sh: $*" >&2; exit 1; }

while [ $# -gt 0 ]; do
    case $1 in
        --work) work=${2:?}; shift 2 ;;
        --output) output=${2:?}; shift 2 ;;
        --source) source=${2:?}; shift 2 ;;
        --jobs) jobs=${2:?}; shift 2 ;;
        --config-only) config_only=1; shift ;;
        -h | --help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit 0 ;;
        *) die "unknown argument '$1' (see --help)" ;;
    esac
done
[ -n "$work" ] || die "--work DIR is needed (see --help)"
[ -n "$output" ] || [ -n "$config_only" ] || die "--output DIR is needed (see --help)"

# The result depends on the source and the configuration, not on who builds it, when and with what in the environment.
unset ARCH CROSS_COMPILE KCFLAGS KAFLAGS KCONFIG_CONFIG KCONFIG_ALLCONFIG LOCALVERSION MAKEFLAGS
export KBUILD_BUILD_USER=husk KBUILD_BUILD_HOST=husk KBUILD_BUILD_VERSION=1
export KBUILD_BUILD_TIMESTAMP='2026-01-01 00:00:00 UTC' LC_ALL=C

unpack() {
    [ -f "$source" ] || die "$source is missing: install Debian's linux-source-6.12 or name one with --source"
    local stamp
    stamp=$(sha256sum <"$source")
    [ "$(cat "$work/source.sha256" 2>/dev/null)" = "$stamp" ] && return
    rm -rf "$work/source" "$work/source.sha256"
    mkdir -p "$work/source"
    tar xf "$source" -C "$work/source" --strip-components=1
    echo "$stamp" >"$work/source.sha256"
}

# Fragments in the order of their names. No option may be given by two of them: one concern, one place.
configure() {
    local twice
    twice=$(sed -n 's/^\(# \)\?\(CONFIG_[A-Z0-9_]*\)\(=.*\| is not set\)$/\2/p' "$here"/config/*.config | sort | uniq -d)
    [ -z "$twice" ] || die "given more than once in config/: $(echo $twice)"
    make -s tinyconfig >make-config.log 2>&1 || { cat make-config.log >&2; die "make tinyconfig failed"; }
    cat "$here"/config/*.config >>.config
    make -s olddefconfig >make-config.log 2>&1 || { cat make-config.log >&2; die "make olddefconfig failed"; }
}

# Every line of every fragment and of required.txt must hold in the finished configuration.
check() {
    local bad=0 file line name want got
    for file in "$here"/config/*.config; do
        while IFS= read -r line; do
            case $line in
                CONFIG_*=*) name=${line%%=*} want=${line#*=} ;;
                '# CONFIG_'*' is not set') name=${line#\# } name=${name% is not set} want=n ;;
                *) continue ;;
            esac
            got=$(value_of "$name")
            [ "$got" = "$want" ] && continue
            echo "build.sh: $(basename "$file"): $name=$want is not honoured: it is $got" >&2
            bad=1
        done <"$file"
    done
    while IFS= read -r line; do
        case $line in '' | '#'*) continue ;; esac
        name=CONFIG_${line%%=*} want=y
        [ "$line" = "${line#*=}" ] || want=${line#*=}
        got=$(value_of "$name")
        [ "$got" = "$want" ] && continue
        echo "build.sh: required.txt: $name must be $want: it is $got" >&2
        bad=1
    done <"$here/required.txt"
    [ $bad = 0 ] || die "the configuration is not what was asked for"
}

value_of() {
    local value
    value=$(sed -n "s/^$1=//p" .config)
    echo "${value:-n}"
}

install_results() {
    mkdir -p "$output"
    strip -o "$output/vmlinux.part" vmlinux
    local bytes
    bytes=$(stat -c %s "$output/vmlinux.part")
    [ "$bytes" -le "$max_bytes" ] || die "vmlinux has $bytes bytes: more than $max_bytes"
    cp .config "$output/config.part"
    cp System.map "$output/System.map.part"
    # vmlinux last: who sees it has the rest.
    for name in config System.map vmlinux; do mv "$output/$name.part" "$output/$name"; done
    echo "vmlinux: $bytes bytes"
}

# One function, so that the shell has read the whole script before it begins: editing it does not disturb a build.
main() {
    mkdir -p "$work"
    unpack
    cd "$work/source"
    configure
    check
    [ -z "$config_only" ] || return 0
    make -j"$jobs" vmlinux
    install_results
}

main
exit 0
