//! The one image that all containers and sandboxes are made of: an OCI archive (image-spec 1.1) with one layer, in which there
//! is nothing but a static busybox.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

/// What the image is called.
pub const NAME: &str = "hopwise.test/busybox:1";

/// Programs that containers run.
const APPLETS: [&str; 8] = ["sh", "sleep", "ping", "ping6", "httpd", "wget", "dd", "mkdir"];

/// Writes the archive into a folder, and returns its path.
pub fn write(dir: &Path) -> PathBuf {
    let (root, layout) = (dir.join("image-root"), dir.join("image"));
    for folder in ["bin", "tmp", "etc", "proc", "sys", "dev"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    let busybox = ["/usr/bin/busybox", "/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
    let busybox = busybox.expect("no busybox; apt-get install busybox-static");
    fs::copy(busybox, root.join("bin/busybox")).unwrap();
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
    let layer = dir.join("layer.tar");
    tar(&root, &layer);
    let layer = blob(&layout, &fs::read(&layer).unwrap(), "application/vnd.oci.image.layer.v1.tar");
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["sleep", "1000000"]},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    });
    let config = blob(&layout, config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json");
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer]});
    let mut manifest = blob(&layout, manifest.to_string().as_bytes(), kind);
    manifest["annotations"] = json!({"io.containerd.image.name": NAME});
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();
    let archive = dir.join("image.tar");
    tar(&layout, &archive);
    archive
}

/// The processor as images name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Stores a blob and describes it.
fn blob(layout: &Path, bytes: &[u8], kind: &str) -> Value {
    let file = layout.join("blobs/sha256/new");
    fs::write(&file, bytes).unwrap();
    let output = Command::new("sha256sum").arg(&file).output().unwrap();
    let digest = String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned();
    assert_eq!(digest.len(), 64, "sha256sum failed");
    fs::rename(&file, file.with_file_name(&digest)).unwrap();
    json!({"mediaType": kind, "digest": format!("sha256:{digest}"), "size": bytes.len()})
}

fn tar(folder: &Path, archive: &Path) {
    let status = Command::new("tar").arg("-C").arg(folder).arg("-cf").arg(archive).arg(".").status().unwrap();
    assert!(status.success(), "tar: {status}");
}
