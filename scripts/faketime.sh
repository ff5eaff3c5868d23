#!/usr/bin/env bash
# See to it that the tests find libfaketime, by which a process has a wrong clock: install it, or say how.
set -euo pipefail
library=libfaketimeMT.so.1
missing() {
  local each
  for each in /usr/lib/*/faketime/"$library" /usr/{lib,lib64,local/lib}/faketime/"$library"; do
    [ ! -e "$each" ] || return 1
  done
}

missing || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "· installing libfaketime" >&2
  install() { DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends libfaketime >/dev/null 2>&1; }
  install || { apt-get update -qq >/dev/null && install; } || true
fi
if missing; then
  cat >&2 <<'HOW'
The tests of a fleet whose clocks disagree need libfaketime:
  Debian, Ubuntu    sudo apt-get install libfaketime
  Fedora            sudo dnf install libfaketime
  Alpine            sudo apk add libfaketime
HOW
  exit 1
fi
