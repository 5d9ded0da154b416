//! Models as the contract writes them.

use std::collections::BTreeSet;

use prost_types::FieldMask;
use service_kit::{
    error::{Result, Violations},
    ids::{CompanyId, ModelId},
    update,
};
use studios_proto::execution as proto;

use super::{Changes, Filter, Model, Settings, parameters};
use crate::{providers::Providers, requests};

/// The fields that an update may change.
const CHANGEABLE: &[&str] = &[
    "name",
    "provider_model",
    "context_length",
    "default_config",
    "input_price_micros",
    "output_price_micros",
    "enabled",
    "embeds_documents",
];

/// A new model, as its company says it is.
pub(super) struct New {
    pub company: CompanyId,
    pub settings: Settings,
    pub key: Option<requests::Key>,
}

pub(super) fn new(method: &'static str, providers: &Providers, request: &proto::CreateModelRequest) -> Result<New> {
    let mut violations = Violations::new();
    let given = request.model.clone().unwrap_or_default();
    let company = violations.id("model.company_id", &given.company_id);
    let connection = violations.optional_id("model.connection_id", &given.connection_id);
    let is_connected = !given.connection_id.is_empty();
    // Behind a connection the connection says it.
    let provider = violations.text("model.provider", &given.provider, usize::from(!is_connected)..=100);
    if !is_connected && provider.as_deref().is_some_and(|it| providers.get(it).is_none()) {
        let known: Vec<_> = providers.names().collect();
        let known = known.join(", ");
        violations.add(
            "model.provider",
            format!("must be a provider of this installation: {known}"),
        );
    }
    let every = CHANGEABLE.iter().copied().collect();
    let said = read(&mut violations, &given, &every, 0);
    let key = requests::Key::read(&mut violations, method, &request.request_id, request);
    // What has no value is a violation.
    let mut settings = Settings {
        name: said.name.unwrap_or_default(),
        provider: provider.unwrap_or_default(),
        connection,
        provider_model: said.provider_model.unwrap_or_default(),
        context_length: said.context_length.unwrap_or_default(),
        default_config: said.default_config.unwrap_or_default(),
        input_price_micros: said.input_price_micros.unwrap_or_default(),
        output_price_micros: said.output_price_micros.unwrap_or_default(),
        enabled: said.enabled.unwrap_or_default(),
        embeds_documents: said.embeds_documents.unwrap_or_default(),
    };
    if !is_connected {
        settings.fill(providers.known(&settings.provider, &settings.provider_model));
        if settings.context_length == 0 {
            violations.add(
                "model.context_length",
                "must be given: the catalogue does not know this model",
            );
        }
    }
    violations.finish()?;
    Ok(New {
        company: company.expect("a missing one is a violation"),
        settings,
        key,
    })
}

pub(super) fn changes(request: &proto::UpdateModelRequest) -> Result<(ModelId, String, Changes)> {
    let mut violations = Violations::new();
    let given = request.model.clone().unwrap_or_default();
    let id = violations.id("model.id", &given.id);
    let paths = violations.include(paths(request.update_mask.as_ref(), &given))?;
    let changes = read(&mut violations, &given, &paths.unwrap_or_default(), 1);
    violations.finish()?;
    Ok((id.expect("a missing one is a violation"), given.etag, changes))
}

pub(super) fn filter(request: &proto::ListModelsRequest) -> Result<Filter> {
    let mut violations = Violations::new();
    let company = violations.id("company_id", &request.company_id);
    let provider = violations.text("provider", &request.provider, 0..=100);
    violations.finish()?;
    Ok(Filter {
        company: company.expect("a missing one is a violation"),
        provider: provider.filter(|it| !it.is_empty()),
    })
}

fn paths(mask: Option<&FieldMask>, given: &proto::Model) -> Result<BTreeSet<&'static str>> {
    let set = [
        ("name", !given.name.is_empty()),
        ("provider_model", !given.provider_model.is_empty()),
        ("context_length", given.context_length != 0),
        ("default_config", given.default_config.is_some()),
        ("input_price_micros", given.input_price_micros != 0),
        ("output_price_micros", given.output_price_micros != 0),
        ("enabled", given.enabled),
        ("embeds_documents", given.embeds_documents),
    ];
    let set: Vec<_> = set
        .into_iter()
        .filter_map(|(path, is_set)| is_set.then_some(path))
        .collect();
    update::paths(mask, CHANGEABLE, &set)
}

