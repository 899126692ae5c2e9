//! The JSON schema that editors complete keys by. It is made of the tables of docs/configuration.md, and every range in it is tried on
//! the program: what they say is what the program does.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::super::raw::{EXPECT, Nested, POOL, ROUTE, TABLES, TOP, TableKeys};
use super::Config;
use super::readme::{Row, heading, rows};
use super::{accepted, golden, readme, shipped};

/// A week, and the least that is an interval.
const SECONDS: (f64, f64) = (0.001, 604_800.0);

fn schema() -> Value {
    let mut schema = table(&TOP);
    let more = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Configuration of reverse-proxy",
    });
    object(&mut schema).extend(more.as_object().unwrap().clone());
    schema
}

fn object(schema: &mut Value) -> &mut Map<String, Value> {
    schema.as_object_mut().unwrap()
}

fn table(keys: &TableKeys) -> Value {
    let rows = rows(&heading(keys));
    let properties: Map<String, Value> =
        rows.iter().map(|row| (row.key.to_owned(), property(keys, row))).collect();
    let required: Vec<&str> =
        rows.iter().filter(|row| row.default == "required").map(|row| row.key).collect();
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn property(keys: &TableKeys, row: &Row) -> Value {
    let nested = keys.tables.iter().find(|(name, _)| *name == row.key).map(|(_, nested)| nested);
    let mut schema = match (nested, row.key) {
        (Some(Nested::One(keys)), _) => table(keys),
        (Some(Nested::Many(keys)), _) => json!({ "type": "array", "minItems": 1, "items": table(keys) }),
        (Some(Nested::Among(keys)), _) => {
            json!({ "type": "array", "minItems": 1, "items": { "anyOf": [{ "type": "string" }, table(keys)] } })
        }
        (Some(Nested::Perhaps(keys)), _) => {
            let one = json!([{ "type": "string" }, table(keys)]);
            json!({
                "anyOf": [
                    { "type": "string" },
                    table(keys),
                    { "type": "array", "minItems": 1, "items": { "anyOf": one } },
                ],
            })
        }
        (Some(Nested::Switch(keys)), _) => json!({ "anyOf": [{ "type": "boolean" }, table(keys)] }),
        (None, "engine" | "balancing_algorithm" | "format" | "min_version" | "client_auth" | "per") => {
            json!({ "enum": words(keys, row.key) })
        }
        (None, "status") if keys.name == "redirect" => json!({ "enum": [301, 302, 303, 307, 308] }),
        (None, "backends") => {
            let share = json!({ "type": "integer", "minimum": 0, "maximum": 1000 });
            let shares = json!({
                "type": "object",
                "properties": {},
                "required": [],
                "additionalProperties": share,
            });
            json!({ "anyOf": [{ "type": "string" }, shares] })
        }
        (None, "hash_on") => json!({ "type": "string", "pattern": "^(client_address|header:.+|cookie:.+)$" }),
        (None, _) => simple(row),
    };
    object(&mut schema).insert("description".to_owned(), Value::from(plain(row.meaning)));
    if let Some(default) = default(row) {
        object(&mut schema).insert("default".to_owned(), default);
    }
    schema
}

/// By the words in the column "Unit".
fn simple(row: &Row) -> Value {
    if matches!(row.default, "`true`" | "`false`") {
        return json!({ "type": "boolean" });
    }
    match row.unit {
        "octal" => return json!({ "type": "string", "pattern": "^0?[0-7]{3}$" }),
        "path" => return json!({ "type": "string", "pattern": "^/" }),
        "networks" | "names" => return json!({ "type": "array", "items": { "type": "string" } }),
        "statuses" => {
            let one =
                json!([{ "type": "integer", "minimum": 400, "maximum": 599 }, { "enum": ["4xx", "5xx"] }]);
            return json!({ "type": "array", "minItems": 1, "items": { "anyOf": one } });
        }
        "fields or presence" => {
            return json!({
                "type": "object",
                "properties": {},
                "required": [],
                "additionalProperties": { "anyOf": [{ "type": "string" }, { "type": "boolean" }] },
            });
        }
        "fields" | "pages" => {
            let mut schema = json!({
                "type": "object",
                "properties": {},
                "required": [],
                "additionalProperties": { "type": "string" },
            });
            if row.unit == "pages" {
                let names = json!({ "pattern": "^[45]([0-9][0-9]|xx)$" });
                object(&mut schema).insert("propertyNames".to_owned(), names);
            }
            return schema;
        }
        "seconds" => return json!({ "type": "number", "minimum": SECONDS.0, "maximum": SECONDS.1 }),
        "seconds, from 0" => return json!({ "type": "number", "minimum": 0, "maximum": SECONDS.1 }),
        "address" | "file" | "directory" | "name" | "URL" | "" => return json!({ "type": "string" }),
        _ => {}
    }
    let range = row.unit.rsplit(", ").next().unwrap();
    if let Some(least) = range.strip_prefix("from ") {
        return json!({ "type": "integer", "minimum": number(least) });
    }
    let (least, most) =
        range.split_once(" to ").unwrap_or_else(|| panic!("{}: unit {:?}", row.key, row.unit));
    json!({ "type": "integer", "minimum": number(least), "maximum": number(most) })
}

/// The words a key may have, from the message about one that it may not.
fn words(keys: &TableKeys, key: &str) -> Vec<String> {
    let errors = Config::parse(&file_with(keys, key, "\"colour\""), "f.toml").expect_err(key).to_string();
    let (_, words) = errors.split_once("expected ").expect("what is allowed");
    words.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

fn number(text: &str) -> i64 {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is no number"))
}

/// What is in code and in nothing else; other defaults depend on something.
fn default(row: &Row) -> Option<Value> {
    let text = row.default.strip_prefix('`')?.strip_suffix('`')?;
    let parsed: toml::Table = toml::from_str(&format!("it = {text}")).ok()?;
    serde_json::to_value(&parsed["it"]).ok()
}

/// Without the addresses of links, and without code marks.
fn plain(markdown: &str) -> String {
    let mut text = String::new();
    let mut rest = markdown;
    while let Some((before, link)) = rest.split_once('[') {
        text.push_str(before);
        match link.split_once("](") {
            Some((words, after)) if words.chars().all(char::is_alphabetic) => {
                text.push_str(words);
                rest = after.split_once(')').map_or("", |(_, after)| after);
            }
            _ => {
                text.push('[');
                rest = link;
            }
        }
    }
    text.push_str(rest);
    text.replace('`', "")
}

#[test]
fn the_schema_is_up_to_date() {
    let mut text = serde_json::to_string_pretty(&schema()).unwrap();
    text.push('\n');
    golden::check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("reverse-proxy.schema.json"), &text);
}

/// Why `value` is not what `schema` says, as far as the words go that are used above.
fn problem(schema: &Value, value: &Value) -> Option<String> {
    if let Some(choices) = schema.get("anyOf") {
        let fits = choices.as_array().unwrap().iter().any(|choice| problem(choice, value).is_none());
        return (!fits).then(|| format!("{value} is none of the choices"));
    }
    if let Some(words) = schema.get("enum") {
        return (!words.as_array().unwrap().contains(value)).then(|| format!("{value} is none of the words"));
    }
    match schema["type"].as_str().unwrap() {
        "string" => (!value.is_string()).then(|| format!("{value} is no string")),
        "boolean" => (!value.is_boolean()).then(|| format!("{value} is neither true nor false")),
        kind @ ("integer" | "number") => {
            let within = |key: &str, fits: fn(f64, f64) -> bool| {
                schema.get(key).is_none_or(|bound| fits(value.as_f64().unwrap(), bound.as_f64().unwrap()))
            };
            let right_kind = if kind == "integer" { value.is_i64() } else { value.is_number() };
            (!right_kind
                || !within("minimum", |is, least| is >= least)
                || !within("maximum", |is, most| is <= most))
            .then(|| format!("{value} is out of range"))
        }
        "array" => {
            let items = value.as_array()?;
            let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0);
            if (items.len() as u64) < least {
                return Some("an empty list".to_owned());
            }
            items.iter().find_map(|item| problem(&schema["items"], item))
        }
        _ => {
            let Some(object) = value.as_object() else { return Some(format!("{value} is no table")) };
            let missing = schema["required"].as_array().unwrap().iter();
            let missing = missing.filter_map(Value::as_str).find(|key| !object.contains_key(*key));
            if let Some(key) = missing {
                return Some(format!("{key} is missing"));
            }
            object.iter().find_map(|(key, value)| match schema["properties"].get(key) {
                Some(schema) => problem(schema, value).map(|problem| format!("{key}: {problem}")),
                None if schema["additionalProperties"].is_object() => {
                    problem(&schema["additionalProperties"], value)
                }
                None => Some(format!("{key}: no such key")),
            })
        }
    }
}

