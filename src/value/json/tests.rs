//! Json as PostgreSQL writes it.

use super::*;

fn jsonb(text: &str) -> String {
    Json::parse(text).unwrap().normalized().to_string()
}

#[test]
fn a_jsonb_is_written_as_postgres_prints_it() {
    for (text, wanted) in [
        (
            r#"{"bb":1,"a":[1,2.50,{"x":null}],"a ":true}"#,
            r#"{"a": [1, 2.50, {"x": null}], "a ": true, "bb": 1}"#,
        ),
        (r#"{"a":1,"a":2}"#, r#"{"a": 2}"#),
        (" [ ] ", "[]"),
        ("{}", "{}"),
        (r#""a\u00e4\ud83d\ude00\n\"""#, "\"aä😀\\n\\\"\""),
        ("1e3", "1000"),
        ("-1.5E-3", "-0.0015"),
        ("12.34e1", "123.4"),
        ("-0", "0"),
    ] {
        assert_eq!(jsonb(text), wanted, "{text}");
    }
}

#[test]
fn what_is_no_json_is_refused() {
    for text in
        ["", "{", "[1,]", "{\"a\" 1}", "01", "1.", "tru", "'a'", "\"a", "\"\\x\"", "[1 2]", "{,}", "nullx"]
    {
        assert!(Json::parse(text).is_err(), "{text}");
    }
    let deep = "[".repeat(10_000);
    assert_eq!(Json::parse(&deep).unwrap_err().sqlstate(), "54000");
    assert_eq!(items(&deep).unwrap_err().sqlstate(), "54000");
}

#[test]
fn parts_are_found_without_reading_the_rest_anew() {
    let text = r#"{"a": {"b": [1, "x\"]", null]}, "c": "d"}"#;
    let a = member(text, "a").unwrap().unwrap();
    assert_eq!(a, r#"{"b": [1, "x\"]", null]}"#);
    let b = member(a, "b").unwrap().unwrap();
    assert_eq!(items(b).unwrap().unwrap(), ["1", r#""x\"]""#, "null"]);
    assert_eq!(unquoted(items(b).unwrap().unwrap()[1]).unwrap().as_deref(), Some("x\"]"));
    assert_eq!(unquoted("null").unwrap(), None);
    assert_eq!(member(text, "none").unwrap(), None);
    assert_eq!(member("[1]", "a").unwrap(), None);
}

#[test]
fn containment_is_that_of_postgres() {
    let contains = |a: &str, b: &str| {
        let value = |text: &str| Json::parse(text).unwrap().normalized();
        value(a).contains(&value(b))
    };
    assert!(contains(r#"{"a": 1, "b": [1, 2, {"c": 3}]}"#, r#"{"b": [{"c": 3}, 1]}"#));
    assert!(contains("[1, 2, 3]", "[3, 1, 1]"));
    assert!(contains(r#"["foo", "bar"]"#, r#""bar""#));
    assert!(!contains(r#""bar""#, r#"["bar"]"#));
    assert!(!contains(r#"[1, [1, 3]]"#, "[3]"));
}
