#!/bin/sh
# Make a virtual environment with the first Python 3.11 to 3.13 that is found.
# usage: make-venv.sh FOLDER [PYTHON]    PYTHON, if given, is tried alone.
set -eu
folder=$1
shift
[ $# -gt 0 ] || set -- python3 python3.13 python3.12 python3.11

seen=""
for python in "$@"; do
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    seen="$seen $python is $version;"
    case $version in 3.11 | 3.12 | 3.13) ;; *) continue ;; esac
    # Debian and Ubuntu ship venv and ensurepip in a package of their own.
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        seen="$seen $python has no venv module (on Debian or Ubuntu: apt install python3-venv);"
        continue
    fi
    echo "environment: $folder, from $python ($version)"
    exec "$python" -m venv "$folder"
done

{
    echo "No usable Python."
    echo "  expected: Python 3.11, 3.12 or 3.13 with its venv module"
    echo "  found:   ${seen:- nothing under the names $*}"
    echo "  to do:    install one, or name yours: make PYTHON=/path/to/python3.12 ..."
} >&2
exit 1
