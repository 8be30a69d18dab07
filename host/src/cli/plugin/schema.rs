//! A plugin's configuration as a table: its JSON Schema, flattened to dotted paths. What a schema says beyond types,
//! defaults and descriptions is left to `--format json`.

use serde_json::Value;

/// One key of a configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// Dotted; `[]` for the entries of a list.
    pub path: String,
    /// In words.
    pub ty: String,
    /// `required`, or the default.
    pub default: String,
    /// First line of it.
    pub description: String,
}

/// Schemas may refer to themselves.
const DEPTH: usize = 8;

/// The keys of a schema, depth first.
pub fn keys(schema: &Value) -> Vec<Key> {
    let mut out = Vec::new();
    collect(schema, schema, "", DEPTH, &mut out);
    out
}

fn collect(root: &Value, schema: &Value, path: &str, depth: usize, out: &mut Vec<Key>) {
    let schema = resolved(root, schema);
    if depth == 0 {
        return;
    }
    if let Some(items) = schema.get("items") {
        collect(root, items, &format!("{path}[]"), depth - 1, out);
    }
    let required = |name: &String| schema["required"].as_array().is_some_and(|r| r.iter().any(|n| n == name));
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let at = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let inner = resolved(root, property);
        let default = match property.get("default") {
            Some(default) => default.to_string(),
            None if required(name) => "required".into(),
            None => String::new(),
        };
        let described = property["description"].as_str().or(inner["description"].as_str()).unwrap_or_default();
        let description = described.lines().next().unwrap_or_default().to_owned();
        out.push(Key { path: at.clone(), ty: words(root, inner), default, description });
        collect(root, inner, &at, depth - 1, out);
    }
}

/// What `$ref` points at; an optional value's own schema.
fn resolved<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    if let Some(pointer) = schema["$ref"].as_str().and_then(|r| r.strip_prefix('#')) {
        return root.pointer(pointer).unwrap_or(schema);
    }
    let some = |kind: &str| {
        let mut real = schema[kind].as_array()?.iter().filter(|s| s["type"] != "null");
        real.next().filter(|_| real.next().is_none())
    };
    match some("anyOf").or_else(|| some("allOf")) {
        Some(inner) if schema.get("type").is_none() => resolved(root, inner),
        _ => schema,
    }
}

fn words(root: &Value, schema: &Value) -> String {
    let plain = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    let choices: Vec<String> = match (schema["enum"].as_array(), schema["oneOf"].as_array()) {
        (Some(values), _) => values.iter().map(plain).collect(),
        (_, Some(cases)) => cases.iter().filter_map(|case| case.get("const").map(plain)).collect(),
        _ => Vec::new(),
    };
    if !choices.is_empty() {
        return choices.join(" | ");
    }
    match &schema["type"] {
        Value::String(ty) if ty == "array" => format!("list of {}", words(root, resolved(root, &schema["items"]))),
        Value::String(ty) => if ty == "object" { "table" } else { ty }.to_owned(),
        Value::Array(types) => types.iter().map(plain).filter(|ty| ty != "null").collect::<Vec<_>>().join(" or "),
        _ => "any".into(),
    }
}

/// A value to write in the place of a required key, as TOML.
pub fn placeholder(ty: &str) -> String {
    match ty {
        "string" => "\"...\"".into(),
        "number" => "0.0".into(),
        "integer" => "0".into(),
        "boolean" => "false".into(),
        _ if ty.starts_with("list of") => "[]".into(),
        _ if ty.contains(" | ") => format!("{:?}", ty.split(" | ").next().unwrap_or_default()),
        _ => "{}".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn references_lists_choices_and_optional_values_are_followed() {
        let schema = json!({
            "type": "object",
            "required": ["limits"],
            "properties": {
                "limits": { "type": "array", "items": { "$ref": "#/$defs/Limit" }, "description": "All.\nEach alone." },
                "quiet": { "type": "boolean", "default": false },
                "half_life": { "type": ["number", "null"] },
                "inner": { "anyOf": [{ "$ref": "#/$defs/Limit" }, { "type": "null" }] },
            },
            "$defs": {
                "Limit": {
                    "type": "object",
                    "required": ["above"],
                    "properties": { "above": { "type": "number" }, "severity": { "enum": ["low", "high"] } },
                },
            },
        });
        let keys = keys(&schema);
        let rows: Vec<_> = keys.iter().map(|k| (&*k.path, &*k.ty, &*k.default)).collect();
        assert_eq!(
            rows,
            [
                ("half_life", "number", ""),
                ("inner", "table", ""),
                ("inner.above", "number", "required"),
                ("inner.severity", "low | high", ""),
                ("limits", "list of table", "required"),
                ("limits[].above", "number", "required"),
                ("limits[].severity", "low | high", ""),
                ("quiet", "boolean", "false"),
            ]
        );
        assert_eq!(keys[4].description, "All.");
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        let schema =
            json!({ "$ref": "#/$defs/A", "$defs": { "A": { "properties": { "a": { "$ref": "#/$defs/A" } } } } });
        assert!(keys(&schema).len() <= DEPTH);
    }
}