fn problem_of(text: &str) -> Option<String> {
    let file: toml::Table = toml::from_str(text).unwrap();
    problem(&schema(), &serde_json::to_value(file).unwrap())
}

#[test]
fn what_is_valid_fits_the_schema() {
    for text in [shipped::TEXT, &shipped::uncommented(|_| true), readme::example()] {
        assert_eq!(problem_of(text), None, "{text}");
    }
    assert_eq!(
        problem_of("listen_addr = []\nroutes = []"),
        Some("listen_addr: [] is none of the choices".into())
    );
    assert_eq!(problem_of("colour = 1\nlisten_addr = \"a\""), Some("routes is missing".into()));
    let broken = shipped::TEXT.replacen("\npath = ", "\npaths = ", 1);
    assert!(problem_of(&broken).is_some());
}

/// The file in which `key`, of a table, has this value, and all that is required is there.
fn file_with(keys: &TableKeys, key: &str, value: &str) -> String {
    let line = format!("{key} = {value}");
    let top = if keys.name == TOP.name { line.as_str() } else { "" };
    let inside = match keys.name {
        _ if keys.name == TOP.name => String::new(),
        name if name == EXPECT.name => {
            return format!(
                "listen_addr = \"127.0.0.1:0\"\n[[routes]]\nprefix = \"/\"\nbackend_addrs = [\"a:1\"]\n{name}\n\
                 request = \"GET http://h/\"\n{line}\n"
            );
        }
        name if name == POOL.name => {
            return format!(
                "listen_addr = \"127.0.0.1:0\"\n{name}\nname = \"app\"\naddrs = [\"a:1\"]\n{line}\n\
                 [[routes]]\nprefix = \"/\"\nbackends = \"app\"\n"
            );
        }
        name if name.starts_with('[') && name != ROUTE.name => {
            return format!(
                "listen_addr = \"127.0.0.1:0\"\n{name}\n{line}\n[[routes]]\nprefix = \"/\"\nbackend_addrs = [\"a:1\"]\n"
            );
        }
        name if name == ROUTE.name => line.clone(),
        "an entry of listen_addr" => {
            return format!(
                "listen_addr = {{ addr = \"127.0.0.1:0\", {line} }}\n[[routes]]\nprefix = \"/\"\nbackend_addrs = [\"a:1\"]\n"
            );
        }
        "an entry of backend_addrs" => {
            return format!(
                "listen_addr = \"127.0.0.1:0\"\n[[routes]]\nprefix = \"/\"\nbackend_addrs = [{{ addr = \"a:1\", {line} }}]\n"
            );
        }
        name => {
            let required =
                rows(&heading(keys)).into_iter().filter(|row| row.default == "required" && row.key != key);
            let required = required.map(|row| match row.unit {
                "path" => format!("{} = \"/\", ", row.key),
                "seconds" => format!("{} = 1, ", row.key),
                unit if unit.contains("requests") => format!("{} = 1, ", row.key),
                "address" => format!("{} = \"a:1\", ", row.key),
                "URL" => format!("{} = \"/x\", ", row.key),
                _ => format!("{} = \"name\", ", row.key),
            });
            format!("{name} = {{ {}{line} }}", required.collect::<String>())
        }
    };
    // A route that answers itself has none.
    let backends = if matches!(keys.name, "redirect" | "respond") { "" } else { "backend_addrs = [\"a:1\"]" };
    format!("listen_addr = \"127.0.0.1:0\"\n{top}\n[[routes]]\nprefix = \"/\"\n{backends}\n{inside}\n")
}

#[test]
fn ranges_are_those_of_the_program() {
    let mut tried = 0;
    for keys in TABLES {
        for row in rows(&heading(keys)) {
            let schema = property(keys, &row);
            let bound = |name: &str| schema.get(name).map(|bound| bound.as_f64().unwrap());
            // Of a decimal, the next is as near as it can be written.
            let step = if schema.get("type") == Some(&json!("integer")) { 1.0 } else { 0.0001 };
            for (bound, beyond) in [(bound("minimum"), -step), (bound("maximum"), step)] {
                let Some(bound) = bound else { continue };
                accepted(&file_with(keys, row.key, &bound.to_string()));
                let text = file_with(keys, row.key, &(bound + beyond).to_string());
                let errors = Config::parse(&text, "f.toml").expect_err(&text);
                assert!(errors.to_string().contains(row.key), "{errors}\n{text}");
                tried += 1;
            }
        }
    }
    assert!(tried > 50, "only {tried} bounds were tried");
}
