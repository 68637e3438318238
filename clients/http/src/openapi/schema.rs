//! How the types that read a request become the schema of its body.
//!
//! A body is read in parts, each by a type of its own, and only members that are known by name are accepted; so the
//! schema has exactly those members, and no others are allowed.

use utoipa::ToSchema;
use utoipa::openapi::schema::{AdditionalProperties, Object, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};

/// What one type reads of a body.
pub struct Part {
    object: Object,
    schemas: Vec<(String, RefOr<Schema>)>,
}

/// Returns what `T` reads of a body.
pub fn part<T: ToSchema>() -> Part {
    let mut schemas = Vec::new();
    T::schemas(&mut schemas);
    let object = match T::schema() {
        RefOr::T(Schema::Object(object)) => object,
        _ => Object::new(),
    };
    Part { object, schemas }
}

/// Joins the parts of a body whose members are `known`; types that the parts refer to are added to `schemas`.
pub fn join(known: &[&[&str]], parts: Vec<Part>, schemas: &mut Vec<(String, RefOr<Schema>)>) -> Object {
    let mut joined = Object::builder().schema_type(SchemaType::Type(Type::Object)).build();
    let accepted = |name: &str| known.iter().any(|names| names.contains(&name));
    // What one part can do without is not required: another member may stand in its place.
    let spared = |name: &str| {
        parts.iter().any(|Part { object, .. }| {
            object.properties.contains_key(name) && !object.required.iter().any(|required| required == name)
        })
    };
    for Part { object, schemas: used } in &parts {
        schemas.extend(used.iter().cloned());
        joined.properties.extend(object.properties.clone());
        for name in object.required.iter().filter(|name| accepted(name) && !spared(name)) {
            if !joined.required.contains(name) {
                joined.required.push(name.clone());
            }
        }
    }
    joined.properties.retain(|name, _| accepted(name));
    for name in known.iter().copied().flatten() {
        // A label, which nothing reads, or a second name for another member.
        joined
            .properties
            .entry((*name).to_owned())
            .or_insert_with(|| Schema::Object(Object::builder().schema_type(SchemaType::AnyValue).build()).into());
    }
    joined.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
    joined
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(ToSchema)]
    #[expect(dead_code, reason = "only its schema is looked at")]
    struct First {
        model: String,
        n: Option<u8>,
        secret: u8,
    }

    #[derive(ToSchema)]
    #[expect(dead_code, reason = "only its schema is looked at")]
    struct Second {
        model: String,
        stop: Vec<String>,
        n: u8,
    }

    #[test]
    fn a_body_has_the_members_that_are_known_and_no_others() {
        let object = join(&[&["model", "n"], &["stop", "user"]], vec![part::<First>(), part::<Second>()], &mut vec![]);
        let shown = serde_json::to_value(&object).unwrap();
        let members: Vec<_> = shown["properties"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(members, ["model", "n", "stop", "user"]);
        assert_eq!(shown["required"], json!(["model", "stop"]));
        assert_eq!((&shown["additionalProperties"], &shown["properties"]["user"]), (&json!(false), &json!({})));
    }
}
