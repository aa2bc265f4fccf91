//! The tree a container sees is the one that `umoci` unpacks of the same image.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use cais_proto::runtime::v1::ContainerStatusRequest;
use flate2::read::GzDecoder;

use crate::fake_registry::{FakeRegistry, digest, gzip};
use crate::node::{Container, Node};

const ODD: &str = "registry.k8s.io/cais/odd:latest";

/// Everything of a file that an image says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct File {
    mode: u32,
    owner: (u32, u32),
    /// Of a regular file.
    size: Option<u64>,
    content: Option<String>,
    link: Option<PathBuf>,
    device: Option<u64>,
    xattrs: BTreeMap<String, Vec<u8>>,
    modified: (i64, i64),
}

#[derive(Default)]
struct Tree {
    files: BTreeMap<PathBuf, File>,
    /// The names of each file that has several.
    links: BTreeSet<BTreeSet<PathBuf>>,
    /// Directories that something else is mounted in: their times are not the image's.
    with_mounts: BTreeSet<PathBuf>,
}

impl Tree {
    /// What is on the file system of `root`, and not mounted below it.
    fn read(root: &Path) -> Self {
        let mut tree = Self::default();
        let device = fs::metadata(root).unwrap().dev();
        let mut by_inode: BTreeMap<u64, BTreeSet<PathBuf>> = BTreeMap::new();
        let mut todo = vec![PathBuf::new()];
        while let Some(path) = todo.pop() {
            let place = root.join(&path);
            // A trailing slash would follow the root of a process.
            let metadata = match path.as_os_str().is_empty() {
                true => fs::metadata(&place).unwrap(),
                false => fs::symlink_metadata(&place).unwrap(),
            };
            if metadata.dev() != device {
                tree.with_mounts.insert(path.parent().unwrap().to_owned());
                continue;
            }
            if metadata.is_dir() {
                let entries = fs::read_dir(&place).unwrap().flatten();
                todo.extend(entries.map(|entry| path.join(entry.file_name())));
            } else if metadata.nlink() > 1 {
                by_inode.entry(metadata.ino()).or_default().insert(path.clone());
            }
            tree.files.insert(path, File::read(&place, &metadata));
        }
        tree.links = by_inode.into_values().filter(|names| names.len() > 1).collect();
        tree
    }
}

impl File {
    fn equals(&self, other: &Self, whatever_the_time: bool) -> bool {
        let mut other = other.clone();
        if whatever_the_time {
            other.modified = self.modified;
        }
        *self == other
    }

    fn read(path: &Path, metadata: &Metadata) -> Self {
        let kind = metadata.file_type();
        let is_device = kind.is_block_device() || kind.is_char_device();
        Self {
            mode: metadata.mode(),
            owner: (metadata.uid(), metadata.gid()),
            size: metadata.is_file().then(|| metadata.len()),
            content: metadata.is_file().then(|| hash(path)),
            link: metadata.is_symlink().then(|| fs::read_link(path).unwrap()),
            device: is_device.then(|| metadata.rdev()),
            xattrs: xattrs(path),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

fn hash(path: &Path) -> String {
    digest(&fs::read(path).unwrap())
}

fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = [0; 4096];
    let size = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let names = names[..size].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = [0; 4096];
            let size = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
            (String::from_utf8(name.to_vec()).unwrap(), value[..size].to_vec())
        })
        .collect()
}

fn run(program: &str, arguments: &[&str]) {
    let done = Command::new(program).args(arguments).output();
    let done = done.unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{program} {arguments:?}: {said}");
}

