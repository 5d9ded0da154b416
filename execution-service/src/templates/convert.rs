//! Templates as the contract writes them.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use service_kit::{
    error::{Result, Violations},
    ids::{TemplateId, WorkflowId},
    update,
};
use studios_proto::execution as proto;

use super::{
    About, Area, Changes, Complexity, Filter, Order, Owner, Semver, Template, Version, VersionSummary,
    form::{self, Field, Widget},
    publishing::Wish,
    running::{Copy, Run},
};
use crate::{executions, requests, worker::StartKey};

/// The fields that an update may change.
const CHANGEABLE: &[&str] = &[
    "name",
    "description",
    "area",
    "complexity",
    "estimated_minutes",
    "tags",
    "active",
];
/// The most tags of a template.
const TAGS: usize = 10;
/// The longest tag.
const TAG: usize = 40;

pub(super) fn filter(request: &proto::ListTemplatesRequest) -> Result<Filter> {
    let mut violations = Violations::new();
    let company = violations.id("company_id", &request.company_id);
    let text = violations.text("text", &request.text, 0..=200);
    let tag = violations.text("tag", &request.tag, 0..=TAG);
    let area = optional(&mut violations, "area", request.area, area_given);
    let complexity = optional(&mut violations, "complexity", request.complexity, complexity_given);
    let owner = optional(&mut violations, "owner", request.owner, |it| {
        Some(match proto::TemplateOwner::try_from(it).ok()? {
            proto::TemplateOwner::Unspecified => return None,
            proto::TemplateOwner::Platform => Owner::Platform,
            proto::TemplateOwner::Company => Owner::Company,
        })
    });
    let order = Order::parse(&request.order_by);
    if order.is_none() {
        let words = Order::ALL.map(|(word, _)| word).join(", ");
        violations.add("order_by", format!("must be one of {words}"));
    }
    violations.finish()?;
    Ok(Filter {
        company: company.expect("a missing one is a violation"),
        words: text.as_deref().and_then(words),
        area,
        complexity,
        tag: tag.filter(|it| !it.is_empty()),
        owner,
        show_inactive: request.show_inactive,
        order: order.expect("a missing one is a violation"),
    })
}

/// A search for all of these words or their beginnings; nothing where there are none.
fn words(text: &str) -> Option<String> {
    let words = text.split(|it: char| !it.is_alphanumeric()).filter(|it| !it.is_empty());
    let words: Vec<_> = words.map(|it| format!("'{it}':*")).collect();
    (!words.is_empty()).then(|| words.join(" & "))
}

pub(super) fn get(request: &proto::GetTemplateRequest) -> Result<(TemplateId, Option<Semver>)> {
    let mut violations = Violations::new();
    let id = violations.id("id", &request.id);
    let version = version(&mut violations, "version", &request.version);
    violations.finish()?;
    Ok((id.expect("a missing one is a violation"), version))
}

pub(super) fn run(method: &'static str, request: &proto::RunTemplateRequest) -> Result<Run> {
    let mut violations = Violations::new();
    let template = violations.id("template_id", &request.template_id);
    let version = version(&mut violations, "version", &request.version);
    let studio = violations.id("studio_id", &request.studio_id);
    let inputs = executions::given_inputs(&mut violations, request.inputs.as_ref());
    let model = violations.text("model", &request.model, 0..=100);
    let key: Option<StartKey> = executions::start_key(&mut violations, method, &request.request_id, request);
    violations.finish()?;
    Ok(Run {
        template: template.expect("a missing one is a violation"),
        version,
        studio: studio.expect("a missing one is a violation"),
        inputs,
        model: model.expect("a missing one is a violation"),
        key,
    })
}

pub(super) fn create(
    method: &'static str,
    request: &proto::CreateTemplateRequest,
) -> Result<(About, Wish, Option<requests::Key>)> {
    let mut violations = Violations::new();
    let given = request.template.clone().unwrap_or_default();
    let said = read(&mut violations, &given, &CHANGEABLE.iter().copied().collect());
    let wish = wish(&mut violations, request.version.as_ref());
    let key = requests::Key::read(&mut violations, method, &request.request_id, request);
    violations.finish()?;
    let missing = "a missing one is a violation";
    let about = About {
        name: said.name.expect(missing),
        description: said.description.expect(missing),
        area: said.area.expect(missing),
        complexity: said.complexity.expect(missing),
        estimated_minutes: said.estimated_minutes.expect(missing),
        tags: said.tags.expect(missing),
    };
    Ok((about, wish.expect(missing), key))
}

