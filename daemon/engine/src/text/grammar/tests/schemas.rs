//! Schemas at the edges of what is enforced: what is accepted lets nothing through, and the rest is refused by name.

use super::*;

#[track_caller]
fn check(asked: Value, good: &[&str], bad: &[&str]) {
    let (setting, grammar) = (setting(), schema(asked));
    for text in good {
        assert!(setting.accepts(&grammar, text), "{text} fits");
    }
    for text in bad {
        assert!(!setting.accepts(&grammar, text), "{text} does not fit");
    }
}

#[test]
fn a_tagged_union_is_enforced_and_one_whose_members_overlap_is_refused() {
    let setting = setting();
    let union = |dog: Value| {
        json!({
            "oneOf": [{ "$ref": "#/$defs/Cat" }, { "$ref": "#/$defs/Dog" }],
            "discriminator": { "propertyName": "kind" },
            "$defs": {
                "Cat": {
                    "type": "object",
                    "properties": { "kind": { "const": "cat" }, "lives": { "type": "integer" } },
                    "required": ["kind", "lives"],
                },
                "Dog": dog,
            },
        })
    };
    let tagged = |kind: Value| json!({ "type": "object", "properties": { "kind": kind, "good": { "type": "boolean" } }, "required": ["kind", "good"] });
    let pets = schema(union(tagged(json!({ "enum": ["dog", "wolf"] }))));
    for good in [r#"{"kind":"cat","lives":9}"#, r#"{"kind":"wolf","good":true}"#] {
        assert!(setting.accepts(&pets, good), "{good}");
    }
    for bad in [r#"{"kind":"cat","good":true}"#, r#"{"kind":"cow","good":true}"#, "{}"] {
        assert!(!setting.accepts(&pets, bad), "{bad}");
    }
    // Closed, they would not overlap; but what fits the one might then fit the other with members that it does not list.
    for kind in [json!({ "enum": ["dog", "cat"] }), json!({ "type": "string" }), json!({})] {
        let message = setting.refused(strict(union(tagged(kind))));
        assert!(message.contains("oneOf"), "{message}");
    }
}