/// What umoci makes of the image at a registry that speaks plain HTTP.
fn unpacked_by_umoci(node: &Node, image: &str) -> Tree {
    let directory = node.home.join("umoci");
    let (layout, rootfs) = (directory.join("layout"), directory.join("rootfs"));
    fs::create_dir_all(&directory).unwrap();
    let layout = layout.to_str().unwrap();
    let copy = ["copy", "-q", "--src-tls-verify=false", &format!("docker://{image}")];
    run("skopeo", &[&copy[..], &[&format!("oci:{layout}:it")]].concat());
    let from = format!("{layout}:it");
    run("umoci", &["raw", "unpack", "--image", &from, rootfs.to_str().unwrap()]);
    Tree::read(&rootfs)
}

async fn pid_of(container: &Container<'_>) -> u64 {
    let request = ContainerStatusRequest { container_id: container.id.clone(), verbose: true };
    let status = container.node.runtime().container_status(request).await.unwrap().into_inner();
    let info: serde_json::Value = serde_json::from_str(&status.info["info"]).unwrap();
    info["pid"].as_u64().unwrap()
}

/// Both trees name by name; what is mounted over the image in a container is nobody's to compare.
fn assert_same(ours: &Tree, theirs: &Tree, image: &str) {
    let hidden = |path: &Path| {
        !ours.files.contains_key(path)
            && path.ancestors().skip(1).any(|above| ours.with_mounts.contains(above))
    };
    let names = ours.files.keys().chain(theirs.files.keys()).collect::<BTreeSet<_>>();
    let mut differences = Vec::new();
    for path in names.into_iter().filter(|path| !hidden(path)) {
        match (ours.files.get(path), theirs.files.get(path)) {
            (Some(our), Some(their)) => {
                let is_mounted_in = ours.with_mounts.contains(path);
                if !our.equals(their, is_mounted_in) {
                    differences.push(format!("{}: {our:?}, umoci: {their:?}", path.display()));
                }
            }
            (our, their) => {
                differences.push(format!("{}: {our:?}, umoci: {their:?}", path.display()));
            }
        }
    }
    assert!(differences.is_empty(), "{image}:\n{}", differences.join("\n"));
    assert_eq!(ours.links, theirs.links, "{image}");
}

async fn unpacked_by_us(node: &Node, image: &str, name: &str) -> Tree {
    let pod = node.pod(name).run().await;
    let container = pod.container("main").image(image).command(["sleep", "1000"]);
    let container = container.start().await;
    Tree::read(&PathBuf::from(format!("/proc/{}/root", pid_of(&container).await)))
}

/// The registry's own address: umoci knows no mirrors.
fn at_the_registry(image: &str) -> String {
    let registry = std::env::var("CAIS_REGISTRY").expect("run hack/e2e");
    format!("{registry}/{}", image.split_once('/').unwrap().1)
}

#[tokio::test]
async fn whiteouts_links_devices_owners_times_and_names_are_as_umoci_unpacks_them() {
    let node = Node::boot().await;
    let theirs = unpacked_by_umoci(&node, &at_the_registry(ODD));
    let ours = unpacked_by_us(&node, ODD, "odd").await;
    assert!(ours.files.len() > 300, "{}", ours.files.len());
    let at = |name: &str| &ours.files[Path::new(name)];
    // The comparison is worth nothing if the image has lost what it is for.
    assert!(!ours.files.contains_key(Path::new("odd/gone/file")));
    assert!(at("odd/kinds/xattr").xattrs.contains_key("user.cais"));
    assert!(at("odd/kinds/capability").xattrs.contains_key("security.capability"));
    assert!(at("odd/kinds/block").device.is_some() && at("odd/kinds/dangling").link.is_some());
    assert!(at("odd/owners/large").owner.0 > 2_000_000_000);
    assert!(!ours.links.is_empty() && at("odd/times/1969-12-31").modified.0 < 0);
    assert_same(&ours, &theirs, ODD);
}

#[tokio::test]
async fn plain_and_docker_layers_are_as_umoci_unpacks_them() {
    for image in [
        "registry.k8s.io/cais/plain:latest",
        "docker.io/library/nginx:latest",
        "gcr.io/k8s-staging-cri-tools/test-image-predefined-group:latest",
    ] {
        let node = Node::boot().await;
        let theirs = unpacked_by_umoci(&node, &at_the_registry(image));
        let ours = unpacked_by_us(&node, image, "form").await;
        assert_same(&ours, &theirs, image);
    }
}

