//! The YAML library's errors in our own shape: the field, what is wrong with the value, and what to do.

use std::path::Path;

use serde_saphyr::Error;

use super::InventoryError;
use super::locate::{Document, Found, Place};
use crate::field::{self, FieldPath, Step};

const UPLINK_FIX: &str =
    "write auto, or a mapping with one of name, regex, address, canReach, such as {name: eth0}";

/// What to tell for an error from reading `text`.
pub fn explain(error: &Error, text: &str, file: &Path) -> InventoryError {
    let place = error.location().map_or(Place { line: 1, column: 1 }, Place::from);
    let document = Document::read(text);
    let (mut path, found) = document
        .as_ref()
        .and_then(|document| document.at(place))
        .unwrap_or((FieldPath::default(), Found::Nothing));
    let Explanation { key, message, fix } = if is_empty(text) {
        Explanation::new("the file is empty", "write an inventory into it; docs/inventory.md has examples")
    } else {
        explanation(innermost(error), &found)
    };
    // A block mapping starts where its first key does, so that a place alone does not tell one from the other.
    if let Some(key) = key
        && path.0.last() != Some(&Step::Key(key.clone().into()))
    {
        path.0.push(Step::Key(key.into()));
    }
    InventoryError {
        file: file.to_owned(),
        line: place.line,
        column: place.column,
        field: path.to_string(),
        message,
        fix,
    }
}

/// Whether there is nothing, or comments only.
fn is_empty(text: &str) -> bool {
    text.lines().map(str::trim_start).all(|line| line.is_empty() || line.starts_with('#'))
}

struct Explanation {
    /// The key that it is about, where the error names one.
    key: Option<String>,
    message: String,
    fix: String,
}

impl Explanation {
    fn new(message: impl Into<String>, fix: impl Into<String>) -> Explanation {
        Explanation { key: None, message: message.into(), fix: fix.into() }
    }

    fn about(key: &str, message: impl Into<String>, fix: impl Into<String>) -> Explanation {
        Explanation { key: Some(key.to_owned()), message: message.into(), fix: fix.into() }
    }
}

/// What an alias leads to is wrong where it is defined.
fn innermost(error: &Error) -> &Error {
    match error.without_snippet() {
        Error::AliasError { error, .. } => innermost(error),
        error => error,
    }
}

fn explanation(error: &Error, found: &Found<'_>) -> Explanation {
    match error {
        Error::SerdeUnknownField { field, expected, .. } => Explanation::about(
            field,
            "this key is not known",
            match field::nearest(field, expected) {
                Some(word) => format!("did you mean {word}?"),
                None => format!("the keys here are {}", expected.join(", ")),
            },
        ),
        Error::SerdeMissingField { field, .. } => {
            Explanation::about(field, "this key is missing", format!("add `{field}:` with its value"))
        }
        Error::DuplicateMappingKey { key, .. } => Explanation {
            key: key.clone(),
            message: "this key stands here a second time".to_owned(),
            fix: "keep one of the two".to_owned(),
        },
        Error::SerdeUnknownVariant { variant, .. } => {
            Explanation::new(format!("{variant:?} is not known here"), UPLINK_FIX)
        }
        Error::ExpectedMappingEndAfterEnumVariantValue { .. } => {
            Explanation::new("there is more than one key", UPLINK_FIX)
        }
        Error::ExpectedStringKeyForExternallyTaggedEnum { .. }
        | Error::ExternallyTaggedEnumExpectedScalarOrMapping { .. }
        | Error::UnexpectedValueForUnitEnumVariant { .. } => {
            Explanation::new(format!("{found} does not choose a link"), UPLINK_FIX)
        }
        Error::Unexpected { expected, .. } => wrong_type(found, expected),
        Error::InvalidScalar { ty, .. } => wrong_type(found, ty),
        Error::NullIntoString { .. } => wrong_type(found, "string scalar"),
        Error::SerdeInvalidType { expected, .. } | Error::SerdeInvalidValue { expected, .. } => {
            wrong_type(found, expected)
        }
        Error::MultipleDocuments { .. } => {
            Explanation::new("a second document starts here", "keep one inventory in a file, without `---`")
        }
        Error::UnknownAnchor { .. } => Explanation::new(
            "this alias stands for nothing",
            "set the anchor (&NAME) before it, or put a text that starts with * in quotes",
        ),
        error => Explanation::new(
            format!("not valid YAML: {}", without_place(&error.to_string())),
            "check the indentation, brackets and quotes here and on the lines before",
        ),
    }
}

/// `wanted` is what the library calls it.
fn wrong_type(found: &Found<'_>, wanted: &str) -> Explanation {
    let (wanted, fix) = match wanted {
        "sequence start" => ("a list", "write [A, B], or each entry on a line of its own after `- `"),
        "mapping start" => ("a mapping", "write `KEY: VALUE` pairs"),
        "string scalar" if matches!(found, Found::Mapping) => {
            ("a text", "put it in quotes if it is a text with colons")
        }
        "string scalar" => ("a text", "write one value"),
        "boolean" => ("true or false", "write true or false"),
        "u64" => ("a whole number", "write digits only, as in 1450"),
        other => (other, "docs/inventory.md shows what can stand here"),
    };
    Explanation::new(format!("{found} is not {wanted}"), fix)
}

fn without_place(message: &str) -> &str {
    message.rfind(" at line ").map_or(message, |end| &message[..end])
}
