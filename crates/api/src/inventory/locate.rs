//! Lines and columns, found only when there is an error to report.
//!
//! The inventory is read without positions, which is several times faster; when a value turns out wrong the text is read
//! a second time into a tree that knows where everything stands.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Location, Spanned};

use crate::field::{FieldPath, Step};

/// A place in a text, both counted from 1; the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub line: u64,
    pub column: u64,
}

impl From<Location> for Place {
    fn from(location: Location) -> Place {
        Place { line: location.line().max(1), column: location.column().max(1) }
    }
}

/// A document with the place of every value.
pub struct Document(Spanned<Tree>);

enum Tree {
    Nothing,
    Scalar(String),
    List(Vec<Spanned<Tree>>),
    Map(Vec<(Spanned<String>, Spanned<Tree>)>),
}

impl Document {
    /// Reads a text; `None` when it is not even YAML.
    pub fn read(text: &str) -> Option<Document> {
        let mut options = super::yaml_options(text);
        options.duplicate_keys = DuplicateKeyPolicy::LastWins;
        serde_saphyr::from_str_with_options(text, options).ok().map(Document)
    }

    /// Where the value at a path stands; for a value that is missing, the mapping or sequence that misses it.
    pub fn place(&self, path: &FieldPath) -> Place {
        let mut here = &self.0;
        for step in &path.0 {
            let next = match (&here.value, step) {
                (Tree::List(items), Step::Index(index)) => items.get(*index),
                (Tree::Map(entries), Step::Key(wanted)) => {
                    entries.iter().find(|(key, _)| key.value == *wanted).map(|(_, value)| value)
                }
                _ => None,
            };
            match next {
                Some(next) => here = next,
                None => break,
            }
        }
        here.referenced.into()
    }

    /// The path of what stands at a place, and what it is.
    pub fn at(&self, place: Place) -> Option<(FieldPath, Found<'_>)> {
        let mut path = Vec::new();
        let found = search(&self.0, place, &mut path)?;
        Some((FieldPath(path), found))
    }
}

/// What stands at a place; for a key, what its value is.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'t> {
    Nothing,
    Scalar(&'t str),
    List,
    Mapping,
}

impl<'t> Found<'t> {
    fn of(tree: &'t Spanned<Tree>) -> Found<'t> {
        match &tree.value {
            Tree::Nothing => Found::Nothing,
            Tree::Scalar(text) => Found::Scalar(text),
            Tree::List(_) => Found::List,
            Tree::Map(_) => Found::Mapping,
        }
    }
}

impl fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Found::Nothing => f.write_str("nothing"),
            Found::Scalar(text) => write!(f, "{text:?}"),
            Found::List => f.write_str("a list"),
            Found::Mapping => f.write_str("a mapping"),
        }
    }
}

/// Depth first. A value is found before what is in it, although a block collection starts where its first entry does.
fn search<'t>(tree: &'t Spanned<Tree>, place: Place, path: &mut Vec<Step>) -> Option<Found<'t>> {
    if Place::from(tree.referenced) == place {
        return Some(Found::of(tree));
    }
    match &tree.value {
        Tree::Nothing | Tree::Scalar(_) => None,
        Tree::List(items) => items.iter().enumerate().find_map(|(index, item)| {
            path.push(Step::Index(index));
            let found = search(item, place, path);
            if found.is_none() {
                path.pop();
            }
            found
        }),
        Tree::Map(entries) => entries.iter().find_map(|(key, value)| {
            path.push(Step::Key(key.value.clone().into()));
            let found = if Place::from(key.referenced) == place {
                Some(Found::of(value))
            } else {
                search(value, place, path)
            };
            if found.is_none() {
                path.pop();
            }
            found
        }),
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyShape;

        impl<'de> Visitor<'de> for AnyShape {
            type Value = Tree;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any YAML")
            }

            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Nothing)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
                Ok(Tree::Scalar(value.to_string()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
                Ok(Tree::Scalar(value.to_string()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
                Ok(Tree::Scalar(value.to_string()))
            }

            fn visit_i128<E>(self, value: i128) -> Result<Tree, E> {
                Ok(Tree::Scalar(value.to_string()))
            }

            fn visit_u128<E>(self, value: u128) -> Result<Tree, E> {
                Ok(Tree::Scalar(value.to_string()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
                Ok(Tree::Scalar(value.to_string()))
            }

            fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
                Ok(Tree::Scalar(value.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Tree::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
                let mut map = Vec::new();
                while let Some(entry) = entries.next_entry()? {
                    map.push(entry);
                }
                Ok(Tree::Map(map))
            }
        }

        deserializer.deserialize_any(AnyShape)
    }
}
