//! Names by SHA-512: the reference plugins derive the names of chains and links from it, and theirs have to be found again.

use sha2::{Digest, Sha512};

/// The digest in hexadecimal: 128 digits.
pub fn hex(message: &[u8]) -> String {
    Sha512::digest(message).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A prefix and as many hexadecimal digits of the text's digest as make the whole `len` characters long: how the
/// reference names what belongs to an attachment.
pub fn name_of(prefix: &str, text: &str, len: usize) -> String {
    let mut name = format!("{prefix}{}", hex(text.as_bytes()));
    name.truncate(len);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_digests() {
        // The digest is the example of FIPS 180-4.
        assert_eq!(name_of("bwp", "abc", 15), "bwpddaf35a19361");
        assert_eq!(hex(b"abc").len(), 128);
    }
}
