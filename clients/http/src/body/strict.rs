//! JSON values as serde reads them, but for two liberties it takes: a struct is an object here, never an array of its members in
//! their order, and an object has no members but those that its struct names. Serde offers the first to every struct and drops
//! what it does not know; no client means either. A whole number may be written as 4.0, as JSON Schema has it. Used by `body`
//! wherever a struct is read.
//!
//! What serde buffers first, as it does under `untagged`, escapes this; such types take maps and read those through here. A
//! member that is null counts as absent.

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Deserializer, Error as _, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Error, Value};

/// How an error begins that says which member is not known.
const UNKNOWN: &str = "no member here is called ";

/// Returns the member that an error says is not known.
pub fn unknown(message: &str) -> Option<&str> {
    message.strip_prefix(UNKNOWN)
}

/// A value whose objects are objects, all of whose members somebody reads.
#[derive(Clone, Copy)]
pub struct Strict<'a>(pub &'a Value);

/// Reads `value` strictly.
pub fn read<T: DeserializeOwned>(value: &Value) -> Result<T, Error> {
    T::deserialize(Strict(value))
}

/// Reads whole numbers, which JSON may write with a fraction of nothing.
macro_rules! whole {
    ($($name:ident)*) => {
        $(fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.0.as_f64().filter(|number| self.0.is_f64() && number.fract() == 0.0 && number.abs() <= EXACT) {
                Some(number) => visitor.visit_i64(number as i64),
                None => self.deserialize_any(visitor),
            }
        })*
    };
}

/// Up to this, every whole number has a float of its own.
const EXACT: f64 = 9_007_199_254_740_992.0;

impl<'de> Deserializer<'de> for Strict<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(items) => {
                let mut items = SeqDeserializer::new(items.iter().map(Self));
                let read = visitor.visit_seq(&mut items)?;
                items.end().map(|()| read)
            }
            Value::Object(members) => {
                let mut members =
                    MapDeserializer::new(members.iter().map(|(name, value)| (name.as_str(), Self(value))));
                let read = visitor.visit_map(&mut members)?;
                members.end().map(|()| read)
            }
            plain => plain.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(_) => Err(Error::invalid_type(Unexpected::Seq, &"an object")),
            Value::Object(members) => {
                let known = |name: &String| names.contains(&name.as_str());
                if let Some((name, _)) = members.iter().find(|(name, value)| !value.is_null() && !known(name)) {
                    return Err(Error::custom(format!("{UNKNOWN}{name}")));
                }
                let members = members.iter().filter(|(name, _)| known(name));
                visitor.visit_map(MapDeserializer::new(members.map(|(name, value)| (name.as_str(), Self(value)))))
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    whole! { deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 }

    forward_to_deserialize_any! {
        bool i128 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map identifier
        ignored_any
    }
}

impl<'de> IntoDeserializer<'de, Error> for Strict<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// An object whose members several structs read, each those that it names.
#[derive(Clone, Copy)]
pub struct InParts<'a>(pub &'a Value);

impl<'de> Deserializer<'de> for InParts<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        Strict(self.0).deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Inner {
        a: u8,
        b: Option<String>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Word {
        Yes,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Outer {
        one: Option<Inner>,
        many: Vec<Inner>,
        by_name: BTreeMap<String, f32>,
        word: Word,
        whatever: Value,
    }

    fn outer() -> Value {
        let whatever = json!([{"x": [1, -2, 0.5, null, true]}, "é"]);
        json!({"one": {"a": 1, "b": "x"}, "many": [{"a": 2}], "by_name": {"7": -1}, "word": "yes", "whatever": whatever})
    }

    #[test]
    fn what_is_written_as_meant_is_read_as_serde_reads_it() {
        assert_eq!(read::<Outer>(&outer()).unwrap(), serde_json::from_value(outer()).unwrap());
    }

    #[test]
    fn a_struct_is_no_array_however_deep() {
        for (at, array) in [("/one", json!([1, "x"])), ("/many/0", json!([2, null])), ("", json!([]))] {
            let mut value = outer();
            *value.pointer_mut(at).unwrap() = array;
            let refused = read::<Outer>(&value).unwrap_err().to_string();
            assert_eq!(refused, "invalid type: sequence, expected an object", "{at}");
        }
    }

    #[test]
    fn a_member_that_nobody_names_is_refused_however_deep_unless_it_is_null() {
        for at in ["/one", "/many/0", ""] {
            let mut value = outer();
            value.pointer_mut(at).unwrap()["colour"] = Value::Null;
            assert_eq!(read::<Outer>(&value).unwrap(), serde_json::from_value(outer()).unwrap(), "{at}");
            value.pointer_mut(at).unwrap()["colour"] = json!("red");
            assert_eq!(unknown(&read::<Outer>(&value).unwrap_err().to_string()), Some("colour"), "{at}");
        }
        assert_eq!(unknown("missing field `colour`"), None);
    }

    #[test]
    fn a_whole_number_may_be_written_with_a_fraction_of_nothing() {
        let mut value = outer();
        value["one"]["a"] = json!(1.0);
        assert_eq!(read::<Outer>(&value).unwrap(), serde_json::from_value(outer()).unwrap());
        for wrong in [json!(1.5), json!(256.0), json!(-1.0), json!(1e300)] {
            value["one"]["a"] = wrong.clone();
            assert!(read::<Outer>(&value).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_object_read_in_parts_is_strict_below() {
        let in_parts = |value: &Value| Outer::deserialize(InParts(value));
        let mut value = outer();
        value["colour"] = json!("red");
        assert_eq!(in_parts(&value).unwrap(), serde_json::from_value(outer()).unwrap());
        value["one"]["colour"] = json!("red");
        assert_eq!(unknown(&in_parts(&value).unwrap_err().to_string()), Some("colour"));
    }

    #[test]
    fn other_wrong_types_are_told_as_serde_tells_them() {
        for (at, wrong) in
            [("/one/a", json!(256)), ("/many", json!({})), ("/word", json!("no")), ("/by_name", json!([]))]
        {
            let mut value = outer();
            *value.pointer_mut(at).unwrap() = wrong;
            let theirs = serde_json::from_value::<Outer>(value.clone()).unwrap_err().to_string();
            assert_eq!(read::<Outer>(&value).unwrap_err().to_string(), theirs, "{at}");
        }
    }
}