pub(super) fn publish(
    method: &'static str,
    request: &proto::PublishTemplateVersionRequest,
) -> Result<(TemplateId, Wish, Option<requests::Key>)> {
    let mut violations = Violations::new();
    let id = violations.id("template_id", &request.template_id);
    let wish = wish(&mut violations, request.version.as_ref());
    let key = requests::Key::read(&mut violations, method, &request.request_id, request);
    violations.finish()?;
    let missing = "a missing one is a violation";
    Ok((id.expect(missing), wish.expect(missing), key))
}

pub(super) fn copy(
    method: &'static str,
    request: &proto::CopyTemplateRequest,
) -> Result<(Copy, Option<requests::Key>)> {
    let mut violations = Violations::new();
    let template = violations.id("template_id", &request.template_id);
    let version = version(&mut violations, "version", &request.version);
    let studio = violations.id("studio_id", &request.studio_id);
    let name = violations.text("name", &request.name, 0..=200);
    let key = requests::Key::read(&mut violations, method, &request.request_id, request);
    violations.finish()?;
    let copy = Copy {
        template: template.expect("a missing one is a violation"),
        version,
        studio: studio.expect("a missing one is a violation"),
        name: name.filter(|it| !it.is_empty()),
    };
    Ok((copy, key))
}

pub(super) fn changes(request: &proto::UpdateTemplateRequest) -> Result<(TemplateId, String, Changes)> {
    let mut violations = Violations::new();
    let given = request.template.clone().unwrap_or_default();
    let id = violations.id("template.id", &given.id);
    let set = [
        ("name", !given.name.is_empty()),
        ("description", !given.description.is_empty()),
        ("area", given.area != 0),
        ("complexity", given.complexity != 0),
        ("estimated_minutes", given.estimated_minutes != 0),
        ("tags", !given.tags.is_empty()),
        ("active", given.active),
    ];
    let set: Vec<_> = set.iter().filter(|(_, it)| *it).map(|(path, _)| *path).collect();
    let paths = violations.include(update::paths(request.update_mask.as_ref(), CHANGEABLE, &set))?;
    let changes = read(&mut violations, &given, &paths.unwrap_or_default());
    violations.finish()?;
    Ok((id.expect("a missing one is a violation"), given.etag, changes))
}

/// What a template says about itself, as far as the paths name it.
fn read(violations: &mut Violations, given: &proto::Template, paths: &BTreeSet<&str>) -> Changes {
    let mut changes = Changes::default();
    if paths.contains("name") {
        changes.name = violations.text("template.name", &given.name, 3..=200);
    }
    if paths.contains("description") {
        changes.description = violations.text("template.description", &given.description, 10..=1_000);
    }
    if paths.contains("area") {
        changes.area = area_given(given.area);
        if changes.area.is_none() {
            violations.add("template.area", "must be a business area");
        }
    }
    if paths.contains("complexity") {
        changes.complexity = complexity_given(given.complexity);
        if changes.complexity.is_none() {
            violations.add("template.complexity", "must be beginner, intermediate or advanced");
        }
    }
    if paths.contains("estimated_minutes") {
        changes.estimated_minutes = Some(given.estimated_minutes);
        if !(1..=1_440).contains(&given.estimated_minutes) {
            violations.add("template.estimated_minutes", "must be 1 to 1440");
        }
    }
    if paths.contains("tags") {
        changes.tags = Some(tags(violations, &given.tags));
    }
    if paths.contains("active") {
        changes.active = Some(given.active);
    }
    changes
}

/// Tags in their order, each once.
fn tags(violations: &mut Violations, given: &[String]) -> Vec<String> {
    if given.len() > TAGS {
        violations.add("template.tags", format!("must be at most {TAGS}"));
    }
    let mut tags: Vec<String> = Vec::new();
    for (place, tag) in given.iter().enumerate() {
        if !is_tag(tag) {
            let description = format!("must be 1 to {TAG} small letters, digits and hyphens");
            violations.add(format!("template.tags[{place}]"), description);
        } else if !tags.contains(tag) {
            tags.push(tag.clone());
        }
    }
    tags
}

/// Whether a text can be a tag.
pub(super) fn is_tag(text: &str) -> bool {
    let is_one = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '-';
    (1..=TAG).contains(&text.len()) && text.chars().all(is_one)
}

