//! Prompt templates: Jinja, cut down to inserting and choosing.
//!
//! Templates are written by members and run inside a process that serves everybody. So what is not defined is an error and
//! not an empty text, nothing is escaped, the work is bounded by fuel and by the bytes it touches (see `metered`), the text by
//! [`MAX_TEXT_BYTES`], and the language has only what cannot make a value larger than those it was given (see `subset`): no other bound holds memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use minijinja::{
    AutoEscape, Environment, ErrorKind, UndefinedBehavior, Value,
    machinery::{CodeGenerator, eval, make_string_output, parse},
    syntax::SyntaxConfig,
};

pub use kept::Template;

mod filters;
mod kept;
mod metered;
mod subset;

/// The longest template, in bytes.
pub const MAX_TEMPLATE_BYTES: usize = 64 * 1024;
/// The longest rendered text, in bytes.
pub const MAX_TEXT_BYTES: usize = 4 << 20;
/// How many steps a rendering may take.
const FUEL: u64 = 400_000;
/// How deep its expressions and loops may go.
const MAX_DEPTH: usize = 50;

/// A template that cannot be used, or not with these values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TemplateError(String);

impl TemplateError {
    fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl From<minijinja::Error> for TemplateError {
    fn from(error: minijinja::Error) -> Self {
        let what = match error.kind() {
            ErrorKind::OutOfFuel => "the template does too much".to_owned(),
            ErrorKind::WriteFailure => format!("the text is longer than {MAX_TEXT_BYTES} bytes"),
            kind => error
                .detail()
                .map_or_else(|| kind.to_string(), |detail| format!("{kind}: {detail}")),
        };
        Self(
            error
                .line()
                .map_or_else(|| what.clone(), |line| format!("line {line}: {what}")),
        )
    }
}

/// The names a template needs; an error if it is no template, or uses more than the subset.
pub fn variables(template: &str) -> Result<BTreeSet<String>, TemplateError> {
    if template.is_empty() {
        return Ok(BTreeSet::new());
    }
    subset::check(template)?;
    let names = ENVIRONMENT.template_from_str(template)?.undeclared_variables(false);
    Ok(names.into_iter().collect())
}

/// The text a template gives with these values. Use of a name without a value is an error.
pub fn render(template: &str, values: BTreeMap<String, Value>) -> Result<String, TemplateError> {
    if template.is_empty() {
        return Ok(String::new());
    }
    subset::check(template)?;
    rendered(template, values)
}

/// The same of a template that is known to be within the subset.
fn rendered(template: &str, values: BTreeMap<String, Value>) -> Result<String, TemplateError> {
    if template.is_empty() {
        return Ok(String::new());
    }
    let parsed = parse(template, "", syntax())?;
    let mut generator = CodeGenerator::new("", template);
    generator.compile_stmt(&metered::statement(&parsed));
    let (instructions, blocks) = generator.finish();
    let mut text = String::new();
    let mut output = make_string_output(&mut text);
    let root = Value::from_pairs(values);
    eval(
        &ENVIRONMENT,
        &instructions,
        root,
        &blocks,
        &mut output,
        AutoEscape::None,
    )?;
    drop(output);
    Ok(text)
}

/// What templates may use; it never changes, and takes longer to make than most templates to render.
static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(environment);

fn environment() -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(MAX_DEPTH);
    environment.set_syntax(syntax());
    filters::add_to(&mut environment);
    metered::add_to(&mut environment);
    environment
}

/// Plain Jinja, but that a template's last line keeps its end.
fn syntax() -> SyntaxConfig {
    SyntaxConfig::builder()
        .keep_trailing_newline(true)
        .build()
        .expect("the delimiters are Jinja's own")
}

#[cfg(test)]
mod tests {
    use minijinja::value::Serde;
    use serde_json::json;

    use super::*;

    fn values(json: serde_json::Value) -> BTreeMap<String, Value> {
        let serde_json::Value::Object(members) = json else {
            panic!("values are an object");
        };
        members
            .into_iter()
            .map(|(name, value)| (name, Value::from(Serde(value))))
            .collect()
    }

