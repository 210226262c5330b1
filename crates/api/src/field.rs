//! Where in a document a value stands, and what is wrong with it.

use std::borrow::Cow;
use std::fmt;

use hopwise_core::cidr::{Cidr, ParseCidrError};
use hopwise_core::name::MacAddr;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

/// One step of a [`FieldPath`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Into a mapping, by key.
    Key(Cow<'static, str>),
    /// Into a sequence, counted from 0.
    Index(usize),
}

/// The way from the top of a document to one value, written `nodes[2].podCIDRs[0]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldPath(pub Vec<Step>);

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if position == 0 => write!(f, "{key}")?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// A value that can't be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}{}{message}; {fix}", if path.0.is_empty() { "" } else { ": " })]
pub struct FieldError {
    /// Where it stands.
    pub path: FieldPath,
    /// What is wrong, with the value.
    pub message: String,
    /// What to do.
    pub fix: String,
}

impl FieldError {
    /// An error about the value at hand; the callers say where that is with [`FieldError::under`] and
    /// [`FieldError::at`], innermost first.
    pub fn new(message: impl Into<String>, fix: impl Into<String>) -> FieldError {
        FieldError { path: FieldPath::default(), message: message.into(), fix: fix.into() }
    }

    /// The same error, one mapping further out.
    #[must_use]
    pub fn under(mut self, key: impl Into<Cow<'static, str>>) -> FieldError {
        self.path.0.insert(0, Step::Key(key.into()));
        self
    }

    /// The same error, one sequence further out.
    #[must_use]
    pub fn at(mut self, index: usize) -> FieldError {
        self.path.0.insert(0, Step::Index(index));
        self
    }
}

/// A value that is given once for both families, or for each by itself: `true`, or `{ipv4: true, ipv6: false}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum PerFamily<T> {
    /// The same for both.
    Both(T),
    /// Each by itself; a family that is left out says nothing.
    Each(Families<T>),
}

/// The two families of [`PerFamily::Each`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Families<T> {
    /// The IPv4 value.
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<T>,
    /// The IPv6 value.
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<T>,
}

fn none<T>() -> Option<T> {
    None
}

impl<T> PerFamily<T> {
    /// The shortest form of a pair; `None` when neither family says anything.
    pub fn from_pair(ipv4: Option<T>, ipv6: Option<T>) -> Option<PerFamily<T>>
    where
        T: PartialEq,
    {
        match (ipv4, ipv6) {
            (None, None) => None,
            (Some(ipv4), Some(ipv6)) if ipv4 == ipv6 => Some(PerFamily::Both(ipv4)),
            (ipv4, ipv6) => Some(PerFamily::Each(Families { ipv4, ipv6 })),
        }
    }

    /// Converts what is there; an error names the family that it stands under, if it stands under one.
    pub fn convert<U: Copy>(
        &self,
        mut value: impl FnMut(&T) -> Result<U, FieldError>,
    ) -> Result<hopwise_core::family::PerFamily<Option<U>>, FieldError> {
        let (v4, v6) = match self {
            PerFamily::Both(both) => {
                let both = Some(value(both)?);
                (both, both)
            }
            PerFamily::Each(Families { ipv4, ipv6 }) => (
                ipv4.as_ref().map(&mut value).transpose().map_err(|e| e.under("ipv4"))?,
                ipv6.as_ref().map(&mut value).transpose().map_err(|e| e.under("ipv6"))?,
            ),
        };
        Ok(hopwise_core::family::PerFamily { v4, v6 })
    }
}

/// Written by hand because serde's untagged enums forget where in a document they are.
impl<'de, T: Deserialize<'de>> Deserialize<'de> for PerFamily<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BothOrEach<T>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for BothOrEach<T> {
            type Value = PerFamily<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one value for both families, or a mapping with ipv4 and ipv6")
            }

            fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Self::Value, E> {
                T::deserialize(value.into_deserializer()).map(PerFamily::Both)
            }

            fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Self::Value, E> {
                T::deserialize(value.into_deserializer()).map(PerFamily::Both)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                Families::deserialize(MapAccessDeserializer::new(map)).map(PerFamily::Each)
            }
        }

        deserializer.deserialize_any(BothOrEach(std::marker::PhantomData))
    }
}

/// Reads a CIDR.
pub fn cidr(value: &str) -> Result<Cidr, FieldError> {
    value.parse().map_err(|error| match error {
        ParseCidrError::HostBits { value, network } => {
            FieldError::new(format!("{value} has host bits set"), format!("write {network}"))
        }
        ParseCidrError::Syntax { value } => FieldError::new(
            format!("{value:?} is not a CIDR"),
            "write it as ADDRESS/LENGTH, for example 10.244.1.0/24 or fd00:10:244:1::/64",
        ),
    })
}

/// Reads a list of CIDRs; an error names the place in it.
pub fn cidrs(values: &[String]) -> Result<Vec<Cidr>, FieldError> {
    values.iter().enumerate().map(|(i, value)| cidr(value).map_err(|e| e.at(i))).collect()
}

/// Reads an address.
pub fn address(value: &str) -> Result<std::net::IpAddr, FieldError> {
    value.parse().map_err(|_| {
        let fix = match value.split_once('/') {
            Some((address, _)) if address.parse::<std::net::IpAddr>().is_ok() => {
                format!("leave off the prefix length: write {address}")
            }
            _ => "write it as 192.0.2.1 or 2001:db8::1".to_owned(),
        };
        FieldError::new(format!("{value:?} is not an IP address"), fix)
    })
}

/// Reads the MAC address of one host.
pub fn mac(value: &str) -> Result<MacAddr, FieldError> {
    let mac: MacAddr = value.parse().map_err(|_| {
        FieldError::new(
            format!("{value:?} is not a MAC address"),
            "write six pairs of hexadecimal digits, as in \"02:00:5e:00:53:01\"",
        )
    })?;
    if mac.is_unicast() {
        return Ok(mac);
    }
    Err(FieldError::new(
        format!("{mac} is not the address of a single host"),
        "give the MAC address of the node's link, as `ip link` shows it",
    ))
}

/// The known word that is nearest to `given`, when it is near enough to be a typing error.
pub fn nearest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    let given = given.to_lowercase();
    known
        .iter()
        .map(|word| (distance(&given, &word.to_lowercase()), *word))
        .filter(|(distance, word)| *distance <= 2.max(word.len() / 3))
        .min()
        .map(|(_, word)| word)
}

/// Levenshtein's distance: the fewest letters to insert, delete or replace.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_find_the_word_that_was_meant() {
        let known = ["addresses", "podCIDRs", "mac", "vxlanMac"];
        assert_eq!(nearest("podCidrs", &known), Some("podCIDRs"));
        assert_eq!(nearest("podCIDR", &known), Some("podCIDRs"));
        assert_eq!(nearest("adresses", &known), Some("addresses"));
        assert_eq!(nearest("wombat", &known), None);
        assert_eq!(nearest(&"x".repeat(10_000), &known), None);
    }

    #[test]
    fn paths_read_as_one_would_write_them() {
        let error = FieldError::new("m", "f").at(0).under("podCIDRs").at(2).under("nodes");
        assert_eq!(error.to_string(), "nodes[2].podCIDRs[0]: m; f");
        assert_eq!(FieldError::new("m", "f").to_string(), "m; f");
    }
}
