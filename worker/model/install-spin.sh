#!/bin/sh
# Installs the model checker spin, and the C compiler it needs, with the system's
# package manager, unless they are there.
set -eu

if command -v spin >/dev/null && command -v gcc >/dev/null; then
    exit 0
fi

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

if command -v apt-get >/dev/null; then
    echo "No spin here: installing Debian's packages spin and gcc"
    as_root apt-get update -qq
    DEBIAN_FRONTEND=noninteractive as_root apt-get install -y -qq --no-install-recommends spin gcc libc6-dev >/dev/null
elif command -v brew >/dev/null; then
    echo "No spin here: installing Homebrew's formula spin (gcc comes with the Xcode command line tools)"
    brew install --quiet spin
else
    echo "No spin here: install spin (https://spinroot.com) and gcc" >&2
    exit 1
fi
