//! Configuration as JSON the way Go's `encoding/json` reads it, because configurations are written for plugins that do:
//! names of keys match in any case, `null` is the same as absent, the last of several equal keys counts.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// A field of the wrong shape. The message names the field and the value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct FieldError {
    /// The path of the field, such as `ipam.ranges[0][1].subnet`.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

/// Parses JSON and folds the names of all keys to lower case.
///
/// # Errors
///
/// When it is not JSON.
pub fn parse(text: &[u8]) -> Result<Value, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = Folded.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Go folds by Unicode's simple rules, under which two non-ASCII letters equal ASCII ones.
fn fold(key: &str) -> String {
    key.chars().flat_map(char::to_lowercase).map(|c| if c == 'ſ' { 's' } else { c }).collect()
}

struct Folded;

impl<'de> DeserializeSeed<'de> for Folded {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Folded {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = seq.next_element_seed(Folded)? {
            list.push(value);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(Folded)?;
            // `null` for a list is how Go writes an empty one, and for attachments that is not the same as none given.
            if !value.is_null() || key.starts_with("cni.dev/") {
                map.insert(fold(&key), value);
            }
        }
        Ok(map.into())
    }
}

/// An object of a parsed configuration, with its place for messages. Keys are asked for as they are documented
/// (`isGateway`) and found in any case.
#[derive(Clone, Debug)]
pub struct Object<'a> {
    map: &'a Map<String, Value>,
    path: String,
}

impl<'a> Object<'a> {
    /// The outermost object.
    ///
    /// # Errors
    ///
    /// When the value is something else.
    pub fn root(value: &'a Value) -> Result<Object<'a>, FieldError> {
        Object::new(value, String::new())
    }

    fn new(value: &'a Value, path: String) -> Result<Object<'a>, FieldError> {
        match value {
            Value::Object(map) => Ok(Object { map, path }),
            other => Err(wrong(path, other, "an object")),
        }
    }

    /// The path of a field for messages.
    pub fn field(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// A value as it is.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(&fold(key))
    }

    fn typed<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, FieldError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| wrong(self.field(key), value, expected))
    }

    /// A boolean; false when absent.
    pub fn bool(&self, key: &str) -> Result<bool, FieldError> {
        Ok(self.typed(key, "true or false", Value::as_bool)?.unwrap_or(false))
    }

    /// A whole number that fits the type.
    pub fn number<T: TryFrom<i64>>(&self, key: &str) -> Result<Option<T>, FieldError> {
        self.typed(key, "a whole number in range", |value| T::try_from(value.as_i64()?).ok())
    }

    /// A string.
    pub fn string(&self, key: &str) -> Result<Option<String>, FieldError> {
        self.typed(key, "a string", |value| value.as_str().map(str::to_owned))
    }

    /// A list of strings; empty when absent.
    pub fn strings(&self, key: &str) -> Result<Vec<String>, FieldError> {
        let read = |value: &Value| {
            value.as_array()?.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
        };
        Ok(self.typed(key, "a list of strings", read)?.unwrap_or_default())
    }

    /// A string that is something more; an empty one counts as absent.
    pub fn parsed<T: FromStr>(&self, key: &str) -> Result<Option<T>, FieldError>
    where
        T::Err: fmt::Display,
    {
        let Some(text) = self.string(key)?.filter(|text| !text.is_empty()) else { return Ok(None) };
        let problem = |error: T::Err| FieldError { field: self.field(key), problem: error.to_string() };
        text.parse().map(Some).map_err(problem)
    }

    /// The same, and absent is an error.
    pub fn required<T: FromStr>(&self, key: &str) -> Result<T, FieldError>
    where
        T::Err: fmt::Display,
    {
        let missing = || FieldError { field: self.field(key), problem: "missing".to_owned() };
        self.parsed(key)?.ok_or_else(missing)
    }

    /// An IP address; an IPv4 one that is written as IPv6 (`::ffff:10.0.0.1`) is IPv4.
    pub fn ip(&self, key: &str) -> Result<Option<IpAddr>, FieldError> {
        let Some(text) = self.string(key)?.filter(|text| !text.is_empty()) else { return Ok(None) };
        let problem = format!("{text:?} is not an IP address, such as 10.1.2.3 or fd00::1");
        let address = text.parse::<IpAddr>().map_err(|_| FieldError { field: self.field(key), problem })?;
        Ok(Some(address.to_canonical()))
    }

    /// An object inside.
    pub fn object(&self, key: &str) -> Result<Option<Object<'a>>, FieldError> {
        self.get(key).map(|value| Object::new(value, self.field(key))).transpose()
    }

    /// A list of objects; empty when absent. Entries that are `null` are left out.
    pub fn objects(&self, key: &str) -> Result<Vec<Object<'a>>, FieldError> {
        self.get(key).map_or_else(|| Ok(Vec::new()), |value| list(value, &self.field(key)))
    }

    /// A list of lists of objects; empty when absent.
    pub fn object_lists(&self, key: &str) -> Result<Vec<Vec<Object<'a>>>, FieldError> {
        let field = self.field(key);
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        let outer = value.as_array().ok_or_else(|| wrong(field.clone(), value, "a list"))?;
        outer.iter().enumerate().map(|(index, inner)| list(inner, &format!("{field}[{index}]"))).collect()
    }
}

fn list<'a>(value: &'a Value, field: &str) -> Result<Vec<Object<'a>>, FieldError> {
    let items = value.as_array().ok_or_else(|| wrong(field.to_owned(), value, "a list"))?;
    let present = items.iter().enumerate().filter(|(_, item)| !item.is_null());
    present.map(|(index, item)| Object::new(item, format!("{field}[{index}]"))).collect()
}

fn wrong(field: String, value: &Value, expected: &str) -> FieldError {
    let field = if field.is_empty() { "configuration".to_owned() } else { field };
    FieldError { field, problem: format!("{value} is not {expected}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_match_in_any_case_and_the_last_counts() {
        let value =
            parse(br#"{"IsGateway": true, "MTU": 1, "mtu": 2, "Runtimeconfig": {"MAC": "x"}, "n": null}"#);
        let value = value.unwrap();
        let root = Object::root(&value).unwrap();
        assert!(root.bool("isGateway").unwrap());
        assert_eq!(root.number::<u32>("mtu").unwrap(), Some(2));
        let runtime = root.object("runtimeConfig").unwrap().unwrap();
        assert_eq!(runtime.string("mac").unwrap().as_deref(), Some("x"));
        assert_eq!(root.string("n").unwrap(), None, "null is absent");
        assert_eq!(fold("ipMaſq\u{212a}"), "ipmasqk");
    }

    #[test]
    fn wrong_shapes_are_named_with_their_place() {
        let value = parse(br#"{"a": {"b": [[{"c": 5}]]}, "m": "x", "big": 5000000000}"#).unwrap();
        let root = Object::root(&value).unwrap();
        let lists = root.object("a").unwrap().unwrap().object_lists("b").unwrap();
        assert_eq!(lists[0][0].string("c").unwrap_err().to_string(), "a.b[0][0].c: 5 is not a string");
        assert_eq!(root.bool("m").unwrap_err().to_string(), "m: \"x\" is not true or false");
        assert!(root.number::<u32>("big").is_err());
        assert!(parse(b"{} x").is_err() && parse(b"{").is_err());
        assert!(Object::root(&Value::Null).is_err());
    }
}
