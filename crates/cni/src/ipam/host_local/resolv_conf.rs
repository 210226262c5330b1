//! Name resolution from a resolv.conf file.

use std::path::Path;

use crate::spec::{CniError, Dns};

/// Reads the file that `resolvConf` names.
///
/// # Errors
///
/// When it can't be read.
pub fn read(path: &Path) -> Result<Dns, CniError> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        CniError::caused(format!("ipam.resolvConf: can't read {}", path.display()), &error)
    })?;
    Ok(from_text(&text))
}

pub(super) fn from_text(text: &str) -> Dns {
    let mut dns = Dns::default();
    for line in text.lines().map(str::trim) {
        if line.starts_with(['#', ';']) {
            continue;
        }
        let mut words = line.split_whitespace().map(str::to_owned);
        let (Some(keyword), Some(first)) = (words.next(), words.next()) else { continue };
        match keyword.as_str() {
            "nameserver" => dns.nameservers.push(first),
            "domain" => dns.domain = first,
            "search" => dns.search.extend(std::iter::once(first).chain(words)),
            "options" => dns.options.extend(std::iter::once(first).chain(words)),
            _ => {}
        }
    }
    dns
}
