#!/usr/bin/env bash
# See to it that the tests find redis-server and redis-cli: install them where that is allowed, else say how.
set -euo pipefail
missing() { ! command -v redis-server >/dev/null || ! command -v redis-cli >/dev/null; }

missing || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "· installing redis-server" >&2
  # Only the programs are wanted: 101 tells Debian's packages to start nothing.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
  fi
  install() { DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends redis-server >/dev/null 2>&1; }
  install || { apt-get update -qq >/dev/null && install; } || true
fi
if missing; then
  cat >&2 <<'HOW'
The tests need redis-server and redis-cli, 7.0 or newer:
  Debian, Ubuntu    sudo apt-get install redis-server
  Fedora            sudo dnf install redis
  Alpine            sudo apk add redis
  macOS             brew install redis
Nothing has to run: the tests start servers of their own, on free ports.
HOW
  exit 1
fi