#[test]
fn a_name_cannot_be_written_otherwise_to_get_around_its_schema() {
    let listed = json!({
        "type": "object",
        "properties": { "a": { "type": "string" }, "no": false },
        "additionalProperties": { "type": "integer" },
    });
    check(listed, &[r#"{"a":"x","b":1}"#], &[r#"{"\u0061":1}"#, r#"{"n\u006f":1}"#, r#"{"a":1}"#]);
    let patterns = json!({ "type": "object", "patternProperties": { "^a": { "type": "string" } } });
    check(patterns, &[r#"{"a":"x"}"#, r#"{"b":1}"#], &[r#"{"\u0061":1}"#]);
    let free = json!({ "type": "object" });
    check(free, &[r#"{"a":"\u001b"}"#], &["[]"]);
}

#[test]
fn dates_times_and_hosts_are_those_that_there_are() {
    let text = |format: &str| json!({ "type": "string", "format": format });
    check(
        text("date"),
        &[r#""2024-02-29""#, r#""2000-02-29""#, r#""2023-12-31""#],
        &[r#""2023-02-29""#, r#""1900-02-29""#, r#""2024-04-31""#, r#""2024-1-01""#, r#""x2024-02-29""#],
    );
    check(text("time"), &[r#""23:59:59.5Z""#, r#""00:00:00+02:00""#], &[r#""22:59:60Z""#, r#""24:00:00Z""#]);
    check(text("date-time"), &[r#""2024-02-29T12:00:00Z""#], &[r#""2023-02-29T12:00:00Z""#, r#""2024-02-29""#]);
    let long = format!("\"{}\"", ["a"; 128].join("."));
    check(
        text("hostname"),
        &[r#""a.example""#, r#""a-b.c1""#, r#""x""#, r#""ab-c""#],
        &[r#""-a""#, r#""a-""#, r#""xn--x""#, r#""a..b""#, &long],
    );
    let both = json!({ "type": "string", "format": "date", "pattern": "^2024" });
    check(both, &[r#""2024-02-29""#], &[r#""2023-02-28""#, r#""2024-02-30""#]);
}

#[test]
fn whole_numbers_past_the_exact_ones_of_floating_point_are_not_rounded_outward() {
    let (limit, past) = (9_007_199_254_740_992_i64, 9_007_199_254_740_993_i64);
    check(json!({ "type": "integer", "minimum": past }), &["9007199254740994"], &["9007199254740992"]);
    check(json!({ "type": "integer", "maximum": i64::MAX }), &["1"], &["9223372036854775808"]);
    check(json!({ "const": limit }), &["9007199254740992"], &["9007199254740993"]);
    for asked in [json!({ "const": past }), json!({ "enum": ["a", [past]] })] {
        let message = setting().refused(strict(asked));
        assert!(message.contains("digits"), "{message}");
    }
}

#[test]
fn what_leads_elsewhere_or_counts_otherwise_is_refused_by_name_and_place() {
    let setting = setting();
    let base = json!({ "$id": "http://a", "$ref": "#/$defs/b", "$defs": { "b": { "type": "null" } } });
    for (name, inner) in [
        ("'other.json'", json!({ "$ref": "other.json" })),
        ("'#anchor'", json!({ "$ref": "#anchor" })),
        ("'$id'", base),
        ("'semver'", json!({ "type": ["string", "null"], "format": "semver" })),
        ("'minProperties'", json!({ "type": "object", "minProperties": 2 })),
    ] {
        let message = setting.refused(strict(json!({ "type": "object", "properties": { "x": inner } })));
        assert!(message.contains(name) && message.contains("at #/properties/x,"), "{message}");
    }
    // Formats of numbers are remarks; a whole schema may have a name of its own.
    let remarks = json!({
        "$id": "http://a",
        "type": "object",
        "properties": { "n": { "type": "integer", "format": "int32" }, "m": { "$ref": "#/$defs/m" } },
        "$defs": { "m": { "type": "object", "minProperties": 1 } },
    });
    setting.compile(&schema(remarks));
}

#[test]
fn references_with_escapes_lead_where_they_point() {
    let setting = setting();
    let schema = json!({
        "type": "object",
        "properties": { "a": { "$ref": "#/$defs/A~1B" }, "b": { "$ref": "#/$defs/A%3CB%3E" }, "c": { "$ref": "#/$defs/x~0y" } },
        "required": ["a", "b", "c"],
        "additionalProperties": false,
        "$defs": {
            "A/B": { "enum": ["one"] },
            "A<B>": { "type": "array", "items": { "$ref": "#/$defs/A%3CB%3E" }, "maxItems": 1 },
            "x~y": { "const": 3 },
        },
    });
    for strict in [true, false] {
        let grammar = Grammar::Shape(Shape::Json { schema: schema.clone(), strict });
        assert!(setting.accepts(&grammar, r#"{"a": "one", "b": [[]], "c": 3}"#), "{strict}");
        assert!(!setting.accepts(&grammar, r#"{"a": "two", "b": [[]], "c": 3}"#), "{strict}");
        assert!(!setting.accepts(&grammar, r#"{"a": "one", "b": [1], "c": 3}"#), "{strict}");
    }
}

#[test]
fn a_lenient_schema_loses_what_it_refers_to_elsewhere_and_patterns_that_look_around() {
    let setting = setting();
    for lost in [
        json!({ "$ref": "#here" }),
        json!({ "$ref": "http://example.com/schema" }),
        json!({ "$ref": "#/$defs/missing" }),
        json!({ "type": "string", "pattern": "^(?!b).*$" }),
        json!({ "type": "string", "pattern": "^(a)\\1$" }),
        json!({ "type": "object", "patternProperties": { "^(?=a)": { "type": "null" } } }),
    ] {
        let schema =
            json!({ "type": "object", "properties": { "n": { "const": 1 }, "x": lost }, "required": ["n", "x"] });
        let grammar = Grammar::Shape(Shape::Json { schema: schema.clone(), strict: false });
        let value = if lost["type"] == "object" { "{\"b\": 1}" } else { "\"b\"" };
        assert!(setting.accepts(&grammar, &format!("{{\"n\": 1, \"x\": {value}}}")), "{lost}");
        assert!(!setting.accepts(&grammar, &format!("{{\"n\": 2, \"x\": {value}}}")), "{lost}");
        let refused = setting.refused(strict(schema));
        assert!(!refused.is_empty(), "{lost}");
    }
    let kept = json!({ "type": "string", "pattern": "^\\\\\\(?=$" });
    setting.compile(&schema(kept));
}