    fn rendered(template: &str, json: serde_json::Value) -> Result<String, String> {
        render(template, values(json)).map_err(|error| error.to_string())
    }

    #[test]
    fn values_are_inserted_as_they_are() {
        let text = rendered("{{ a }} <{{ b.c[1] }}>\n", json!({"a": "x<&>", "b": {"c": [1, 2.5]}})).unwrap();
        assert_eq!(text, "x<&> <2.5>\n");
    }

    #[test]
    fn what_is_no_text_is_inserted_as_json() {
        let text = rendered(
            "{{ a }} {{ b }} {{ c }} {{ d }}",
            json!({"a": true, "b": null, "c": {"k": ["é", 1]}, "d": 7}),
        )
        .unwrap();
        assert_eq!(text, r#"true null {"k":["é",1]} 7"#);
    }

    #[test]
    fn templates_choose_and_go_through_lists() {
        let template = "{% for x in list if x > 1 %}{{ loop.index + 1 }}:{{ x }};{% else %}none{% endfor %}{% if not flag %}no{% elif flag == 'a' %}A{% endif %}";
        assert_eq!(
            rendered(template, json!({"list": [1, 2, 3], "flag": "a"})).unwrap(),
            "2:2;3:3;A"
        );
        assert_eq!(rendered(template, json!({"list": [], "flag": ""})).unwrap(), "noneno");
    }

    #[test]
    fn what_is_not_defined_is_an_error_and_can_be_asked_for() {
        assert!(rendered("{{ nothing }}", json!({})).unwrap_err().contains("undefined"));
        assert!(
            rendered("{{ a.b }}", json!({"a": {}}))
                .unwrap_err()
                .contains("undefined")
        );
        assert_eq!(
            rendered(
                "{% if a is defined %}{{ a }}{% else %}-{% endif %}{{ b | default('z') }}",
                json!({})
            )
            .unwrap(),
            "-z"
        );
    }

    #[test]
    fn filters_change_values() {
        let template = "{{ a | trim | upper }} {{ l | join(', ') }} {{ o | tojson }} {{ l | length }} {{ l | first }}{{ l | last }} {{ a | replace('x', 'yy') | trim }} {{ n | round(1) }} {{ l | sort(reverse=true) | join }}";
        let text = rendered(
            template,
            json!({"a": " x ", "l": [1, 2], "o": {"k": [null]}, "n": 2.345}),
        )
        .unwrap();
        assert_eq!(text, r#"X 1, 2 {"k":[null]} 2 12 yy 2.3 21"#);
    }

    #[test]
    fn variables_are_those_the_template_does_not_bring_itself() {
        let names = variables("{% for x in list %}{{ x }}{{ inputs.a }}{% endfor %}{{ stage_1.output }}").unwrap();
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["inputs", "list", "stage_1"]);
    }

    #[test]
    fn a_kept_template_is_as_strict_as_its_text_and_known_to_its_clones() {
        let kept = Template::from("{{ a.b }} {{ c }}");
        let names: Vec<_> = kept.clone().names().unwrap().iter().cloned().collect();
        assert_eq!(names, ["a", "c"]);
        let given = json!({"a": {"b": 1}, "c": "x"});
        for _ in 0..2 {
            assert_eq!(kept.render(values(given.clone())).unwrap(), "1 x");
        }
        assert!(kept.render(values(json!({"a": {}}))).is_err());
        for wrong in ["{{ a ~ a }}", "{{ a", "{% set b = a %}"] {
            let kept = Template::from(wrong);
            assert_eq!(kept.names().unwrap_err(), variables(wrong).unwrap_err());
            assert_eq!(kept.render(BTreeMap::new()).unwrap_err(), variables(wrong).unwrap_err());
        }
        assert_eq!(serde_json::to_value(&kept).unwrap(), json!("{{ a.b }} {{ c }}"));
        assert_eq!(Template::default().render(BTreeMap::new()).unwrap(), "");
    }

    #[test]
    fn a_broken_template_says_where() {
        assert!(variables("a\n{{ b").unwrap_err().to_string().starts_with("line 2: "));
        assert!(
            variables("{{ x | unheard }}")
                .unwrap_err()
                .to_string()
                .contains("unheard")
        );
        assert!(variables(&"x".repeat(MAX_TEMPLATE_BYTES + 1)).is_err());
    }

    #[test]
    fn what_could_grow_or_run_away_is_refused_before_it_runs() {
        for template in [
            "{{ a ~ a }}",
            "{{ a + a }}",
            "{{ a * 1000 }}",
            "{{ 2 ** 100 }}",
            "{% for x in [a, a] %}{{ x }}{% endfor %}",
            "{% for x in (a, a) %}{{ x }}{% endfor %}",
            "{{ {'k': a} }}",
            "{% for x in a recursive %}{{ loop(x) }}{% endfor %}",
            "{{ range(10) }}",
            "{{ a.items() }}",
            "{% set b = a %}",
            "{% with b = a %}{% endwith %}",
            "{% filter upper %}x{% endfilter %}",
            "{% macro m() %}{% endmacro %}",
            "{% include 'x' %}",
        ] {
            assert!(variables(template).is_err(), "{template}");
            assert!(rendered(template, json!({"a": "x"})).is_err(), "{template}");
        }
    }

    #[test]
    fn literals_of_constants_are_no_danger() {
        assert_eq!(
            rendered("{% if a in ['x', 'y'] %}yes{% endif %}", json!({"a": "y"})).unwrap(),
            "yes"
        );
    }

    #[test]
    fn text_and_work_are_bounded() {
        let list: Vec<_> = (0..100).collect();
        let much = "{% for a in l %}{% for b in l %}{% for c in l %}{{ x }}{% endfor %}{% endfor %}{% endfor %}";
        assert_eq!(
            rendered(much, json!({"l": list, "x": ""})).unwrap_err(),
            "line 1: the template does too much"
        );
        let long = "{% for a in l %}{{ x }}{% endfor %}";
        let error = rendered(long, json!({"l": list, "x": "x".repeat(1 << 17)})).unwrap_err();
        assert!(error.contains("longer than"), "{error}");
        let replaced = rendered(
            "{{ x | replace('x', y) }}",
            json!({"x": "x".repeat(10_000), "y": "y".repeat(10_000)}),
        );
        assert!(replaced.unwrap_err().contains("longer than"));
        let joined = rendered("{{ l | join(y) }}", json!({"l": list, "y": "y".repeat(100_000)}));
        assert!(joined.unwrap_err().contains("longer than"));
        assert!(variables(&format!("{{{{ {}1{} }}}}", "(".repeat(500), ")".repeat(500))).is_err());
    }

    #[test]
    fn the_bytes_that_steps_touch_are_bounded() {
        let big = "x".repeat(1 << 20);
        let words: Vec<_> = (0..100_000).collect();
        let json = json!({"l": (0..2_000).collect::<Vec<_>>(), "x": big, "y": big, "words": words});
        let steps = [
            "x | upper",
            "x | length",
            "words | sort",
            "words | tojson",
            "x == y",
            "x < y",
            "'y' in x",
            "-1 in words",
            "x[1:]",
            "x is endingwith 'y'",
            "'ab' | replace('a', x)",
            "none | default(x)",
        ];
        let values = values(json);
        for step in steps {
            let once = format!("{{% if {step} %}}{{% endif %}}");
            assert_eq!(render(&once, values.clone()), Ok(String::new()), "{step}");
            let often = format!("{{% for i in l %}}{once}{{% endfor %}}");
            let error = render(&often, values.clone()).unwrap_err();
            assert_eq!(error.to_string(), "line 1: the template does too much", "{step}");
        }
        let raw = format!("{{% for i in l %}}{}{{% endfor %}}", "x".repeat(10_000));
        assert!(render(&raw, values).unwrap_err().to_string().contains("longer than"));
    }
}