fn wish(violations: &mut Violations, given: Option<&proto::NewTemplateVersion>) -> Option<Wish> {
    let given = given.cloned().unwrap_or_default();
    let workflow = violations.id::<WorkflowId>("version.workflow_id", &given.workflow_id);
    if given.workflow_version < 0 {
        violations.add("version.workflow_version", "must not be negative");
    }
    let version = version(violations, "version.version", &given.version);
    let notes = violations.text("version.notes", &given.notes, 0..=1_000);
    let sample = violations.object("version.sample_input", given.sample_input.as_ref());
    let size = sample
        .as_ref()
        .map_or(0, |it| Value::Object(it.clone()).to_string().len());
    if size > SAMPLE_BYTES {
        violations.add(
            "version.sample_input",
            format!("must have at most {} KiB as JSON", SAMPLE_BYTES / 1024),
        );
    }
    let output_schema = match &given.output_schema {
        None => None,
        schema => violations
            .object("version.output_schema", schema.as_ref())
            .map(Value::Object),
    };
    Some(Wish {
        workflow: workflow?,
        number: given.workflow_version,
        version,
        notes: notes?,
        sample: sample?,
        output_schema,
    })
}

/// The largest sample, as JSON.
const SAMPLE_BYTES: usize = 64 * 1024;

fn version(violations: &mut Violations, field: &str, given: &str) -> Option<Semver> {
    if given.is_empty() {
        return None;
    }
    let version = Semver::parse(given);
    if version.is_none() {
        violations.add(field, "must be a semver such as 1.2.0");
    }
    version
}

/// An enum's value; what is neither given nor one is a violation.
fn optional<T>(violations: &mut Violations, field: &str, given: i32, read: impl Fn(i32) -> Option<T>) -> Option<T> {
    if given == 0 {
        return None;
    }
    let value = read(given);
    if value.is_none() {
        violations.add(field, "is not one that there is");
    }
    value
}

fn area_given(given: i32) -> Option<Area> {
    let given = proto::TemplateArea::try_from(given).ok()?;
    Area::ALL.into_iter().find(|it| area(*it) == given)
}

const fn area(area: Area) -> proto::TemplateArea {
    match area {
        Area::Marketing => proto::TemplateArea::Marketing,
        Area::Sales => proto::TemplateArea::Sales,
        Area::Operations => proto::TemplateArea::Operations,
        Area::CustomerSupport => proto::TemplateArea::CustomerSupport,
        Area::Finance => proto::TemplateArea::Finance,
        Area::Hr => proto::TemplateArea::Hr,
        Area::Other => proto::TemplateArea::Other,
    }
}

fn complexity_given(given: i32) -> Option<Complexity> {
    let given = proto::TemplateComplexity::try_from(given).ok()?;
    Complexity::ALL.into_iter().find(|it| complexity(*it) == given)
}

const fn complexity(complexity: Complexity) -> proto::TemplateComplexity {
    match complexity {
        Complexity::Beginner => proto::TemplateComplexity::Beginner,
        Complexity::Intermediate => proto::TemplateComplexity::Intermediate,
        Complexity::Advanced => proto::TemplateComplexity::Advanced,
    }
}

impl From<Template> for proto::Template {
    fn from(template: Template) -> Self {
        Self {
            id: template.id.to_string(),
            company_id: template.company.map(|it| it.to_string()).unwrap_or_default(),
            name: template.about.name,
            description: template.about.description,
            area: area(template.about.area).into(),
            complexity: complexity(template.about.complexity).into(),
            estimated_minutes: template.about.estimated_minutes,
            tags: template.about.tags,
            active: template.active,
            newest_version: template.newest.to_string(),
            version: None,
            created_by: template.created_by.map(|it| it.to_string()).unwrap_or_default(),
            create_time: Some(update::timestamp(template.created_at)),
            update_time: Some(update::timestamp(template.updated_at)),
            etag: update::etag(template.revision),
        }
    }
}

/// A template with one of its versions.
pub(super) fn whole((template, version): (Template, Version)) -> proto::Template {
    proto::Template {
        version: Some(version.into()),
        ..template.into()
    }
}

impl From<VersionSummary> for proto::TemplateVersion {
    fn from(summary: VersionSummary) -> Self {
        Self {
            id: summary.id.to_string(),
            template_id: summary.template.to_string(),
            version: summary.version.to_string(),
            notes: summary.notes,
            definition: None,
            sample_input: None,
            form: None,
            published_by: summary.published_by.map(|it| it.to_string()).unwrap_or_default(),
            create_time: Some(update::timestamp(summary.created_at)),
        }
    }
}

