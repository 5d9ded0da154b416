//! JSON to a message of the contract and back, in protobuf's canonical mapping.

use bytes::Bytes;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use serde::de::DeserializeSeed;
use serde_json::{Deserializer, error::Category};
use service_kit::error::Error;
use tonic::Status;

/// How a path says that it is not about one field.
const WHOLE: &str = ".";

/// Reads a message; no text at all is the message without any field.
pub(super) fn read(descriptor: MessageDescriptor, text: &[u8]) -> Result<DynamicMessage, Status> {
    if text.trim_ascii().is_empty() {
        return Ok(DynamicMessage::new(descriptor));
    }
    let mut source = Deserializer::from_slice(text);
    let mut track = serde_path_to_error::Track::new();
    let seed = serde_path_to_error::Deserializer::new(&mut source, &mut track);
    let message = descriptor
        .deserialize(seed)
        .map_err(|error| refused(&track.path().to_string(), &error))?;
    source.end().map_err(|error| refused(WHOLE, &error))?;
    Ok(message)
}

/// Writes a message; fields that hold their default are left out.
pub(super) fn write(message: &DynamicMessage) -> Result<Vec<u8>, Status> {
    serde_json::to_vec(message).map_err(|error| Error::internal(error).into())
}

/// Says what is wrong in the message too, which is all that some clients show.
fn refused(path: &str, error: &serde_json::Error) -> Status {
    let told = error.to_string();
    let (field, description) = match (error.classify(), unknown_field(&told)) {
        (Category::Syntax | Category::Eof, _) => ("body".to_owned(), format!("malformed JSON: {told}")),
        (_, Some(name)) if path == WHOLE => (name.to_owned(), told),
        (_, Some(name)) => (format!("{path}.{name}"), told),
        (_, None) if path == WHOLE => ("body".to_owned(), told),
        (_, None) => (path.to_owned(), told),
    };
    let message = format!("{field}: {description}");
    let status = Status::from(Error::invalid(field, description));
    Status::with_details(status.code(), message, Bytes::copy_from_slice(status.details()))
}

/// The field that the contract does not have. The path leads only to the object around it, so its name is taken from
/// prost-reflect's words.
fn unknown_field(told: &str) -> Option<&str> {
    let (name, _) = told.strip_prefix("unrecognized field name '")?.split_once('\'')?;
    Some(name)
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use serde_json::{Value, json};
    use tonic::Code;
    use tonic_types::StatusExt;

    use super::*;

    fn descriptor(name: &str) -> MessageDescriptor {
        studios_proto::descriptors().get_message_by_name(name).unwrap()
    }

    fn create_studio(text: &str) -> Result<DynamicMessage, Status> {
        read(descriptor("studios.core.v1.CreateStudioRequest"), text.as_bytes())
    }

    fn violation(text: &str) -> (String, String) {
        let status = create_studio(text).unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        let violation = status.get_details_bad_request().unwrap().field_violations.remove(0);
        assert_eq!(
            status.message(),
            format!("{}: {}", violation.field, violation.description)
        );
        (violation.field, violation.description)
    }

    #[test]
    fn a_message_reads_back_what_it_writes() {
        let text = json!({"studio": {"name": "North", "businessArea": "BUSINESS_AREA_HR"}, "requestId": "r"});
        let message = create_studio(&text.to_string()).unwrap();
        assert_eq!(
            serde_json::from_slice::<Value>(&write(&message).unwrap()).unwrap(),
            text
        );
    }

    #[test]
    fn fields_may_be_named_as_in_the_contract() {
        let encoded = |text| create_studio(text).unwrap().encode_to_vec();
        let by_name = encoded(r#"{"studio": {"business_area": 6}}"#);
        assert_eq!(by_name, encoded(r#"{"studio": {"businessArea": "BUSINESS_AREA_HR"}}"#));
    }

    #[test]
    fn no_text_is_the_empty_message() {
        for text in ["", " \n", "{}"] {
            assert!(create_studio(text).unwrap().encode_to_vec().is_empty());
        }
    }

    #[test]
    fn an_unknown_field_is_refused_by_its_path_and_place() {
        let (field, description) = violation("{\"studio\": {\n\"nmae\": \"x\"}}");
        assert_eq!(field, "studio.nmae");
        assert!(
            description.contains("'nmae'") && description.contains("line 2"),
            "{description}"
        );
        assert_eq!(violation(r#"{"stdio": {}}"#).0, "stdio");
    }

    #[test]
    fn a_value_of_the_wrong_type_is_refused_by_its_path() {
        let (field, description) = violation(r#"{"studio": {"name": 5}}"#);
        assert_eq!(field, "studio.name");
        assert!(description.contains("line 1 column"), "{description}");
    }

    #[test]
    fn malformed_json_is_refused_by_line_and_column() {
        for text in [
            "{\n\"studio\": ",
            "{\n}}",
            "{\n\"studio\" 1}",
            "{\n\"studio\": \"\\ud800\"}",
        ] {
            let (field, description) = violation(text);
            assert_eq!(field, "body", "{text}");
            assert!(
                description.contains("malformed JSON") && description.contains("line 2"),
                "{description}"
            );
        }
    }

    #[test]
    fn what_is_not_an_object_is_refused() {
        for text in ["[]", "5", "null", "\"x\""] {
            assert_eq!(violation(text).0, "body", "{text}");
        }
    }
}