/// As builders make them that record changes: 6,000 files, and links to files of lower layers.
#[tokio::test]
async fn many_files_and_hard_links_to_lower_layers_are_as_umoci_unpacks_them() {
    let node = Node::boot().await;
    let registry = FakeRegistry::start().await;
    node.trust(&registry.address);
    let base = busybox_layer().await;
    registry.image_of("many", &[base, many_files(), links_to_lower_layers()]);
    let image = registry.reference("many");
    let (theirs, node) = tokio::task::spawn_blocking({
        let image = image.clone();
        move || (unpacked_by_umoci(&node, &image), node)
    })
    .await
    .unwrap();
    let ours = unpacked_by_us(&node, &image, "many").await;
    assert!(ours.files.len() > 6000, "{}", ours.files.len());
    let linked = ["many/3/7", "linked/again", "linked/first"].map(PathBuf::from);
    assert!(ours.links.contains(&BTreeSet::from(linked)), "{:?}", ours.links);
    assert_same(&ours, &theirs, &image);
}

/// The archive of the one layer that makes a shell, from the registry.
pub(crate) async fn busybox_layer() -> Vec<u8> {
    let registry = std::env::var("CAIS_REGISTRY").expect("run hack/e2e");
    let get = async |path: &str, accept: &str| {
        let url = format!("http://{registry}/v2/library/busybox/{path}");
        let done = Command::new("curl").args(["-fsS", "-H", accept, &url]).output().unwrap();
        assert!(done.status.success(), "{url}: {}", String::from_utf8_lossy(&done.stderr));
        done.stdout
    };
    let accept = format!("Accept: {}", crate::fake_registry::MANIFEST);
    let manifest = get("manifests/latest", &accept).await;
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    let compressed = get(&format!("blobs/{layer}"), "Accept: */*").await;
    let mut archive = Vec::new();
    std::io::copy(&mut GzDecoder::new(&compressed[..]), &mut archive).unwrap();
    assert_ne!(digest(&archive), digest(&gzip(&archive)));
    archive
}

fn member(kind: tar::EntryType, size: usize, number: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size as u64);
    header.set_mode(0o600 + u32::try_from(number % 64).unwrap());
    header.set_uid(number % 7);
    header.set_gid(number % 5);
    header.set_mtime(1_000_000_000 + number);
    header
}

fn many_files() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut number = 0;
    let mut header = member(tar::EntryType::Directory, 0, 0);
    header.set_mode(0o755);
    builder.append_data(&mut header, "many", &[][..]).unwrap();
    for directory in 0..60 {
        let mut header = member(tar::EntryType::Directory, 0, directory);
        header.set_mode(0o755);
        builder.append_data(&mut header, format!("many/{directory}"), &[][..]).unwrap();
        for file in 0..100 {
            number += 1;
            let content = format!("file {number}\n").repeat(file);
            let mut header = member(tar::EntryType::Regular, content.len(), number);
            let path = format!("many/{directory}/{file}");
            builder.append_data(&mut header, path, content.as_bytes()).unwrap();
        }
    }
    builder.into_inner().unwrap()
}

fn links_to_lower_layers() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = member(tar::EntryType::Directory, 0, 1);
    header.set_mode(0o750);
    builder.append_data(&mut header, "linked", &[][..]).unwrap();
    for (name, target) in [
        ("linked/first", "many/3/7"),
        ("linked/again", "many/3/7"),
        ("linked/empty", "many/4/0"),
        ("many/5/other", "many/5/99"),
    ] {
        let mut header = member(tar::EntryType::Link, 0, 0);
        builder.append_link(&mut header, name, target).unwrap();
    }
    builder.into_inner().unwrap()
}
