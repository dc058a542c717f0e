#!/usr/bin/env bash
# Builds the image where no image registry is reached, only Debian's packages and a Python package index: the base
# image is made here with debootstrap, the image with buildah. Needs root on Debian; installs the tools it needs.
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

# Local folders that pip is told to look into; the build must see them under the same names.
folders=()
for folder in $(pip config list 2>/dev/null | sed -n "s/^[^=]*find-links='\(.*\)'$/\1/p") ${PIP_FIND_LINKS:-}; do
    [[ -d $folder && " ${folders[*]} " != *" $folder:"* ]] && folders+=(--volume "$folder:$folder:ro")
done

if ! buildah images --quiet "$base" >/dev/null 2>&1; then
    work=$(mktemp -d)
    scratch=$work/root
    trap 'rm -rf "$work"' EXIT
    echo "Making the base image $base (a few minutes)"
    debootstrap --variant=minbase --include=python3,python3-venv,python3-pip,ca-certificates bookworm "$scratch" >"$work/log" \
        || { tail "$work/log"; exit 1; }
    ln -s python3 "$scratch/usr/bin/python"
    rm -f "$scratch"/usr/lib/python3*/EXTERNALLY-MANAGED "$scratch"/var/cache/apt/archives/*.deb
    # How this machine reaches its package index; folders that the build will not see are left out.
    cp /etc/ssl/certs/ca-certificates.crt "$scratch/etc/ssl/certs/ca-certificates.crt"
    pip config list | sed -n "/file:/d; s/^global\.\([a-z-]*\)='\(.*\)'$/\1 = \2/p" | { echo "[global]"; cat; } >"$scratch/etc/pip.conf"
    container=$(buildah from scratch)
    buildah add --quiet "$container" "$scratch" / >/dev/null
    buildah config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin --cmd python "$container"
    buildah commit --quiet --format docker "$container" "$base" >/dev/null
    buildah rm "$container" >/dev/null
fi

# docker's format, because the other one has no HEALTHCHECK.
buildah build --format docker --isolation chroot --network host --layers --build-arg "BASE=$base" \
    "${folders[@]}" --tag "$name" "$@" .
