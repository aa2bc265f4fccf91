# Makes image layers, configs and manifests with tar and jq, and pushes them. Sourced by hack/images.
# shellcheck shell=bash disable=SC2154
#
# The same inputs give the same digests: names sorted, no time after a fixed one, gzip without a name. Layers and images are
# written as blobs below $blobs; $work/layers/NAME.json holds the descriptor of the layer NAME and its DiffID.

work=$target/images
blobs=$work/blobs
stage=$work/stage

# store FILE: moves the file among the blobs and prints its digest.
store() {
  local digest
  digest=$(sha256sum <"$1" | cut -d' ' -f1)
  mv "$1" "$blobs/$digest"
  echo "sha256:$digest"
}

# layer NAME DIRECTORY [gzip|zstd|none] [tar option...]: makes a layer of everything in the directory.
layer() {
  local name=$1 directory=$2 compression=${3:-gzip} tar=$work/layer.tar type=application/vnd.oci.image.layer.v1.tar
  local diff_id digest
  tar -C "$directory" --sort=name --mtime=@1700000000 --clamp-mtime --numeric-owner --format=gnu "${@:4}" -cf "$tar" .
  diff_id=sha256:$(sha256sum <"$tar" | cut -d' ' -f1)
  case $compression in
    gzip) gzip -n "$tar" && tar+=.gz type+=+gzip ;;
    zstd) zstd -q --rm "$tar" && tar+=.zst type+=+zstd ;;
  esac
  local size
  size=$(stat -c %s "$tar")
  digest=$(store "$tar")
  jq -n --arg type "$type" --arg digest "$digest" --argjson size "$size" --arg diff "$diff_id" \
    '{descriptor: {mediaType: $type, digest: $digest, size: $size}, diff_id: $diff}' >"$work/layers/$name.json"
}

# manifest PLATFORM CONFIG LAYER...: stores the config and the manifest of one image, prints the descriptor.
# CONFIG is the `config` object of the image configuration, PLATFORM an architecture.
manifest() {
  local architecture=$1 config=$2 layers digest size
  shift 2
  layers=$(for name in "$@"; do cat "$work/layers/$name.json"; done | jq -s .)
  jq -nc --arg arch "$architecture" --argjson config "$config" --argjson layers "$layers" \
    '{created: "1970-01-01T00:00:00Z", architecture: $arch, os: "linux", config: $config,
      rootfs: {type: "layers", diff_ids: [$layers[].diff_id]},
      history: [$layers[] | {created: "1970-01-01T00:00:00Z", created_by: "hack/images"}]}' >"$work/config"
  size=$(stat -c %s "$work/config")
  digest=$(store "$work/config")
  jq -nc --arg digest "$digest" --argjson size "$size" --argjson layers "$layers" \
    '{schemaVersion: 2, mediaType: "application/vnd.oci.image.manifest.v1+json",
      config: {mediaType: "application/vnd.oci.image.config.v1+json", digest: $digest, size: $size},
      layers: [$layers[].descriptor]}' >"$work/manifest"
  descriptor "$architecture"
}

# descriptor [ARCHITECTURE]: stores $work/manifest, prints its descriptor.
descriptor() {
  local type size digest
  type=$(jq -r .mediaType "$work/manifest")
  size=$(stat -c %s "$work/manifest")
  digest=$(store "$work/manifest")
  jq -nc --arg type "$type" --arg digest "$digest" --argjson size "$size" --arg arch "${1:-}" \
    '{mediaType: $type, digest: $digest, size: $size}
     + if $arch == "" then {} else {platform: {os: "linux", architecture: $arch}} end'
}

# docker_form DESCRIPTOR: stores the same image with Docker's media types, prints its descriptor.
docker_form() {
  sed -e 's,application/vnd.oci.image.manifest.v1+json,application/vnd.docker.distribution.manifest.v2+json,' \
    -e 's,application/vnd.oci.image.config.v1+json,application/vnd.docker.container.image.v1+json,' \
    -e 's,application/vnd.oci.image.layer.v1.tar+gzip,application/vnd.docker.image.rootfs.diff.tar.gzip,g' \
    "$(blob_file "$1")" >"$work/manifest"
  descriptor
}

# index DESCRIPTOR...: stores an index of the manifests, prints its descriptor.
index() {
  printf '%s\n' "$@" | jq -sc '{schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json", manifests: .}' \
    >"$work/manifest"
  descriptor
}

blob_file() { echo "$blobs/$(jq -r '.digest | ltrimstr("sha256:")' <<<"$1")"; }

# image REPOSITORY:TAG[,TAG...] CONFIG LAYER...: makes an image for this architecture and pushes it.
image() {
  local descriptor
  descriptor=$(manifest amd64 "${@:2}")
  push "$descriptor" "$1"
}

# push DESCRIPTOR REPOSITORY:TAG[,TAG...]: uploads what the registry lacks.
push() {
  local descriptor=$1 url=http://$registry_address/v2/${2%%:*} tags=${2#*:} file parts part tag
  file=$(blob_file "$descriptor")
  parts=$(jq -c '.manifests // [] | .[]' "$file")
  for part in $parts; do push "$part" "${2%%:*}:$(jq -r .digest <<<"$part")"; done
  parts=$(jq -r 'select(.layers) | (.config, .layers[]) | .digest' "$file")
  for part in $parts; do push_blob "$url" "$part"; done
  for tag in ${tags//,/ }; do
    curl -fsS -X PUT -H "Content-Type: $(jq -r .mediaType <<<"$descriptor")" --data-binary "@$file" "$url/manifests/$tag"
  done
}

push_blob() {
  local url=$1 digest=$2 location
  curl -fsI "$url/blobs/$digest" >/dev/null && return
  location=$(curl -fsS -o /dev/null -D - -X POST "$url/blobs/uploads/" | tr -d '\r' | sed -n 's/^[Ll]ocation: //p')
  curl -fsS -X PUT -H 'Content-Type: application/octet-stream' -T "$blobs/${digest#sha256:}" "$location&digest=$digest"
}

# add_program ROOTFS SOURCE [TARGET]: copies a program from the stage, and the libraries it needs.
add_program() {
  local root=$1 source=$2 libraries library
  install -D "$stage$source" "$root${3:-$2}"
  libraries=$(chroot "$stage" /lib64/ld-linux-x86-64.so.2 --list "$source" | grep -o '/[^ ]*\.so[^ ]*')
  for library in $libraries; do
    [ -e "$root$library" ] || install -D "$stage$library" "$root$library"
  done
}
