//! What needs nf_tables where the kernel has none: refused before anything is changed. So it is in the guest of
//! `cargo xtask vm`, whose kernel is kept from loading it; elsewhere the same calls have to succeed.

#![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

#[path = "attach/harness.rs"]
#[allow(dead_code, reason = "this test uses its part")]
mod harness;

use serde_json::json;

use harness::{Call, Host, Pod};

#[test]
fn what_needs_nf_tables_is_refused_before_anything_is_changed() {
    let is_there = std::env::var_os("HOPWISE_GUEST").is_none();
    for (plugin, key) in [("bridge", "ipMasq"), ("bridge", "macspoofchk"), ("ptp", "ipMasq")] {
        let (host, pod) = (Host::new(), Pod::new());
        let mut config = host.config("1.1.0", &["10.77.0.0/24"], json!({"type": plugin, key: true}));
        let before = host.links();
        let said = host.add("a", &pod, &config);
        if is_there {
            said.ok();
        } else {
            said.err(2, &format!("{key} is not supported by this kernel: it has no nf_tables"));
            assert_eq!(host.links(), before);
            assert!(!host.data_dir().exists());
        }
        // There is nothing left to be undone, and no complaint about what can't be there.
        host.del("a", &pod.path(), &config).ok();
        config["cni.dev/valid-attachments"] = json!([]);
        host.call(&Call::new("GC", "", ""), &config).ok();
        host.assert_empty();
    }
}