impl From<Version> for proto::TemplateVersion {
    fn from(version: Version) -> Self {
        Self {
            form: Some(form(version.definition.input_schema.as_ref(), &version.sample)),
            definition: Some(version.definition.into()),
            sample_input: Some(update::json_to_struct(&version.sample)),
            ..version.summary.into()
        }
    }
}

fn form(schema: Option<&Value>, sample: &Map<String, Value>) -> proto::TemplateForm {
    let fields = schema.and_then(|it| form::fields(it, sample)).unwrap_or_default();
    proto::TemplateForm {
        fields: fields.into_iter().map(Into::into).collect(),
    }
}

impl From<Field> for proto::FormField {
    fn from(field: Field) -> Self {
        let count = |it: Option<u64>| it.map(|it| i64::try_from(it).unwrap_or(i64::MAX));
        Self {
            name: field.name,
            title: field.title,
            description: field.description,
            widget: widget(field.widget).into(),
            required: field.required,
            default_value: field.default.as_ref().map(update::json_to_value),
            sample: Some(update::json_to_value(&field.sample)),
            options: field.options.iter().map(update::json_to_value).collect(),
            minimum: field.minimum,
            maximum: field.maximum,
            whole: field.whole,
            min_length: count(field.min_length),
            max_length: count(field.max_length),
            pattern: field.pattern,
            min_items: count(field.min_items),
            max_items: count(field.max_items),
            items: field.items.map(|it| Box::new((*it).into())),
        }
    }
}

const fn widget(widget: Widget) -> proto::FormWidget {
    match widget {
        Widget::Text => proto::FormWidget::Text,
        Widget::Multiline => proto::FormWidget::Multiline,
        Widget::Number => proto::FormWidget::Number,
        Widget::Select => proto::FormWidget::Select,
        Widget::Checkbox => proto::FormWidget::Checkbox,
        Widget::List => proto::FormWidget::List,
        Widget::Document => proto::FormWidget::Document,
        Widget::Date => proto::FormWidget::Date,
        Widget::Json => proto::FormWidget::Json,
        Widget::File => proto::FormWidget::File,
    }
}

#[cfg(test)]
mod tests {
    use service_kit::error::Error;

    use super::*;

    #[test]
    fn words_are_searched_for_by_their_beginnings_and_nothing_else_is_a_search() {
        assert_eq!(
            words("Red-flag  contract's"),
            Some("'Red':* & 'flag':* & 'contract':* & 's':*".into())
        );
        assert_eq!(words("'; & | !:* ()"), None);
    }

    #[test]
    fn everything_wrong_with_a_template_is_named() {
        let request = proto::CreateTemplateRequest {
            template: Some(proto::Template {
                name: "ab".into(),
                description: "short".into(),
                area: 99,
                estimated_minutes: 1_441,
                tags: vec!["Loud".into(); 11],
                ..Default::default()
            }),
            version: Some(proto::NewTemplateVersion {
                workflow_id: "x".into(),
                workflow_version: -1,
                version: "1.0".into(),
                ..Default::default()
            }),
            request_id: "x".into(),
        };
        let Err(Error::Invalid(found)) = create("m", &request) else {
            panic!("refused")
        };
        let mut fields: Vec<_> = found.iter().map(|it| it.field.as_str()).collect();
        fields.retain(|it| !it.starts_with("template.tags["));
        assert_eq!(
            fields,
            [
                "template.name",
                "template.description",
                "template.area",
                "template.complexity",
                "template.estimated_minutes",
                "template.tags",
                "version.workflow_id",
                "version.workflow_version",
                "version.version",
                "request_id",
            ]
        );
    }

    #[test]
    fn an_update_changes_what_is_set_or_what_its_mask_names() {
        let id = TemplateId::generate().to_string();
        let template = proto::Template {
            id,
            estimated_minutes: 7,
            ..Default::default()
        };
        let asked = |paths: &[&str]| {
            changes(&proto::UpdateTemplateRequest {
                template: Some(template.clone()),
                update_mask: Some(prost_types::FieldMask {
                    paths: paths.iter().map(ToString::to_string).collect(),
                }),
            })
        };
        let (_, _, set) = asked(&[]).unwrap();
        assert_eq!((set.estimated_minutes, set.active, set.tags), (Some(7), None, None));
        let (_, _, named) = asked(&["active", "tags"]).unwrap();
        assert_eq!(
            (named.estimated_minutes, named.active, named.tags),
            (None, Some(false), Some(vec![]))
        );
        assert!(asked(&["newest_version"]).is_err());
    }
}