/// The named fields; a new model may leave its context open, which is a length of 0.
fn read(violations: &mut Violations, given: &proto::Model, paths: &BTreeSet<&str>, least_context: i32) -> Changes {
    let mut changes = Changes::default();
    if paths.contains("name") {
        changes.name = violations.text("model.name", &given.name, 1..=100);
    }
    if paths.contains("provider_model") {
        changes.provider_model = violations.text("model.provider_model", &given.provider_model, 1..=200);
    }
    if paths.contains("context_length") {
        if given.context_length < least_context {
            violations.add("model.context_length", "must be positive");
        }
        changes.context_length = Some(given.context_length);
    }
    if paths.contains("default_config") {
        changes.default_config = violations.object("model.default_config", given.default_config.as_ref());
        if let Some(config) = &changes.default_config {
            parameters::check(violations, "model.default_config", config);
        }
    }
    if paths.contains("input_price_micros") {
        changes.input_price_micros = Some(price(violations, "model.input_price_micros", given.input_price_micros));
    }
    if paths.contains("output_price_micros") {
        changes.output_price_micros = Some(price(
            violations,
            "model.output_price_micros",
            given.output_price_micros,
        ));
    }
    if paths.contains("enabled") {
        changes.enabled = Some(given.enabled);
    }
    if paths.contains("embeds_documents") {
        changes.embeds_documents = Some(given.embeds_documents);
    }
    changes
}

fn price(violations: &mut Violations, field: &str, micros: i64) -> i64 {
    if micros < 0 {
        violations.add(field, "must not be negative");
    }
    micros
}

impl From<Model> for proto::Model {
    fn from(model: Model) -> Self {
        let settings = model.settings;
        Self {
            id: model.id.to_string(),
            company_id: model.company.map(|it| it.to_string()).unwrap_or_default(),
            name: settings.name,
            provider: settings.provider,
            connection_id: settings.connection.map(|it| it.to_string()).unwrap_or_default(),
            provider_model: settings.provider_model,
            context_length: settings.context_length,
            default_config: Some(update::json_to_struct(&settings.default_config)),
            input_price_micros: settings.input_price_micros,
            output_price_micros: settings.output_price_micros,
            enabled: settings.enabled,
            embeds_documents: settings.embeds_documents,
            create_time: Some(update::timestamp(model.created_at)),
            update_time: Some(update::timestamp(model.updated_at)),
            etag: update::etag(model.revision),
        }
    }
}

#[cfg(test)]
mod tests {
    use service_kit::{
        config::Reader,
        error::Error,
        outbound::{Outbound, OutboundConfig},
    };

    use super::*;
    use crate::providers::ProvidersConfig;

    fn fields<T>(result: Result<T>) -> Vec<String> {
        match result {
            Err(Error::Invalid(violations)) => violations.into_iter().map(|it| it.field).collect(),
            _ => panic!("not refused for its input"),
        }
    }

    #[test]
    fn every_wrong_field_of_a_new_model_is_named() {
        let outbound = Outbound::new(&OutboundConfig::default()).unwrap();
        let providers = Providers::new(&ProvidersConfig::default(), outbound);
        let model = proto::Model {
            input_price_micros: -1,
            output_price_micros: -1,
            ..Default::default()
        };
        let request = proto::CreateModelRequest {
            model: Some(model),
            request_id: "x".into(),
        };
        assert_eq!(
            fields(new("m", &providers, &request)),
            [
                "model.company_id",
                "model.provider",
                "model.name",
                "model.provider_model",
                "model.input_price_micros",
                "model.output_price_micros",
                "request_id",
                "model.context_length",
            ]
        );
    }

    #[test]
    fn what_a_new_model_leaves_open_is_what_the_catalogue_knows_of_it() {
        let outbound = Outbound::new(&OutboundConfig::default()).unwrap();
        let flags = [(
            "providers_openai_base_url".to_owned(),
            "https://api.openai.com/v1".to_owned(),
        )];
        let config = ProvidersConfig::read(&mut Reader::load(&["STUDIOS_NO_SUCH_PREFIX_"], None, &flags));
        let providers = Providers::new(&config, outbound);
        let create = |context_length, input_price_micros| {
            let model = proto::Model {
                company_id: CompanyId::generate().to_string(),
                name: "small".into(),
                provider: "openai".into(),
                provider_model: "gpt-4o-mini".into(),
                context_length,
                input_price_micros,
                ..Default::default()
            };
            let request = proto::CreateModelRequest {
                model: Some(model),
                request_id: String::new(),
            };
            let settings = new("m", &providers, &request).unwrap().settings;
            (
                settings.context_length,
                settings.input_price_micros,
                settings.output_price_micros,
            )
        };
        assert_eq!(create(0, 0), (128_000, 150_000, 600_000));
        assert_eq!(create(8_192, 7), (8_192, 7, 0), "what is said stands");
    }

    #[test]
    fn an_update_reads_only_what_its_mask_names() {
        let model = proto::Model {
            id: ModelId::generate().to_string(),
            name: "n".into(),
            ..Default::default()
        };
        let mut request = proto::UpdateModelRequest {
            model: Some(model),
            update_mask: None,
        };
        let (_, _, changes) = changes(&request).unwrap();
        assert_eq!((changes.name.as_deref(), changes.enabled), (Some("n"), None));
        request.update_mask = Some(FieldMask {
            paths: vec!["enabled".into()],
        });
        let (_, _, changes) = super::changes(&request).unwrap();
        assert_eq!((changes.name, changes.enabled), (None, Some(false)));
        request.update_mask = Some(FieldMask {
            paths: vec!["provider".into()],
        });
        assert_eq!(fields(super::changes(&request)), ["update_mask"]);
    }
}
