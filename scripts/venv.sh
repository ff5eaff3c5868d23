#!/usr/bin/env bash
# Make a virtual environment with exactly the locked dependencies and this project: venv.sh FOLDER LOCK
set -euo pipefail
folder=$1 lock=$2

python=${PYTHON:-}
for candidate in python3 python3.11 python3.12 python3.13; do
  [ -n "$python" ] && break
  "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && python=$candidate
done
if [ -z "$python" ]; then
  echo "outrider needs Python 3.11 or newer; none was found. Install it, or set PYTHON=/path/to/python." >&2
  exit 1
fi

if [ ! -x "$folder/bin/pip" ]; then
  echo "· making $folder with $("$python" --version)" >&2
  if ! "$python" -m venv "$folder" 2>/tmp/outrider-venv.$$; then
    rm -rf "$folder"
    # Debian keeps ensurepip in a package of its own.
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
      apt-get install -y -qq python3-venv >/dev/null 2>&1 || { apt-get update -qq && apt-get install -y -qq python3-venv; } >/dev/null
      "$python" -m venv "$folder"
    else
      cat /tmp/outrider-venv.$$ >&2
      rm -f /tmp/outrider-venv.$$
      echo "python cannot make a virtual environment; on Debian and Ubuntu: sudo apt-get install python3-venv" >&2
      exit 1
    fi
  fi
  rm -f /tmp/outrider-venv.$$
fi

echo "· installing $lock" >&2
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --requirement "$lock"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
