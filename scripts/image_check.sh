#!/usr/bin/env bash
# Build the image without a container engine, twice, and run it as a pod would: read-only root, no privileges.
# Needs root on Debian with buildah and debootstrap. Debian's own Python stands in for the base image.
set -euo pipefail
cd "$(dirname "$0")/.."
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
work=$(mktemp -d)
root=$work/root
trap 'rm -rf --one-file-system "$work"' EXIT
storage=(--root "$work/storage" --runroot "$work/run")

echo "· base"
debootstrap --variant=minbase --include=ca-certificates,python3,python3-pip,python3-venv bookworm "$work/base" >"$work/log"
ln -s python3 "$work/base/usr/bin/python"
cp --dereference /etc/resolv.conf "$work/base/etc/"
cp /etc/ssl/certs/ca-certificates.crt "$work/base/etc/ssl/certs/"
[ ! -e /etc/pip.conf ] || cp /etc/pip.conf "$work/base/etc/"
container=$(buildah "${storage[@]}" from scratch)
buildah "${storage[@]}" copy --quiet "$container" "$work/base" / >"$work/log"
buildah "${storage[@]}" commit --quiet --rm "$container" base >"$work/log"

version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' src/outrider/__init__.py)
for build in first second; do
  echo "· $build build"
  buildah "${storage[@]}" bud --no-cache --format docker --timestamp 0 --build-arg BASE=localhost/base \
    --build-arg VERSION="$version" --tag "outrider:$build" . >"$work/log" 2>&1 || { tail -n 20 "$work/log"; exit 1; }
  buildah "${storage[@]}" inspect --type image --format '{{.OCIv1.RootFS.DiffIDs}}' "outrider:$build" >"$work/$build"
done
cmp "$work/first" "$work/second"
echo "✓ both builds have the same layers"

container=$(buildah "${storage[@]}" from outrider:first)
user=$(buildah "${storage[@]}" inspect --format '{{.OCIv1.Config.User}}' "$container")
mkdir "$root"
cp --archive "$(buildah "${storage[@]}" mount "$container")/." "$root"
buildah "${storage[@]}" umount "$container" >"$work/log"
echo "✓ $(du --summarize --human-readable "$root/opt/outrider" | cut -f1) above the base, run by $user"

# Read-only root, a writable folder for the socket, no privileges, and a network of its own.
cat >"$work/pod" <<'POD'
set -euo pipefail
root=$1 user=$2
ip link set lo up
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o "mode=0770,gid=${user#*:}" tmpfs "$root/run/outrider"
mount -o remount,bind,ro "$root"
inside=(chroot "$root" setpriv --reuid "${user%:*}" --regid "${user#*:}" --clear-groups --no-new-privs
  --inh-caps=-all --bounding-set=-all env --ignore-environment PATH=/opt/outrider/bin:/usr/bin:/bin
  OUTRIDER_SERVER__UNIX_SOCKET=/run/outrider/outrider.sock)
! "${inside[@]}" touch /opt/outrider/written 2>/dev/null
! "${inside[@]}" python -c 'import hatchling' 2>/dev/null
"${inside[@]}" outrider serve &
sidecar=$!
for _ in {1..60}; do
  "${inside[@]}" outrider health >/dev/null 2>&1 && break
  kill -0 "$sidecar"
  sleep 0.5
done
"${inside[@]}" outrider health
[ "$(stat -c %a "$root/run/outrider/outrider.sock")" = 660 ]
kill -TERM "$sidecar"
wait "$sidecar"
POD
mkdir -p "$root/run/outrider"
unshare --mount --pid --net --fork --kill-child bash "$work/pod" "$root" "$user"
echo "✓ it starts, is healthy and ends with 0 on SIGTERM"
