#!/usr/bin/env bash
# Builds the image without an image registry, from Debian's packages and a Python package index alone: the base image
# is made with debootstrap, the image with buildah. Needs root on Debian and python3; installs the tools it needs.
#   docker/build_local.sh NAME [buildah build's options ...]
set -euo pipefail
cd "$(dirname "$0")/.."
name=$1
shift
base=localhost/dynrefer-base:bookworm
tools=(buildah podman runc debootstrap fuse-overlayfs netavark aardvark-dns uidmap slirp4netns iptables)

for tool in buildah podman runc debootstrap; do
    if ! command -v "$tool" >/dev/null; then
        apt-get update -qq
        apt-get install -qq --no-install-recommends "${tools[@]}" >/dev/null
        break
    fi
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if ! buildah images --quiet "$base" >/dev/null 2>&1; then
    scratch=$work/root
    echo "Making the base image $base (a few minutes)"
    debootstrap --variant=minbase --include=python3,python3-venv,python3-pip,ca-certificates bookworm "$scratch" >"$work/log" \
        || { tail "$work/log"; exit 1; }
    ln -s python3 "$scratch/usr/bin/python"
    rm -f "$scratch"/usr/lib/python3*/EXTERNALLY-MANAGED "$scratch"/var/cache/apt/archives/*.deb
    # The certificates that this machine trusts: a package index may be reached through a proxy with its own.
    cp /etc/ssl/certs/ca-certificates.crt "$scratch/etc/ssl/certs/ca-certificates.crt"
    container=$(buildah from scratch)
    buildah add --quiet "$container" "$scratch" / >/dev/null
    buildah config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin --cmd python "$container"
    buildah commit --quiet --format docker "$container" "$base" >/dev/null
    buildah rm "$container" >/dev/null
    rm -rf "$scratch"
fi

# How this machine reaches its package index: mounted while the image is built, so that none of it stays inside.
"${PYTHON:-python3}" docker/pip_settings.py "$work/pip.conf" >"$work/mounts"
mapfile -t mounts <"$work/mounts"

# Docker's format, because OCI's has no HEALTHCHECK.
buildah build --format docker --isolation chroot --network host --layers --build-arg "BASE=$base" \
    "${mounts[@]/#/--volume=}" --tag "$name" "$@" .
