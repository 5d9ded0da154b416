//! The inputs of a template as a form that a page can show, and the values that count where a field is left out.
//!
//! It is made of the input schema alone: an object with `properties`. Of a property it reads `type`, `enum`, `title`, `description`,
//! `default`, `examples`, `format: date` and the bounds; `x-order` says its place and `x-widget` (`multiline`, `document`, `file`) how
//! it is filled in, where that does not follow. A property that says something else is filled in as JSON. A form narrows nothing:
//! what it leaves open the schema still checks.

use serde_json::{Map, Value, json};

/// The longest text that one line takes, in characters.
const LINE: u64 = 200;
/// Stands for a document or a file where nobody has named one.
const SOME_ID: &str = "01900000-0000-7000-8000-000000000000";

/// How a field is filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Widget {
    /// A line of text.
    Text,
    /// Text of several lines.
    Multiline,
    /// A number.
    Number,
    /// One of some options.
    Select,
    /// Yes or no.
    Checkbox,
    /// A list of entries.
    List,
    /// A document of the studio.
    Document,
    /// A file of the studio, as an object that names it.
    File,
    /// A day.
    Date,
    /// JSON.
    Json,
}

/// A field of a form.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// The input that it fills.
    pub name: String,
    /// For people.
    pub title: String,
    /// What to fill in.
    pub description: String,
    /// How.
    pub widget: Widget,
    /// Whether it must be filled in.
    pub required: bool,
    /// What counts where it is left out.
    pub default: Option<Value>,
    /// A value to try it with; null where only the template's own sample could say one.
    pub sample: Value,
    /// What there is to choose from.
    pub options: Vec<Value>,
    /// The least number.
    pub minimum: Option<f64>,
    /// The highest number.
    pub maximum: Option<f64>,
    /// Whether only whole numbers are.
    pub whole: bool,
    /// The least number of characters.
    pub min_length: Option<u64>,
    /// The highest number of characters.
    pub max_length: Option<u64>,
    /// What a text must match.
    pub pattern: String,
    /// The least number of entries.
    pub min_items: Option<u64>,
    /// The highest number of entries.
    pub max_items: Option<u64>,
    /// How an entry is filled in.
    pub items: Option<Box<Field>>,
}

/// The fields of a form in their order; `None` where the schema does not describe an object by its properties. What the sample has
/// of a field is its sample.
pub fn fields(schema: &Value, sample: &Map<String, Value>) -> Option<Vec<Field>> {
    let properties = schema.get("properties").and_then(Value::as_object)?;
    if schema.get("type").is_some_and(|it| it != "object") {
        return None;
    }
    let required = |name: &str| {
        let names = schema.get("required").and_then(Value::as_array);
        names.is_some_and(|it| it.iter().any(|it| it == name))
    };
    let mut fields: Vec<_> = properties
        .iter()
        .map(|(name, property)| {
            let mut field = field(name, property);
            field.required = required(name);
            if let Some(sample) = sample.get(name) {
                field.sample = sample.clone();
            }
            let order = property.get("x-order").and_then(Value::as_i64).unwrap_or(i64::MAX);
            (order, !field.required, field)
        })
        .collect();
    fields.sort_by(|a, b| (a.0, a.1, &a.2.name).cmp(&(b.0, b.1, &b.2.name)));
    Some(fields.into_iter().map(|(_, _, field)| field).collect())
}

/// The inputs with the defaults of what they leave out, also within objects that they have.
pub fn with_defaults(schema: &Value, inputs: &Map<String, Value>) -> Map<String, Value> {
    let mut filled = inputs.clone();
    for (name, property) in schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        match (filled.get_mut(name), property.get("default")) {
            (Some(Value::Object(inner)), _) => *inner = with_defaults(property, inner),
            (None, Some(default)) => drop(filled.insert(name.clone(), default.clone())),
            _ => {}
        }
    }
    filled
}

fn field(name: &str, schema: &Value) -> Field {
    let text = |key: &str| schema.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let count = |key: &str| schema.get(key).and_then(Value::as_u64);
    let number = |key: &str| schema.get(key).and_then(Value::as_f64);
    let widget = widget(schema);
    let title = text("title");
    let items = (widget == Widget::List).then(|| Box::new(field("", schema.get("items").unwrap_or(&Value::Null))));
    Field {
        name: name.to_owned(),
        title: if title.is_empty() { titled(name) } else { title },
        description: text("description"),
        widget,
        required: false,
        default: schema.get("default").cloned(),
        sample: sample(schema, widget, items.as_deref()),
        options: schema
            .get("enum")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default(),
        minimum: number("minimum"),
        maximum: number("maximum"),
        whole: schema.get("type").is_some_and(|it| it == "integer"),
        min_length: count("minLength"),
        max_length: count("maxLength"),
        pattern: text("pattern"),
        min_items: count("minItems"),
        max_items: count("maxItems"),
        items,
    }
}

