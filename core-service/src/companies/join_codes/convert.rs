//! Join codes as the contract writes them.

use service_kit::{
    error::{Error, Result},
    update,
};
use studios_proto::core as proto;

use super::{Code, JoinCode};

/// The code that a caller gives.
pub(in crate::companies) fn code(request: &proto::JoinCompanyRequest) -> Result<Code> {
    request
        .join_code
        .parse()
        .map_err(|malformed: super::code::MalformedCode| Error::invalid("join_code", malformed.to_string()))
}

impl From<JoinCode> for proto::JoinCode {
    fn from(it: JoinCode) -> Self {
        Self {
            company_id: it.company.to_string(),
            code: it.code.to_string(),
            create_time: Some(update::timestamp(it.created_at)),
        }
    }
}
