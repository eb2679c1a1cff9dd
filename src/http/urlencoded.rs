//! `application/x-www-form-urlencoded` (WHATWG URL §5), the format of queries and of forms without files.
//!
//! The errors of serde_html_form do not say which value they are about. The crate that adds this to any
//! deserializer, serde_path_to_error, wraps the values as well; the names of one level need less.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use percent_encoding::percent_decode;
use serde::de::value::Error;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde::forward_to_deserialize_any;

/// The reason why text is not of the expected form.
pub(super) struct UrlencodedError {
    /// The name whose value has the error, if it is one of a value.
    pub(super) name: Option<String>,
    pub(super) error: Error,
}

/// Returns the text as a value whose fields are the names in it.
pub(super) fn from_bytes<T: DeserializeOwned>(text: &[u8]) -> Result<T, UrlencodedError> {
    let failed = Cell::new(None);
    let deserializer = NamingDeserializer {
        inner: serde_html_form::Deserializer::from_bytes(text),
        failed: &failed,
    };
    T::deserialize(deserializer).map_err(|error| UrlencodedError {
        name: failed.get().and_then(|index| distinct_name(text, index)),
        error,
    })
}

/// Returns the names and values, decoded: `+` is a space, and bytes that are not UTF-8 become U+FFFD.
pub(super) fn pairs(text: &[u8]) -> impl Iterator<Item = (String, String)> {
    let pairs = text.split(|byte| *byte == b'&');
    let pairs = pairs.filter(|pair| !pair.is_empty());
    pairs.map(|pair| {
        let equals = memchr::memchr(b'=', pair).unwrap_or(pair.len());
        let (name, value) = pair.split_at(equals);
        (decode(name), decode(value.get(1..).unwrap_or_default()))
    })
}

fn decode(text: &[u8]) -> String {
    let spaced: Cow<'_, [u8]> = if text.contains(&b'+') {
        let space = |byte: &u8| if *byte == b'+' { b' ' } else { *byte };
        text.iter().map(space).collect()
    } else {
        text.into()
    };
    percent_decode(&spaced).decode_utf8_lossy().into_owned()
}

/// Returns the name with this index in the order of first occurrence, which is that of the deserializer.
fn distinct_name(text: &[u8], index: usize) -> Option<String> {
    let mut seen = HashSet::new();
    let names = pairs(text).map(|(name, _)| name);
    let mut distinct = names.filter(|name| seen.insert(name.clone()));
    distinct.nth(index)
}

/// Deserializes as `inner` does, and stores the index of the name whose value has an error.
struct NamingDeserializer<'c, D> {
    inner: D,
    failed: &'c Cell<Option<usize>>,
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for NamingDeserializer<'_, D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let failed = self.failed;
        self.inner
            .deserialize_map(NamingVisitor { visitor, failed })
    }

    /// A sequence of pairs.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_seq(visitor)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        visitor.visit_newtype_struct(self)
    }

    // As serde_html_form.
    forward_to_deserialize_any! {
        bool u8 u16 u32 u64 i8 i16 i32 i64 f32 f64 char str string option bytes byte_buf unit_struct
        tuple_struct struct identifier tuple enum ignored_any map
    }
}

struct NamingVisitor<'c, V> {
    visitor: V,
    failed: &'c Cell<Option<usize>>,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for NamingVisitor<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_map(NamingMap {
            map,
            read: 0,
            failed: self.failed,
        })
    }
}

struct NamingMap<'c, A> {
    map: A,
    /// The number of values that were read.
    read: usize,
    failed: &'c Cell<Option<usize>>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for NamingMap<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        self.map.next_key_seed(seed)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        let value = self.map.next_value_seed(seed);
        if value.is_err() {
            self.failed.set(Some(self.read));
        }
        self.read += 1;
        value
    }

    fn size_hint(&self) -> Option<usize> {
        self.map.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Both decoders must agree: the names of errors come from the one and the values from the other.
        #[test]
        fn pairs_are_those_of_the_deserializer(
            text in prop::collection::vec(prop::sample::select(&b"ab=&+%4\xff\xc3\xb1"[..]), 0..40),
        ) {
            let expected: Vec<(String, String)> =
                serde_html_form::from_bytes(&text).expect("pairs");
            prop_assert_eq!(pairs(&text).collect::<Vec<_>>(), expected);
        }
    }
}