fn widget(schema: &Value) -> Widget {
    if schema.get("enum").is_some_and(Value::is_array) {
        return Widget::Select;
    }
    let says = |key: &str, value: &str| schema.get(key).is_some_and(|it| it == value);
    match schema.get("type").and_then(Value::as_str) {
        Some("string") if says("x-widget", "document") => Widget::Document,
        Some("string") if says("x-widget", "multiline") => Widget::Multiline,
        Some("string") if says("format", "date") => Widget::Date,
        Some("string")
            if schema
                .get("maxLength")
                .and_then(Value::as_u64)
                .is_some_and(|it| it > LINE) =>
        {
            Widget::Multiline
        }
        Some("string") => Widget::Text,
        Some("object") if says("x-widget", "file") => Widget::File,
        Some("number" | "integer") => Widget::Number,
        Some("boolean") => Widget::Checkbox,
        Some("array") if schema.get("items").is_some_and(Value::is_object) => Widget::List,
        _ => Widget::Json,
    }
}

/// `due_date` as a person would write it.
fn titled(name: &str) -> String {
    let words = name.replace(['_', '-'], " ");
    let mut letters = words.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect())
        .unwrap_or_default()
}

/// A value that fits: one that the schema names, or one made by its bounds.
fn sample(schema: &Value, widget: Widget, items: Option<&Field>) -> Value {
    let first = |key: &str| schema.get(key).and_then(Value::as_array).and_then(|it| it.first());
    if let Some(named) = first("examples")
        .or_else(|| schema.get("default"))
        .or_else(|| first("enum"))
    {
        return named.clone();
    }
    if schema.get("pattern").is_some() {
        return Value::Null;
    }
    match widget {
        Widget::Text | Widget::Multiline => text_sample(schema),
        Widget::Number => number_sample(schema),
        Widget::Checkbox => json!(true),
        Widget::Document => json!(SOME_ID),
        Widget::File => json!({ "file_id": SOME_ID }),
        Widget::Date => json!("2026-01-31"),
        Widget::List => list_sample(schema, items),
        Widget::Select | Widget::Json => Value::Null,
    }
}

