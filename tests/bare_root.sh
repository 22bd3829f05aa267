#!/usr/bin/env bash
# What a newcomer sees: a bare Debian 12 with git and ca-certificates, a clone, one command.
# Needs root and debootstrap. The folder is left behind; with it the second call skips the base system.
#
#   tests/bare_root.sh DIR [./dev demo | ./dev test | ...]      default: ./dev setup
#
# The machine's certificates, apt sources and pip settings are used inside, so that it works behind
# a proxy or a mirror too. MIRROR says where debootstrap loads from.
set -euo pipefail
[ $# -ge 1 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2; }
root=$1
shift
command=${*:-./dev setup}
source=$(git -C "$(dirname "$(readlink -f "$0")")" rev-parse --show-toplevel)
bundle=/etc/ssl/certs/ca-certificates.crt
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

if [ ! -e "$root/etc/debian_version" ]; then
  mirror=${MIRROR:-$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/debian.sources 2>/dev/null | head -n 1)}
  debootstrap --variant=minbase bookworm "$root" ${mirror:+"$mirror"}
fi
mkdir -p "$root$(dirname "$bundle")"
mount --bind /proc "$root/proc"
mount --bind /dev "$root/dev"
mount --bind /dev/pts "$root/dev/pts"
mount --bind /dev/shm "$root/dev/shm"
trap 'umount "$root"/{dev/shm,dev/pts,dev,proc}' EXIT

# Settings of the host: apt's sources, keys and options (without its hooks), pip's file.
rm -f "$root/etc/apt/sources.list"
for part in sources.list sources.list.d trusted.gpg.d auth.conf.d; do
  [ ! -e "/etc/apt/$part" ] || cp -a "/etc/apt/$part" "$root/etc/apt/"
done
grep -hsE '^[A-Za-z:]*(Acquire|Proxy)' /etc/apt/apt.conf /etc/apt/apt.conf.d/* >"$root/etc/apt/apt.conf.d/90host" || true
echo 'Dpkg::Use-Pty "false";' >>"$root/etc/apt/apt.conf.d/90host"
for file in /etc/pip.conf /etc/hosts /etc/resolv.conf; do
  [ ! -e "$file" ] || cp -L "$file" "$root$file"
done

inside() { chroot "$root" /usr/bin/env -i HOME=/root TERM=dumb PATH=/usr/sbin:/usr/bin:/sbin:/bin "${settings[@]}" "$@"; }
mapfile -t settings < <(env | grep -iE '^(https?_proxy|no_proxy|PIP_[A-Z_]*|LC_ALL|DEBIAN_FRONTEND)=' |
  grep -v '^PIP_FIND_LINKS=')
inside apt-get update -qq
inside apt-get install -qq -y --no-install-recommends git ca-certificates >/dev/null
cp -L "$bundle" "$root$bundle"

rm -rf "$root/root/nfscale" "$root/root/nfscale.git"
git clone -q --bare "$source" "$root/root/nfscale.git"
revision=$(git -C "$source" rev-parse HEAD)
inside git clone -q /root/nfscale.git /root/nfscale
inside git -C /root/nfscale checkout -q --detach "$revision"
echo "== $command in a bare root, commit ${revision:0:10}"
SECONDS=0 status=0
inside bash -c "cd /root/nfscale && $command" || status=$?
echo "== exit $status after $SECONDS s"
exit $status