fn text_sample(schema: &Value) -> Value {
    let count = |key: &str| schema.get(key).and_then(Value::as_u64);
    let most = usize::try_from(count("maxLength").unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
    let least = usize::try_from(count("minLength").unwrap_or(0))
        .unwrap_or(usize::MAX)
        .max(4);
    json!("text ".chars().cycle().take(least.min(most)).collect::<String>())
}

fn number_sample(schema: &Value) -> Value {
    let number = |key: &str| schema.get(key).and_then(Value::as_f64);
    let is_whole = schema.get("type").is_some_and(|it| it == "integer");
    let step = number("multipleOf").unwrap_or(if is_whole { 1.0 } else { 0.0 });
    let wanted = number("minimum").unwrap_or_else(|| number("maximum").map_or(1.0, |most| most.min(1.0)));
    let fitted = if step > 0.0 {
        (wanted / step).ceil() * step
    } else {
        wanted
    };
    let most = number("maximum").unwrap_or(f64::INFINITY);
    let value = if fitted > most {
        (most / step).floor() * step
    } else {
        fitted
    };
    if value.fract() == 0.0
        && let Ok(whole) = format!("{value:.0}").parse::<i64>()
    {
        return json!(whole);
    }
    json!(value)
}

/// As many entries as there must be, at least one; each other, where they must differ.
fn list_sample(schema: &Value, items: Option<&Field>) -> Value {
    let Some(entry) = items.filter(|it| !it.sample.is_null()) else {
        return Value::Null;
    };
    let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0).max(1);
    let most = schema.get("maxItems").and_then(Value::as_u64).unwrap_or(u64::MAX);
    let differ = schema.get("uniqueItems").is_some_and(|it| it == true);
    if differ && least > 1 {
        let options = entry.options.iter().take(usize::try_from(least).unwrap_or(usize::MAX));
        return options.cloned().collect();
    }
    let count = usize::try_from(least.min(most)).unwrap_or(1).min(1_000);
    vec![entry.sample.clone(); count].into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::check::Schema;

    fn text() -> impl Strategy<Value = Value> {
        (0..20_u64, 0..400_u64, any::<bool>(), any::<bool>()).prop_map(|(least, more, bounded, long)| {
            let mut schema = json!({ "type": "string", "minLength": least });
            if bounded {
                schema["maxLength"] = json!(least + more);
            }
            if long {
                schema["x-widget"] = json!("multiline");
            }
            schema
        })
    }

    fn number() -> impl Strategy<Value = Value> {
        (-50..50_i64, 1..5_i64, 0..100_i64, 0..4_u8).prop_map(|(least, step, room, which)| match which {
            0 => json!({ "type": "integer", "minimum": least, "maximum": least + step + room, "multipleOf": step }),
            1 => json!({ "type": "number", "minimum": least }),
            2 => json!({ "type": "number", "maximum": least }),
            _ => json!({ "type": "integer" }),
        })
    }

    fn scalar() -> impl Strategy<Value = Value> {
        prop_oneof![
            text(),
            number(),
            Just(json!({ "type": "boolean" })),
            Just(json!({ "type": "string", "format": "date" })),
            Just(json!({ "type": "string", "x-widget": "document", "format": "uuid" })),
            Just(json!({ "type": "object", "x-widget": "file", "required": ["file_id"] })),
            prop::collection::vec("[a-z]{1,8}", 1..5).prop_map(|options| json!({ "enum": options })),
        ]
    }

    fn property() -> impl Strategy<Value = Value> {
        let list = (scalar(), 0..3_u64, 0..3_u64).prop_map(|(items, least, more)| {
            json!({ "type": "array", "items": items, "minItems": least, "maxItems": least + more + 1 })
        });
        prop_oneof![3 => scalar(), 1 => list]
    }

    fn schema() -> impl Strategy<Value = Value> {
        prop::collection::btree_map("[a-z_]{1,12}", (property(), any::<bool>()), 1..8).prop_map(|given| {
            let required: Vec<_> = given.iter().filter(|(_, (_, it))| *it).map(|(name, _)| name).collect();
            let properties: Map<_, _> = given.iter().map(|(name, (it, _))| (name.clone(), it.clone())).collect();
            json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
        })
    }

    proptest! {
        #[test]
        fn a_form_filled_in_with_its_samples_passes_its_schema(schema in schema()) {
            let fields = fields(&schema, &Map::new()).expect("a form");
            prop_assert_eq!(fields.len(), schema["properties"].as_object().unwrap().len());
            let filled: Map<_, _> = fields.iter().map(|it| (it.name.clone(), it.sample.clone())).collect();
            let problems = Schema::compile(&schema).expect("a schema").problems(&Value::Object(filled.clone()));
            prop_assert!(problems.is_empty(), "{:?} of {:?}", problems, filled);
            prop_assert!(fields.iter().all(|it| !it.title.is_empty()));
        }
    }

    #[test]
    fn a_field_says_all_that_a_page_needs() {
        let schema = json!({
            "type": "object", "required": ["mail"],
            "properties": {
                "tone": { "type": "string", "enum": ["warm", "plain"], "default": "plain", "x-order": 2 },
                "mail": { "type": "string", "title": "The mail", "description": "As it came in.", "maxLength": 20000, "x-order": 1 },
                "documents": { "type": "array", "items": { "type": "string", "x-widget": "document" }, "minItems": 1 },
                "limit": { "type": "integer", "minimum": 1, "maximum": 9 },
                "other": { "anyOf": [{ "type": "string" }, { "type": "null" }] },
            },
        });
        let sample = json!({ "mail": "Where is my parcel?" }).as_object().unwrap().clone();
        let fields = fields(&schema, &sample).unwrap();
        let names: Vec<_> = fields.iter().map(|it| (it.name.as_str(), it.widget)).collect();
        assert_eq!(
            names,
            [
                ("mail", Widget::Multiline),
                ("tone", Widget::Select),
                ("documents", Widget::List),
                ("limit", Widget::Number),
                ("other", Widget::Json)
            ]
        );
        assert_eq!((fields[0].title.as_str(), fields[0].required), ("The mail", true));
        assert_eq!(fields[0].sample, "Where is my parcel?");
        assert_eq!(
            (&fields[1].default, fields[1].options.len()),
            (&Some(json!("plain")), 2)
        );
        assert_eq!(fields[2].items.as_ref().unwrap().widget, Widget::Document);
        assert_eq!(
            (fields[3].minimum, fields[3].maximum, fields[3].whole),
            (Some(1.0), Some(9.0), true)
        );
        assert_eq!(fields[3].title, "Limit");
    }

    #[test]
    fn only_an_object_described_by_its_properties_has_a_form() {
        for schema in [
            json!({}),
            json!({ "type": "object" }),
            json!({ "type": "array", "properties": {} }),
        ] {
            assert!(fields(&schema, &Map::new()).is_none(), "{schema}");
        }
    }

    #[test]
    fn defaults_count_where_nothing_was_filled_in() {
        let schema = json!({ "properties": {
            "tone": { "default": "plain" }, "limit": { "default": 3 },
            "deep": { "properties": { "x": { "default": true } } },
            "gone": { "properties": { "x": { "default": true } } },
        } });
        let given = json!({ "tone": "warm", "deep": {} });
        let filled = with_defaults(&schema, given.as_object().unwrap());
        assert_eq!(
            Value::Object(filled),
            json!({ "tone": "warm", "limit": 3, "deep": { "x": true } })
        );
    }
}
